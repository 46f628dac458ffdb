"""The content of a page about one run or about two compared runs, in numbers and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.metrics import precision_recall_fscore_support

from stages import dataset, environment
from stages.dataset import CLASSES
from stages.errors import InputError
from tools.runs import paired
from tools.runs.paired import Change, Paired
from tools.runs.run import Run

HASH = 12  # digits of a hash that are shown
ABSENT = "not recorded"  # shown for a value that an older commit lacks

PARTS = {"train": dataset.TRAIN, "validation": dataset.VALIDATION, "test": dataset.TEST}


@dataclass(frozen=True)
class Subject:
    """The subject of a page: one run, or two compared runs."""

    after: Run
    before: Run | None = None
    paired: Paired | None = None  # if there are two runs on the same test images
    incomparable: str = ""  # why two runs have no `paired`

    @property
    def runs(self) -> list[Run]:
        return [self.before, self.after] if self.before else [self.after]

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if not (self.before and self.paired):
            return "◇ Not comparable"
        if self.before.predictions.equals(self.after.predictions):
            return "◆ The same predictions"
        return {"better": "▲ Better", "worse": "▼ Worse", "inconclusive": "◆ Inconclusive"}[self.paired.verdict]

    def proves_on(self, part: str) -> bool:
        """Tell whether the runs are proven to differ and have the same images in a part of the data."""
        data = [run.lock.hashes.get(PARTS[part].as_posix()) for run in self.runs] if part in PARTS else [None]
        return bool(self.paired and self.paired.verdict != "inconclusive" and data[0] == data[-1])

    @property
    def sentence(self) -> str:
        """The result with its figures."""
        return paired.sentence(self.paired, str(self.before), str(self.after)) if self.paired else self.incomparable


def compare_runs(before: Run, after: Run) -> Subject:
    """Compare two runs, image by image if both were tested on the same images.

    Raises `InputError` if both are the same commit.
    """
    if before.revision.commit == after.revision.commit:
        raise InputError(f"{before} and {after} are the same commit: nothing to compare; `make report` shows one run")
    try:
        return Subject(after, before, paired.compare_revisions(before.revision, after.revision))
    except InputError as error:
        return Subject(after, before, incomparable=str(error))


class Headline(NamedTuple):
    """A metric that is shown first."""

    name: str
    field: str  # of the report
    form: str  # format of the value
    difference: str  # format of the difference
    direction: int  # 1 if more is better, -1 if less is, 0 if neither


HEADLINES = (
    Headline("test accuracy", "test.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("test errors", "test.errors", "{:,}", "{:+,}", -1),
    Headline("test loss (nats)", "test.loss", "{:.4f}", "{:+.4f}", -1),
    Headline("test F1, mean of classes", "test.f1", "{:.2%}", "{:+.2f} points", 1),
    Headline("calibration error", "test.calibration_error", "{:.2%}", "{:+.2f} points", -1),
    Headline("validation accuracy", "validation.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("validation loss (nats)", "validation.loss", "{:.4f}", "{:+.4f}", -1),
    Headline("training accuracy", "train.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("parameters of the network", "model.parameters", "{:,}", "{:+,}", 0),
)


class Row(NamedTuple):
    """A row of a table: a value before and after the change."""

    name: str
    before: str
    after: str
    difference: str = ""
    judgement: str = ""  # better or worse, if it is either


def headlines(subject: Subject) -> list[Row]:
    """List the main metrics with their differences.

    A difference is called better or worse only if the images are the same and the test proves that the runs differ.
    """
    rows = []
    for name, field, form, difference, direction in HEADLINES:
        old, new = (_value(run, field) if run else None for run in (subject.before, subject.after))
        was, now = (ABSENT if value is None else form.format(value) for value in (old, new))
        if not subject.before:
            rows.append(Row(name, "", now))
        elif old is None or new is None:
            rows.append(Row(name, was, now))
        else:
            change = new - old
            gain = change * direction if subject.proves_on(field.partition(".")[0]) else 0
            shown = difference.format(100 * change if "points" in difference else change)
            rows.append(Row(name, was, now, shown, "better" if gain > 0 else "worse" if gain < 0 else ""))
    return rows


def _value(run: Run, field: str) -> float | None:
    """Read a field of a run's report. Return None if the commit does not record the field."""
    section, _, name = field.partition(".")
    recorded = getattr(run.report, section)
    value: float | None = recorded and attrgetter(name)(recorded)
    return value


def changes(before: Run, after: Run) -> dict[str, list[Row]]:
    """List what differs between two runs: parameters, data, code and environment."""
    data, code = (
        [{path: hash_[:HASH] for path, hash_ in of(run).items()} for run in (before, after)]
        for of in (_data, lambda run: run.lock.code)
    )
    return {
        "Parameters": differing(before.params, after.params),
        "Data": differing(*data),
        "Code": differing(*code),
        "Environment": [*differing_environments(before, after), *differing(before.packages, after.packages)],
    }


def _data(run: Run) -> dict[str, str]:
    folders = {path.parent for path in PARTS.values()}
    return {path: hash_ for path, hash_ in run.lock.hashes.items() if Path(path).parent in folders}


def differing_environments(before: Run, after: Run) -> list[Row]:
    """List the differences between the training environments, if both are known."""
    if before.environment and after.environment:
        return differing(before.environment, after.environment)
    known = ("recorded" if run.environment else "not known" for run in (before, after))
    return [Row(environment.PATH.as_posix(), *known)]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """List the values that differ. A missing value is `none`."""
    return [
        Row(name, *(str(values[name]) if name in values else "none" for values in (before, after)))
        for name in sorted({**before, **after})
        if before.get(name, _NONE) != after.get(name, _NONE)
    ]


_NONE = object()


class Scores(NamedTuple):
    """Precision, recall and F1 of one digit."""

    precision: float
    recall: float
    f1: float


class DigitRow(NamedTuple):
    """A digit's figures in both runs."""

    digit: int
    images: int  # of the later run's test set
    before: Scores | None
    after: Scores
    fate: Change | None


def per_class(subject: Subject) -> list[DigitRow]:
    """Put each digit's figures of both runs side by side."""
    old = [scores for scores, _ in _scores(subject.before)] if subject.before else [None] * CLASSES
    fates = subject.paired.per_class if subject.paired else [None] * CLASSES
    return [
        DigitRow(digit, images, was, now, fate)
        for digit, (was, (now, images), fate) in enumerate(zip(old, _scores(subject.after), fates, strict=True))
    ]


def _scores(run: Run) -> list[tuple[Scores, int]]:
    table = run.predictions
    columns = precision_recall_fscore_support(
        table["actual"], table["predicted"], labels=range(CLASSES), zero_division=0
    )
    return [(Scores(*map(float, scores)), int(images)) for *scores, images in zip(*columns, strict=True)]
