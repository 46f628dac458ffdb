"""CSV files in reports/: saved whole and with the same bytes each time, loaded with the columns that a reader needs."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.errors import InputError
from stages.files import replacing

WIDTH = 100  # columns; pandas takes hours for a million


def save(table: pd.DataFrame, path: Path, *, float_format: str) -> None:
    """Write a table without its index."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format, lineterminator="\n")


def parse(
    text: str, name: str, columns: Sequence[str], *, may_be_empty: bool = False, texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table that has these columns and at least one row. Other columns are allowed.

    `texts` are the columns that hold texts, whatever these look like.
    Raises `InputError` with `name` if the text is anything else.
    """
    width = 1 + max((line.count(",") for line in text.splitlines()), default=0)
    if width > WIDTH:
        raise InputError(f"{name}: not a table: expected at most {WIDTH} columns, found {width:,}")
    try:
        table = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(texts, str))
    except ValueError as error:
        raise InputError(f"{name}: not a table: {error}") from None
    if (table.empty and not may_be_empty) or not set(columns) <= set(table.columns):
        least = "" if may_be_empty else " and at least one row"
        raise InputError(
            f"{name}: expected the columns {', '.join(columns)}{least}, found {len(table):,} rows of "
            f"{', '.join(map(str, table.columns))}"
        )
    return table
