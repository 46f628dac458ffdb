import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import predictions
from stages.errors import InputError
from tools.runs import evidence
from tools.runs.paired import (
    SIGNIFICANCE,
    Change,
    Z,
    compare_own,
    compare_predictions,
    score_interval,
    sentence,
    share,
)

ACTUAL = np.arange(1_000) % 10


def predicted(*wrong: int) -> np.ndarray:
    """All digits right but for these images."""
    labels = ACTUAL.copy()
    labels[list(wrong)] = (labels[list(wrong)] + 1) % 10
    return labels


def test_the_figures_are_those_of_the_textbook() -> None:
    # 8 fixed and 1 broken: 2 * (1 + 9) / 2**9 = 0.0390625.
    paired = compare_predictions(ACTUAL, predicted(*range(10)), predicted(8, 9, 500))
    assert (paired.images, paired.fixed, paired.broken) == (1_000, 8, 1)
    assert paired.p_value == pytest.approx(0.0390625)
    assert paired.difference == pytest.approx(0.007)
    assert paired.interval == score_interval(1_000, fixed=8, broken=1)
    assert paired.verdict == "better"
    assert paired.per_class[0] == Change(0, images=100, right_before=99, fixed=1, broken=1)
    assert paired.per_class[8] == Change(8, images=100, right_before=99, fixed=0, broken=0)
    assert sentence(paired, "v1", "v2") == (
        "v2 is better than v1 on 1,000 test images: 8 fixed, 1 broken, accuracy +0.70 points "
        "(95% interval +0.15 to +1.48), exact McNemar p = 0.039"
    )


def test_the_test_decides_where_the_interval_says_otherwise() -> None:
    paired = compare_predictions(ACTUAL, predicted(*range(7)), predicted(7))
    assert paired.p_value == pytest.approx(18 / 256)
    assert paired.interval[0] > 0
    assert sentence(paired, "v1", "v2") == (
        "v2 is not proven different from v1 on 1,000 test images: 7 fixed, 1 broken, accuracy +0.60 points "
        "(95% interval +0.06 to +1.35), exact McNemar p = 0.07; the test decides, the interval is approximate"
    )


def test_the_same_predictions_prove_no_equality() -> None:
    paired = compare_predictions(ACTUAL, predicted(1), predicted(1))
    assert (paired.difference, paired.p_value, paired.verdict) == (0, 1, "inconclusive")
    assert sentence(paired, "v1", "v2") == (
        "v2 is not proven different from v1 on 1,000 test images: 0 fixed, 0 broken, accuracy 0.00 points "
        "(95% interval \N{MINUS SIGN}0.38 to +0.38), exact McNemar p = 1"
    )


@pytest.mark.parametrize(
    ("images", "fixed", "broken", "low", "high"),
    [
        # Fagerland, Lydersen and Laake: Statistical Analysis of Contingency Tables (2017), chapter 8.
        (21, 1, 7, -0.5172, -0.0260),
        (161, 6, 16, -0.1240, -0.0054),
        # As many images as MNIST and the digits have.
        (10_000, 163, 24, 0.0114, 0.0167),
        (359, 20, 0, 0.0363, 0.0845),
    ],
)
def test_the_interval_is_tangos(images: int, fixed: int, broken: int, low: float, high: float) -> None:
    assert score_interval(images, fixed, broken) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("images", [1, 2, 359, 10_000, 10**9])
def test_the_interval_is_right_at_its_edges(images: int) -> None:
    # Here the equation has a closed form.
    no_difference = Z**2 / (images + Z**2)
    all_fixed = (images - Z**2) / (images + Z**2)
    assert score_interval(images, 0, 0) == pytest.approx((-no_difference, no_difference))
    assert score_interval(images, images, 0) == pytest.approx((all_fixed, 1))
    assert score_interval(images, 0, images) == pytest.approx((-1, -all_fixed))


def test_the_interval_of_few_images_always_holds_the_difference() -> None:
    for images in range(1, 16):
        for fixed in range(images + 1):
            for broken in range(images + 1 - fixed):
                low, high = score_interval(images, fixed, broken)
                assert -1 <= low <= (fixed - broken) / images <= high <= 1
                assert high - low > 0.1


