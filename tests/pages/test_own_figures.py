"""What the pages say of test pictures of our own."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from stages import predictions
from stages.evaluate import measure_own
from tests.clones import Clone
from tools.pages.page import markdown, page
from tools.pages.subject import OWN_HEADLINES, Subject, compare_runs, headlines
from tools.registry.card import own_results
from tools.runs.paired import MINUS
from tools.runs.revision import resolve
from tools.runs.run import Run, load

LABELS = np.arange(40).astype(np.uint8) % 10
NAMES = np.array([f"{number:032x}" for number in range(40)])


def with_own(run: Run, wrong: int, count: int = 40) -> Run:
    """Give a run so many test pictures of our own, the first of which it reads wrongly."""
    digits = (LABELS + (np.arange(40) < wrong)) % 10
    probabilities = (np.eye(10, dtype=np.float32)[digits])[:count]
    return replace(
        run,
        report=run.report.model_copy(update={"own_test": measure_own(LABELS[:count], probabilities)}),
        own=predictions.make_own(NAMES[:count], LABELS[:count], probabilities),
    )


@pytest.fixture(scope="module")
def run(first_run: Clone) -> Run:
    return load(resolve("first", first_run.folder))


def test_a_run_without_own_pictures_says_nothing_of_them(run: Run) -> None:
    for subject in (Subject(run), compare_runs(run, run)):
        assert subject.own_sentence == ""
        assert "own test" not in markdown(subject, None)
        assert "own test" not in page(subject, None, "")
        assert not {row.name for row in headlines(subject)} & {each.name for each in OWN_HEADLINES}
    assert own_results(run) == []


def test_a_run_with_own_pictures_says_how_many_are_right(run: Run) -> None:
    subject = Subject(with_own(run, wrong=10))
    sentence = "“first”: 75.00% of 40 own test pictures are classified correctly (95% interval 58.80% to 87.31%)"
    assert subject.own_sentence == sentence
    assert f'<p class="lead" id="own">{sentence}.</p>' in page(subject, None, "")
    assert "75.00&#37; of 40 own test pictures" in markdown(subject, None).replace("%", "&#37;")
    assert [tuple(row) for row in headlines(subject)[-3:]] == [
        ("own test accuracy", "", "75.00%", "", ""),
        ("own test errors", "", "10", "", ""),
        ("own test pictures", "", "40", "", ""),
    ]
    assert own_results(subject.after) == [
        "On 40 own test pictures: accuracy 75.00% (95% interval 58.80% to 87.31%), 10 errors."
    ]


def test_two_runs_are_compared_on_the_own_pictures_of_both(run: Run) -> None:
    compared = partial(compare_runs, with_own(run, wrong=10))
    subject = compared(with_own(run, wrong=1))
    assert subject.verdict == "◆ The same digits", "of the test images"
    assert "is better than “first” on 40 own test pictures: 9 fixed, 0 broken" in subject.own_sentence
    assert [(row.difference, row.judgement) for row in headlines(subject)[-3:]] == [
        ("+22.50 points", "better"), (f"{MINUS}9", "better"), ("0", ""),
    ]  # fmt: skip
    # Of another number of pictures, those of both decide, and the shares of each are not compared.
    grown = compare_runs(with_own(run, wrong=10, count=30), with_own(run, wrong=1))
    assert grown.own
    assert grown.own.images == 30
    assert {row.difference for row in headlines(grown)[-3:]} == {""}


def test_runs_without_own_pictures_in_common_are_told_apart(run: Run) -> None:
    subject = compare_runs(run, with_own(run, wrong=10))
    assert subject.own_sentence.endswith("; the runs have none in common, so they are not compared on them")
    assert "not recorded" in [row.before for row in headlines(subject)[-3:]]
