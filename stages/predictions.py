"""reports/predictions.csv and own_predictions.csv: the model's prediction for each test image, and each of our own."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages import csv_table
from stages.dataset import CLASSES
from stages.errors import InputError

PATH = Path("reports/predictions.csv")
OWN_PATH = Path("reports/own_predictions.csv")
COLUMNS = ("index", "actual", "predicted", "confidence")
OWN_COLUMNS = ("picture", *COLUMNS[1:])


def make(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Make the table of labels (n,), predicted digits and their confidence, 0 to 1, from probabilities (n, 10)."""
    columns = np.arange(len(labels)), labels, probabilities.argmax(axis=1), probabilities.max(axis=1)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def make_own(names: NDArray[np.str_], labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Make the same table with the name of each picture instead of its index."""
    table = make(labels, probabilities)
    table.insert(0, OWN_COLUMNS[0], names)
    return table[[*OWN_COLUMNS]]


def save(predictions: pd.DataFrame, path: Path = PATH) -> None:
    """Write one row for each test image or picture of our own, in the order of the set; of none, the columns' names."""
    csv_table.save(predictions, path, float_format="%.6f")


def parse_own(text: str, name: str) -> pd.DataFrame:
    """Read predictions of test pictures of our own, of which there may be none.

    Raises `InputError` with `name` if the text is anything else.
    """
    table = csv_table.parse(text, name, OWN_COLUMNS, may_be_empty=True, texts=OWN_COLUMNS[:1])
    if not (table["picture"].is_unique and _are_predictions(table)):
        raise InputError(
            f"{name}: expected different pictures, digits of 0-{CLASSES - 1} and confidences of 0-1, found "
            f"others in {len(table):,} rows"
        )
    return table


def parse(text: str, name: str) -> pd.DataFrame:
    """Read predictions: one row for each test image, in order, with digits and confidence.

    Raises `InputError` with `name` if the text is anything else.
    """
    table = csv_table.parse(text, name, COLUMNS)
    if not (table["index"].equals(pd.Series(range(len(table)))) and _are_predictions(table)):
        raise InputError(
            f"{name}: expected the index from 0, digits of 0-{CLASSES - 1} and confidences of 0-1, found other values "
            f"in {len(table):,} rows"
        )
    return table


def _are_predictions(table: pd.DataFrame) -> bool:
    digits = table[["actual", "predicted"]]
    return bool(
        table.empty
        or (
            digits.dtypes.map(pd.api.types.is_integer_dtype).all()
            and digits.isin(range(CLASSES)).all(axis=None)
            and pd.to_numeric(table["confidence"], errors="coerce").between(0, 1).all()
        )
    )
