"""reports/predictions.csv: the model's prediction for each test image."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages import csv_table
from stages.dataset import CLASSES
from stages.errors import InputError

PATH = Path("reports/predictions.csv")
COLUMNS = ("index", "actual", "predicted", "confidence")


def make(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Make the table of labels (n,), predicted digits and their confidence, 0 to 1, from probabilities (n, 10)."""
    columns = np.arange(len(labels)), labels, probabilities.argmax(axis=1), probabilities.max(axis=1)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def save(predictions: pd.DataFrame, path: Path = PATH) -> None:
    """Write one row for each test image, in the order of the test set."""
    csv_table.save(predictions, path, float_format="%.6f")


def parse(text: str, name: str) -> pd.DataFrame:
    """Read predictions: one row for each test image, in order, with digits and confidence.

    Raises `InputError` with `name` if the text is anything else.
    """
    table = csv_table.parse(text, name, COLUMNS)
    digits = table[["actual", "predicted"]]
    if not (
        table["index"].equals(pd.Series(range(len(table))))
        and digits.dtypes.map(pd.api.types.is_integer_dtype).all()
        and digits.isin(range(CLASSES)).all(axis=None)
        and pd.to_numeric(table["confidence"], errors="coerce").between(0, 1).all()
    ):
        raise InputError(
            f"{name}: expected the index from 0, digits of 0-{CLASSES - 1} and confidences of 0-1, found other values "
            f"in {len(table):,} rows"
        )
    return table
