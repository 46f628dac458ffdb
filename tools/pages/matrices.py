"""Confusion matrices as tables: how often each digit is taken for another, and how that changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages import confusion
from stages.confusion import Counts
from tools.pages.subject import Subject, quoted
from tools.runs import paired
from tools.runs.run import Run


@dataclass(frozen=True)
class Cell:
    """The test images of an actual digit that are taken for a digit."""

    text: str
    share: str  # of the actual digit; empty where there is nothing
    depth: float  # of the colour, 0 to 1
    kind: str  # good or bad: right or wrong, more right or fewer right
    says: str  # the whole, in words
    chooses: bool  # whether it has digits on the page


@dataclass(frozen=True)
class Matrix:
    """A table: a row for each actual digit, a column for each predicted one."""

    name: str
    title: str
    explanation: str
    by: str  # which digits its cells choose: those that a run took for the digit, or those that moved
    rows: Sequence[Sequence[Cell]]


def matrices(subject: Subject, *, has_digits: bool) -> list[Matrix]:
    """Make the matrices of a page: the difference first, or one alone if both runs predict the same."""
    before, after = subject.before, subject.after
    if not before:
        return [of_run(after, "after", "Test images by actual and predicted digit", has_digits=has_digits)]
    if subject.same:
        return [of_run(after, "after", "Test images by actual and predicted digit, in both", has_digits=has_digits)]
    made = [of_run(run, by, quoted(run), has_digits=has_digits) for run, by in ((before, "before"), (after, "after"))]
    return [difference(before, after), *made] if subject.paired else made


def of_run(run: Run, by: str, title: str, *, has_digits: bool) -> Matrix:
    """Show what a run takes for what."""
    rows = []
    for actual, counts in enumerate(run.counts):
        total = max(int(counts.sum()), 1)
        rows.append(
            [
                Cell(
                    f"{count:,}",
                    f"{count / total:.1%}" if count else "",
                    0.25 if actual == predicted else _depth(count / total),
                    "good" if actual == predicted else "bad",
                    f"{count:,} of {total:,} images of {actual} are taken for {predicted}",
                    bool(has_digits and count and actual != predicted),
                )
                for predicted, count in enumerate(map(int, counts))
            ]
        )
    explanation = (
        "Share of the actual digit below each count. The higher it is, the stronger is the colour of a mistake."
    )
    return Matrix(by, title, explanation, by, rows)


def difference(before: Run, after: Run) -> Matrix:
    """Show how many more or fewer images the later run takes for what."""
    arrived, left = _moved(before, after)
    totals = after.counts.sum(axis=1)
    rows = []
    for actual, total in enumerate(map(int, totals)):
        cells = []
        for predicted in range(len(totals)):
            here, away = int(arrived[actual, predicted]), int(left[actual, predicted])
            more = here - away
            is_good = (more > 0) == (actual == predicted)
            says = f"Images of {actual} taken for {predicted}: {here:,} more, {away:,} fewer"
            text = paired.signed(more, ",")
            cells.append(
                Cell(text, "", _depth(abs(more) / max(total, 1)), "good" if is_good else "bad", says, bool(here + away))
            )
        rows.append(cells)
    explanation = (
        "Blue: more right, or fewer wrong. Orange: fewer right, or more wrong. The higher the share of the actual "
        "digit, the stronger is the colour."
    )
    return Matrix("difference", f"Difference: {quoted(after)} less {quoted(before)}", explanation, "moved", rows)


def _moved(before: Run, after: Run) -> tuple[Counts, Counts]:
    """Count the images that another digit was predicted for: by their new digit, and by their old one."""
    changed = before.predictions["predicted"] != after.predictions["predicted"]
    was, now = (
        confusion.count(run.predictions["actual"][changed], run.predictions["predicted"][changed])
        for run in (before, after)
    )
    return now, was


def _depth(share: float) -> float:
    """Return the strength of the colour of a share: 0.1% is visible, and half is far from 2%."""
    return round(share ** (1 / 3), 3)
