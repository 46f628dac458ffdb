"""The content of a page about one run or about two compared runs, in numbers and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from stages import confusion, dataset, environment
from stages.dataset import CLASSES
from stages.errors import InputError
from tools.runs import paired
from tools.runs.paired import Change, Paired, share, signed
from tools.runs.run import Run

HASH = 12  # digits of a hash that are shown
ABSENT = "not recorded"  # shown for a value that an older commit lacks

DATA = dataset.TRAIN.parent


@dataclass(frozen=True)
class Subject:
    """The subject of a page: one run, or two compared runs."""

    after: Run
    before: Run | None = None
    paired: Paired | None = None  # if there are two runs on the same test images
    incomparable: str = ""  # why two runs have no `paired`
    own: Paired | None = None  # if there are two runs with test pictures of our own in common

    @property
    def runs(self) -> list[Run]:
        return [self.before, self.after] if self.before else [self.after]

    @property
    def same(self) -> bool:
        """Whether both runs predict the same digits."""
        return bool(
            self.paired
            and self.before
            and self.before.predictions["predicted"].equals(self.after.predictions["predicted"])
        )

    @property
    def identical(self) -> bool:
        """Whether both runs record the same of everything."""
        return bool(
            self.same
            and self.before
            and self.before.report == self.after.report
            and self.before.history.equals(self.after.history)
            and not summary(self.before, self.after)
        )

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if not self.before:
            return f"{self.after.report.test.accuracy:.2%}"
        if not self.paired:
            return "◇ Not comparable"
        if self.same:
            return "◆ The same digits"
        return {"better": "▲ Better", "worse": "▼ Worse", "inconclusive": "◆ Inconclusive"}[self.paired.verdict]

    @property
    def sentence(self) -> str:
        """The result with its figures."""
        if not self.before:
            test = self.after.report.test
            images = len(self.after.predictions)
            return (
                f"{quoted(self.after)}: {test.accuracy:.2%} of {images:,} test images are classified correctly "
                f"(95% interval {share(images - test.errors, images)[1]}); {test.errors:,} are misclassified"
            )
        if not self.paired:
            return self.incomparable
        if self.same:
            return (
                f"{quoted(self.before)} and {quoted(self.after)} predict the same digit for each of "
                f"{self.paired.images:,} test images: 0 fixed, 0 broken, "
                f"{self.after.report.test.errors:,} wrong in both"
            )
        return paired.sentence(self.paired, quoted(self.before), quoted(self.after))

    @property
    def own_sentence(self) -> str:
        """The result on test pictures of our own; empty if no run has any."""
        if self.own and self.before:
            return paired.sentence(self.own, quoted(self.before), quoted(self.after), "own test pictures")
        told = [
            f"{quoted(run)}: {own.accuracy:.2%} of {own.images:,} own test pictures are classified correctly "
            f"(95% interval {share(own.images - own.errors, own.images)[1]})"
            for run in self.runs
            if (own := run.report.own_test)
        ]
        if told and self.before:
            told.append("the runs have none in common, so they are not compared on them")
        return "; ".join(told)

    @property
    def title(self) -> str:
        """The subject in one line, for the page's title."""
        said = [f"{quoted(run)} {run.report.test.accuracy:.2%}" for run in self.runs]
        return f"{' → '.join(said)}: mnist-lstm"


def quoted(name: object) -> str:
    """Put a name between quotation marks, since it may be a word of the sentence around it."""
    return f"“{name}”"


def compare_runs(before: Run, after: Run) -> Subject:
    """Compare two runs, image by image if both were tested on the same images."""
    own = paired.compare_own(before.own, after.own)
    if _test_set(before) != _test_set(after):
        return Subject(after, before, incomparable=_other_images(before, after), own=own)
    try:
        return Subject(after, before, paired.compare_revisions(before.revision, after.revision), own=own)
    except InputError as error:
        return Subject(after, before, incomparable=str(error), own=own)


def _test_set(run: Run) -> str | None:
    return run.lock.hashes.get(dataset.TEST.as_posix())


def tested_on(run: Run) -> str:
    """Name a run's test images in words."""
    return test_images(run.params, len(run.predictions))


def test_images(params: Mapping[str, Any], count: int) -> str:
    name = params.get("prepare.dataset", "test images")
    return f"{NAMES.get(str(name), name)} ({count:,} images)"


NAMES = {"mnist": "MNIST"}  # by params.yaml's prepare.dataset, where people write it otherwise


