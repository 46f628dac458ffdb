"""What a commit records of its result, in files that must say the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages import confusion, predictions, report
from stages.confusion import Counts
from stages.dataset import CLASSES
from stages.errors import InputError
from stages.files import read_text
from stages.report import Report
from tools.runs.lock import Lock
from tools.runs.revision import Revision, read, read_lock

ROUNDING = 1e-6  # of the figures in metrics.json

NO_OWN = pd.DataFrame(columns=[*predictions.OWN_COLUMNS])


@dataclass(frozen=True)
class Evidence:
    """What a commit records of its result."""

    report: Report
    predictions: pd.DataFrame
    counts: Counts | None  # of the confusion matrix, where the commit has one
    own: pd.DataFrame  # predictions of test pictures of our own


def load(of: Revision) -> Evidence:
    """Read a revision's evidence.

    Raises `InputError` if a file is missing, is not what the stages write, or disagrees with another.
    """
    has_counts = confusion.PATH.as_posix() in read_lock(of).hashes
    found = Evidence(
        read(of, report.PATH, report.parse),
        read(of, predictions.PATH, predictions.parse),
        read(of, confusion.PATH, confusion.parse) if has_counts else None,
        own_predictions(of),
    )
    refuse(found, f" {of.place}")
    return found


def own_predictions(of: Revision) -> pd.DataFrame:
    """Read a revision's predictions of own test pictures; none if the commit is older than this file."""
    if predictions.OWN_PATH.as_posix() not in read_lock(of).hashes:
        return NO_OWN
    return read(of, predictions.OWN_PATH, predictions.parse_own)


def check_workspace(recorded: Lock) -> None:
    """Raise `InputError` if the reports in this folder, which dvc.lock names, disagree."""
    has_counts, has_own = (path.as_posix() in recorded.hashes for path in (confusion.PATH, predictions.OWN_PATH))
    refuse(
        Evidence(
            report.load(),
            predictions.parse(read_text(predictions.PATH), str(predictions.PATH)),
            confusion.parse(read_text(confusion.PATH), str(confusion.PATH)) if has_counts else None,
            predictions.parse_own(read_text(predictions.OWN_PATH), str(predictions.OWN_PATH)) if has_own else NO_OWN,
        )
    )


def refuse(found: Evidence, at: str = "") -> None:
    """Raise `InputError` with the first disagreement."""
    for path, (file, what, recorded, counted) in [
        *((predictions.PATH, each) for each in disagreements(found)),
        *((predictions.OWN_PATH, each) for each in own_disagreements(found)),
    ]:
        raise InputError(
            f"{file}{at}: {what} is {recorded}, but {path} gives {counted}; one of them is not of this "
            "model: `dvc repro --force evaluate` makes both again"
        )


Disagreement = tuple[Path, str, float, float]  # file, name, recorded value, and that of the predictions


def own_disagreements(found: Evidence) -> Iterator[Disagreement]:
    """List the figures of own test pictures that do not follow from their predictions."""
    recorded, images = found.report.own_test, len(found.own)
    errors = int((found.own["actual"] != found.own["predicted"]).sum())
    yield from _disagreement("own_test.images", recorded.images if recorded else 0, images)
    if recorded and images:
        yield from _disagreement("own_test.errors", recorded.errors, errors)
        yield from _disagreement("own_test.accuracy", recorded.accuracy, 1 - errors / images)


def disagreements(found: Evidence) -> Iterator[Disagreement]:
    """List the figures that do not follow from the predictions: file, name, recorded value and counted value."""
    actual, predicted = found.predictions["actual"], found.predictions["predicted"]
    counted = confusion.count(actual, predicted)
    if found.counts is not None:
        for row, column in np.argwhere(found.counts != counted):
            what = f"the number of images of {row} taken for {column}"
            yield confusion.PATH, what, found.counts[row, column], counted[row, column]
    precision, recall, f1, images = confusion.scores(actual, predicted)
    right, total = counted.trace(), counted.sum()
    figures = {"errors": total - right, "accuracy": right / total}
    figures |= {"precision": precision.mean(), "recall": recall.mean(), "f1": f1.mean()}
    of_digits = {"images": images, "precision": precision, "recall": recall, "f1": f1}
    test = found.report.test
    for name, value in figures.items():
        yield from _disagreement(f"test.{name}", getattr(test, name), value)
    for digit in test.per_class or ():
        for name, values in of_digits.items():
            value = values[digit.digit] if digit.digit in range(CLASSES) else 0
            yield from _disagreement(f"test.per_class: {name} of {digit.digit}", getattr(digit, name), value)


def _disagreement(what: str, recorded: float | None, counted: float) -> Iterator[Disagreement]:
    if recorded is not None and abs(recorded - counted) > ROUNDING:
        yield report.PATH, what, recorded, np.round(counted, 6)
