import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import InputError
from tools.runs.paired import Change, compare_predictions, sentence, share

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
    # Clopper and Pearson's interval of 8 in 9 is 0.5175 to 0.9972.
    assert paired.interval == pytest.approx(((2 * 0.5175 - 1) * 0.009, (2 * 0.9972 - 1) * 0.009), abs=1e-6)
    assert paired.verdict == "better"
    assert paired.per_class[0] == Change(0, images=100, right_before=99, fixed=1, broken=1)
    assert paired.per_class[8] == Change(8, images=100, right_before=99, fixed=0, broken=0)
    assert sentence(paired, "v1", "v2") == (
        "v2 is better than v1 on 1,000 test images: 8 fixed, 1 broken, accuracy +0.70 points "
        "(95% interval +0.03 to +0.89), exact McNemar p = 0.039"
    )


def test_seven_of_eight_are_not_enough() -> None:
    paired = compare_predictions(ACTUAL, predicted(*range(7)), predicted(7))
    assert paired.p_value == pytest.approx(18 / 256)
    assert paired.verdict == "inconclusive"


def test_the_same_predictions_prove_no_equality() -> None:
    paired = compare_predictions(ACTUAL, predicted(1), predicted(1))
    assert (paired.difference, paired.p_value, paired.verdict) == (0, 1, "inconclusive")
    low, high = paired.interval
    assert low == -high
    # None of 1,000: Clopper and Pearson's upper limit.
    assert high == pytest.approx(0.003682, abs=1e-6)


@given(st.sets(st.integers(0, 999), max_size=40), st.sets(st.integers(0, 999), max_size=40))
def test_verdict_interval_and_counts_agree(before: set[int], after: set[int]) -> None:
    paired, reverse = (
        compare_predictions(ACTUAL, predicted(*first), predicted(*second))
        for first, second in ((before, after), (after, before))
    )
    assert paired.difference == pytest.approx((len(before) - len(after)) / 1_000)
    low, high = paired.interval
    assert low <= paired.difference <= high
    assert {"better": low > 0, "worse": high < 0, "inconclusive": low <= 0 <= high}[paired.verdict]
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