@pytest.mark.parametrize(
    ("images", "fixed", "broken"),
    [
        (10_000, 0.0163, 0.0024),
        (10_000, 0.0040, 0.0004),
        (10_000, 0.0020, 0.0020),
        (10_000, 0.0020, 0.00005),
        (359, 0.0557, 0.0014),
        (359, 0.0200, 0.0020),
    ],
)
def test_the_interval_covers_the_true_difference_in_95_of_100_samples(images: int, fixed: float, broken: float) -> None:
    samples = np.random.default_rng(0).multinomial(images, [fixed, broken, 1 - fixed - broken], size=20_000)
    covered = 0
    for counts, times in zip(*np.unique(samples[:, :2], axis=0, return_counts=True), strict=True):
        low, high = score_interval(images, *map(int, counts))
        covered += int(times) * (low <= fixed - broken <= high)
    assert covered / len(samples) == pytest.approx(1 - SIGNIFICANCE, abs=0.015)


@given(st.sets(st.integers(0, 999), max_size=40), st.sets(st.integers(0, 999), max_size=40))
def test_the_figures_agree(before: set[int], after: set[int]) -> None:
    paired, reverse = (
        compare_predictions(ACTUAL, predicted(*first), predicted(*second))
        for first, second in ((before, after), (after, before))
    )
    assert paired.difference == pytest.approx((len(before) - len(after)) / 1_000)
    low, high = paired.interval
    assert low <= paired.difference <= high
    # The test is the stricter one.
    assert {"better": low > 0, "worse": high < 0, "inconclusive": True}[paired.verdict]
    assert reverse.interval == pytest.approx((-high, -low))
    assert reverse.p_value == pytest.approx(paired.p_value)
    assert sum(change.fixed for change in paired.per_class) == paired.fixed == len(before - after)
    assert sum(change.broken for change in paired.per_class) == paired.broken == len(after - before)
    assert sum(change.right_after for change in paired.per_class) == 1_000 - len(after)


@pytest.mark.parametrize("lengths", [(3, 2, 3), (3, 3, 2), (2, 3, 3), (0, 0, 0)])
def test_other_numbers_of_images_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"found {lengths[0]} images, {lengths[1]} predictions before"):
        compare_predictions(*(np.zeros(length, int) for length in lengths))


def test_intervals_of_a_share_are_clopper_and_pearsons() -> None:
    assert share(8, 9) == ("88.89%", "51.75% to 99.72%")
    assert share(10, 10) == ("100.00%", "69.15% to 100.00%")
    assert share(0, 0) == ("", "")


# Test pictures of our own


def own(pictures: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """Predictions of pictures: the actual and the predicted digit, by name."""
    rows = [(name, actual, predicted, 0.9) for name, (actual, predicted) in pictures.items()]
    return pd.DataFrame(rows, columns=[*predictions.OWN_COLUMNS])


def test_own_pictures_are_compared_where_both_runs_have_them_with_the_same_digit() -> None:
    before = own({"a": (1, 1), "b": (2, 3), "c": (3, 3), "relabelled": (4, 4), "dropped": (5, 6)})
    after = own({"new": (9, 9), "c": (3, 8), "b": (2, 2), "a": (1, 1), "relabelled": (7, 7)})
    paired = compare_own(before, after)
    assert paired is not None
    assert (paired.images, paired.fixed, paired.broken) == (3, 1, 1)
    assert "on 3 own test pictures: 1 fixed, 1 broken" in sentence(paired, "a", "b", "own test pictures")


def test_without_own_pictures_in_common_there_is_nothing_to_compare() -> None:
    some, others = own({"a": (1, 1)}), own({"b": (1, 1)})
    for before, after in ((some, others), (some, evidence.NO_OWN), (evidence.NO_OWN, some)):
        assert compare_own(before, after) is None
    assert compare_own(evidence.NO_OWN, evidence.NO_OWN) is None
