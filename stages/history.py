"""reports/history.csv: what training measured in each epoch."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages import csv_table
from stages.errors import InputError, remedied
from stages.files import read_text

PATH = Path("reports/history.csv")


class Epoch(NamedTuple):
    """The figures of one epoch. Training figures are means over its batches, with dropout. Losses are in nats."""

    epoch: int  # from 1
    training_accuracy: float
    training_loss: float
    validation_accuracy: float  # at the epoch's end
    validation_loss: float
    learning_rate: float  # of the epoch's last step


# The columns of every history. A field that is added later needs a default, because older files lack its column.
NEEDED = [name for name in Epoch._fields if name not in Epoch._field_defaults]


def save(history: Iterable[Epoch], path: Path = PATH) -> None:
    """Write one row for each epoch."""
    csv_table.save(pd.DataFrame(history, columns=list(Epoch._fields)), path, float_format="%.6g")


def load(path: Path = PATH) -> pd.DataFrame:
    """Read what `save` wrote.

    Raises `InputError` if the file is missing or is not a history.
    """
    with remedied("restore it with `dvc repro --force train`"):
        return parse(read_text(path), str(path))


def parse(text: str, name: str) -> pd.DataFrame:
    """Read a history: one row for each epoch, with at least the columns of `NEEDED` as finite numbers.

    Raises `InputError` with `name` if the text is anything else.
    """
    history = csv_table.parse(text, name, NEEDED)
    numbers = history[NEEDED].apply(pd.to_numeric, errors="coerce").astype(float)
    is_number = np.isfinite(numbers)
    if not is_number.all(axis=None):
        raise InputError(
            f"{name}: expected finite numbers in {', '.join(NEEDED)}, found "
            f"{(~is_number).to_numpy().sum():,} other cells"
        )
    return history
