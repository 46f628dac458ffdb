"""reports/confusion_matrix.csv: test images counted by actual and predicted digit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from stages import csv_table
from stages.dataset import CLASSES
from stages.errors import InputError

PATH = Path("reports/confusion_matrix.csv")
ACTUAL = "actual"  # the column that names the row
DIGITS = [str(digit) for digit in range(CLASSES)]  # the other columns

Counts = NDArray[np.int64]  # (10, 10): rows are actual digits, columns are predicted ones


def count(actual: ArrayLike, predicted: ArrayLike) -> Counts:
    """Count images by their actual and predicted digits, (n,) each."""
    counts: Counts = confusion_matrix(actual, predicted, labels=range(CLASSES))
    return counts


def scores(actual: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Compute precision, recall, F1 and the number of images of each digit, (10,) each.

    A digit that is never predicted has precision 0.
    """
    columns: tuple[NDArray[Any], ...] = precision_recall_fscore_support(
        actual, predicted, labels=range(CLASSES), zero_division=0
    )
    return columns


def save(counts: Counts, path: Path = PATH) -> None:
    """Write one row for each actual digit."""
    table = pd.DataFrame(counts, columns=DIGITS)
    table.insert(0, ACTUAL, range(CLASSES))
    csv_table.save(table, path, float_format="%d")


def parse(text: str, name: str) -> Counts:
    """Read what `save` wrote.

    Raises `InputError` with `name` if the text is anything else.
    """
    table = csv_table.parse(text, name, (ACTUAL, *DIGITS))
    counts = table[DIGITS]
    if table[ACTUAL].tolist() != list(range(CLASSES)) or not (
        counts.dtypes.map(pd.api.types.is_integer_dtype).all() and (counts >= 0).all(axis=None)
    ):
        raise InputError(f"{name}: expected counts of images for each actual digit of 0-{CLASSES - 1}, found others")
    return counts.to_numpy(np.int64)
