"""reports/history.csv: what training measured in each epoch."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.errors import InputError
from stages.files import replacing

HISTORY = Path("reports/history.csv")


class Epoch(NamedTuple):
    """Training figures are means over the epoch's batches as they were learnt, with dropout; losses are in nats."""

    epoch: int  # from 1
    training_accuracy: float
    training_loss: float
    validation_accuracy: float  # at the epoch's end
    validation_loss: float
    learning_rate: float  # of the epoch's last step


COLUMNS = list(Epoch._fields)


def save_history(history: Iterable[Epoch], path: Path) -> None:
    """Write a row an epoch."""
    with replacing(path) as temporary:
        pd.DataFrame(history, columns=COLUMNS).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def load_history(path: Path) -> pd.DataFrame:
    """Read what `save_history` wrote.

    Raises `InputError` if the file is missing or has not the columns and at least one row.
    """
    try:
        history = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; make it with `dvc repro train`") from None
    except ValueError as error:
        raise InputError(f"{path}: no table ({error}); {_REMEDY}") from None
    numbers = history.apply(pd.to_numeric, errors="coerce")
    if list(history.columns) != COLUMNS or history.empty or numbers.isna().any(axis=None):
        raise InputError(
            f"{path}: expected the numbers {', '.join(COLUMNS)} of at least one epoch, found {len(history)} rows of "
            f"{', '.join(history.columns)} with {numbers.isna().to_numpy().sum()} cells that are none; {_REMEDY}"
        )
    return history


_REMEDY = "make it anew with `dvc repro --force train`"
