"""CSV files of reports/: written whole with repeatable bytes, read with the columns that the reader needs."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.errors import InputError
from stages.files import replacing


def save(table: pd.DataFrame, path: Path, *, float_format: str) -> None:
    """Write a table without its index."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format, lineterminator="\n")


def parse(text: str, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of at least one row that has these columns; others may stand beside them.

    Raises `InputError` with `name` if it is anything else.
    """
    try:
        table = pd.read_csv(io.StringIO(text))
    except ValueError as error:
        raise InputError(f"{name}: not a table: {error}") from None
    if table.empty or not set(columns) <= set(table.columns):
        raise InputError(
            f"{name}: expected the columns {', '.join(columns)} and at least one row, found {len(table):,} rows of "
            f"{', '.join(map(str, table.columns))}"
        )
    return table
