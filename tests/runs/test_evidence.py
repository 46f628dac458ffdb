from dataclasses import replace

import numpy as np
import pytest

from stages import confusion, predictions
from stages.errors import InputError
from stages.evaluate import measure_own, measure_test
from stages.report import Digit, Report
from tests.clones import Clone
from tools.runs import evidence, run
from tools.runs.evidence import Evidence, refuse
from tools.runs.revision import resolve

RNG = np.random.default_rng(0)
ACTUAL = RNG.integers(0, 9, 200).astype(np.uint8)  # of 9 there is none
PROBABILITIES = RNG.dirichlet(np.full(10, 0.2), 200).astype(np.float32)


@pytest.fixture
def found() -> Evidence:
    """The reports of one model, which is wrong on most images."""
    return Evidence(
        Report(test=measure_test(ACTUAL, PROBABILITIES)),
        predictions.make(ACTUAL, PROBABILITIES),
        confusion.count(ACTUAL, PROBABILITIES.argmax(axis=1)),
        evidence.NO_OWN,
    )


def changed(found: Evidence, **figures: object) -> Evidence:
    return replace(found, report=Report(test=found.report.test.model_copy(update=figures)))


def test_reports_of_one_model_agree(found: Evidence, first_run: Clone) -> None:
    refuse(found)
    assert evidence.load(resolve("first", first_run.folder)).counts is not None


@pytest.mark.parametrize("figure", ["errors", "accuracy", "precision", "recall", "f1"])
def test_each_figure_follows_from_the_predictions(figure: str, found: Evidence) -> None:
    value = getattr(found.report.test, figure)
    other = value - 1 if figure == "errors" else round(value + 0.005, 6)
    with pytest.raises(InputError) as refused:
        refuse(changed(found, **{figure: other}), " at HEAD")
    assert str(refused.value) == (
        f"reports/metrics.json at HEAD: test.{figure} is {other}, but reports/predictions.csv gives {value}; "
        "one of them is not of this model: `dvc repro --force evaluate` makes both again"
    )


@pytest.mark.parametrize("figure", ["images", "precision", "recall", "f1"])
def test_each_figure_of_a_digit_follows_from_the_predictions(figure: str, found: Evidence) -> None:
    assert found.report.test.per_class
    digits = [*found.report.test.per_class]
    value = getattr(digits[3], figure)
    digits[3] = digits[3].model_copy(update={figure: value + 1})
    with pytest.raises(
        InputError, match=rf"test\.per_class: {figure} of 3 is {value + 1}, but .*predictions\.csv gives {value};"
    ):
        refuse(changed(found, per_class=digits))
    with pytest.raises(InputError, match=r"images of 10 is 5, but .* gives 0"):
        refuse(changed(found, per_class=[Digit(digit=10, images=5)]))


def test_the_matrix_follows_from_the_predictions(found: Evidence) -> None:
    assert found.counts is not None
    counts = found.counts.copy()
    counts[2, 7] += 1
    with pytest.raises(
        InputError,
        match=rf"matrix\.csv: the number of images of 2 taken for 7 is {counts[2, 7]}, but .* {counts[2, 7] - 1};",
    ):
        refuse(replace(found, counts=counts))


@pytest.mark.parametrize("rows", [0, 199])
def test_predictions_with_a_row_less_or_another_are_of_another_model(rows: int, found: Evidence) -> None:
    table = found.predictions.drop(index=rows)
    with pytest.raises(InputError, match=r"predictions\.csv gives"):
        refuse(replace(found, predictions=table))
    with pytest.raises(InputError, match=r"predictions\.csv gives"):
        refuse(replace(found, predictions=table, counts=None))


def test_what_an_older_commit_does_not_record_is_not_compared(found: Evidence) -> None:
    older = changed(found, per_class=None, precision=None, recall=None, f1=None)
    refuse(replace(older, counts=None))
    with pytest.raises(InputError, match=r"test\.errors is 0"):
        refuse(replace(changed(older, errors=0), counts=None))


NAMES = np.array([f"{number:032x}" for number in range(200)])


@pytest.fixture
def with_own(found: Evidence) -> Evidence:
    """The same reports with test pictures of our own."""
    return replace(
        found,
        report=found.report.model_copy(update={"own_test": measure_own(ACTUAL, PROBABILITIES)}),
        own=predictions.make_own(NAMES, ACTUAL, PROBABILITIES),
    )


def test_each_figure_of_own_pictures_follows_from_their_predictions(with_own: Evidence) -> None:
    refuse(with_own)
    own = with_own.report.own_test
    assert own is not None
    for name, value in (("images", 199), ("errors", own.errors - 1), ("accuracy", 0.5)):
        other = with_own.report.model_copy(update={"own_test": own.model_copy(update={name: value})})
        with pytest.raises(InputError, match=rf"own_test\.{name} is {value}, but reports/own_predictions\.csv gives "):
            refuse(replace(with_own, report=other))
    with pytest.raises(InputError, match=r"own_test\.images is 0, but reports/own_predictions\.csv gives 200"):
        refuse(replace(with_own, report=with_own.report.model_copy(update={"own_test": None})))
    with pytest.raises(InputError, match=r"own_test\.images is 200, but reports/own_predictions\.csv gives 0"):
        refuse(replace(with_own, own=evidence.NO_OWN))


def test_a_run_without_own_pictures_has_none(first_run: Clone) -> None:
    assert evidence.load(resolve("first", first_run.folder)).own.empty


def test_the_run_of_a_revision_is_not_read_where_its_reports_disagree(clone: Clone) -> None:
    run.load(resolve("HEAD", clone.folder))
    table = (clone.folder / predictions.PATH).read_text().splitlines(keepends=True)
    (clone.folder / predictions.PATH).write_text("".join(table[:-1]))
    clone.run("dvc", "commit", "--force", "--quiet", "evaluate")
    clone.commit("A row less")
    with pytest.raises(InputError, match=r"confusion_matrix\.csv at HEAD: the number of images of \d taken for \d is"):
        run.load(resolve("HEAD", clone.folder))
