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
    """Training figures are means over the epoch's batches during training, with dropout; losses are in nats."""

    epoch: int  # from 1
    training_accuracy: float
    training_loss: float
    validation_accuracy: float  # at the epoch's end
    validation_loss: float
    learning_rate: float  # of the epoch's last step


# A field that is added later has a default, and so does an older file, which lacks its column.
NEEDED = [name for name in Epoch._fields if name not in Epoch._field_defaults]


def save(history: Iterable[Epoch], path: Path = PATH) -> None:
    """Write a row an epoch."""
    csv_table.save(pd.DataFrame(history, columns=list(Epoch._fields)), path, float_format="%.6g")


def load(path: Path = PATH) -> pd.DataFrame:
    """Read what `save` wrote.

    Raises `InputError` if the file is missing or is not a history.
    """
    with remedied("restore it with `dvc repro --force train`"):
        return parse(read_text(path), str(path))


def parse(text: str, name: str) -> pd.DataFrame:
    """Read a history: at least the columns that `NEEDED` names, as finite numbers, a row an epoch.

    Raises `InputError` with `name` if it is anything else.
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