def _other_images(before: Run, after: Run) -> str:
    was, now = tested_on(before), tested_on(after)
    told = f"{was} against {now}" if was != now else f"{now}, but not the same images"
    return (
        f"{quoted(before)} and {quoted(after)} were tested on other images: {told}; to compare them, give both the "
        "same section `prepare` in params.yaml and run `dvc repro`"
    )


class Headline(NamedTuple):
    """A metric that is shown first."""

    name: str
    field: str  # of the report
    form: str  # format of the value
    unit: str = ""  # of the difference; points are hundredths
    better: int = 0  # of what was tested: 1 if more is better, -1 if less is


HEADLINES = (
    Headline("test accuracy", "test.accuracy", ".2%", "points", better=1),
    Headline("test errors", "test.errors", ",", better=-1),
    Headline("test loss (nats)", "test.loss", ".4f"),
    Headline("test F1, mean of classes", "test.f1", ".2%", "points"),
    Headline("calibration error", "test.calibration_error", ".2%", "points"),
    Headline("validation accuracy", "validation.accuracy", ".2%", "points"),
    Headline("validation loss (nats)", "validation.loss", ".4f"),
    Headline("training accuracy", "train.accuracy", ".2%", "points"),
    Headline("parameters of the network", "model.parameters", ","),
)


# Shown if a run has test pictures of our own.
OWN_HEADLINES = (
    Headline("own test accuracy", "own_test.accuracy", ".2%", "points", better=1),
    Headline("own test errors", "own_test.errors", ",", better=-1),
    Headline("own test pictures", "own_test.images", ","),
)


class Row(NamedTuple):
    """A row of a table: a value before and after the change."""

    name: str
    before: str
    after: str
    difference: str = ""
    judgement: str = ""  # better or worse, if it is either


def headlines(subject: Subject) -> list[Row]:
    """List the main metrics, with their differences if the runs can be compared.

    Only what the test decides on is called better or worse.
    """
    rows = [headline(subject, of, subject.paired) for of in HEADLINES]
    if any(run.report.own_test for run in subject.runs):
        on_the_same = subject.own and all(len(run.own) == subject.own.images for run in subject.runs)
        rows += [headline(subject, of, subject.own if on_the_same else None) for of in OWN_HEADLINES]
    return rows


def headline(subject: Subject, of: Headline, compared: Paired | None) -> Row:
    """Make the row of a metric, with its difference if the runs are compared on the same images."""
    name, field, form, unit, better = of
    old, new = (_value(run, field) if run else None for run in (subject.before, subject.after))
    was, now = (ABSENT if value is None else format(value, form) for value in (old, new))
    if old is None or new is None or not compared:
        return Row(name, was if subject.before else "", now)
    change = 100 * (new - old) if unit else new - old
    shown = signed(change, ",.2f" if unit else form)
    gain = change * better if compared.verdict != "inconclusive" else 0
    arrow = {paired.MINUS: "↓ ", "+": "↑ "}.get(shown[0], "")
    judgement = "better" if gain > 0 else "worse" if gain < 0 else ""
    return Row(name, was, now, f"{'' if judgement else arrow}{shown} {unit}".strip(), judgement)


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


def summary(before: Run, after: Run) -> str:
    """Say in one line what changed: each parameter, and the number of other differences; an empty text if nothing."""
    found = changes(before, after)
    parameters = found["Parameters"]
    told = [f"{row.name} {row.before} → {row.after}" for row in parameters[:SHOWN]]
    if len(parameters) > SHOWN:
        told.append(f"{len(parameters) - SHOWN} more parameters")
    told += [
        f"{title.lower()} ({len(rows)} {'difference' if len(rows) == 1 else 'differences'})"
        for title, rows in found.items()
        if rows and title != "Parameters"
    ]
    return ", ".join(told)


SHOWN = 6  # parameters in the line


def unchanged(before: Run, after: Run) -> str:
    """Name what is the same in both runs."""
    return ", ".join(title.lower() for title, rows in changes(before, after).items() if not rows)


def _data(run: Run) -> dict[str, str]:
    return {path: hash_ for path, hash_ in run.lock.hashes.items() if Path(path).parent == DATA}


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
    columns = confusion.scores(table["actual"], table["predicted"])
    return [(Scores(*map(float, scores)), int(images)) for *scores, images in zip(*columns, strict=True)]
