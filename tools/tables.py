"""Tables for people: aligned text for terminals, Markdown for cards and documents."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

Rows = Iterable[Iterable[object]]


def text(head: Sequence[str], rows: Rows, *, left: int = 1) -> str:
    """Align columns with spaces, the first `left` columns to the left and the others to the right."""
    return _table(head, rows, left, "plain")


def markdown(head: Sequence[str], rows: Rows, *, left: int = 1) -> str:
    """Lay out a table in Markdown; a bar within a cell is escaped."""
    escaped = ([str(cell).replace("|", r"\|") for cell in row] for row in rows)
    return _table(head, escaped, left, "pipe")


def _table(head: Sequence[str], rows: Rows, left: int, form: str) -> str:
    cells = [[str(cell) for cell in row] for row in rows]
    align = ["left"] * left + ["right"] * (len(head) - left)
    return tabulate(cells, head, tablefmt=form, disable_numparse=True, colalign=align if cells else None)
