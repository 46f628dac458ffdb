"""reports/metrics.json: accuracy, loss and the other figures of a model.

A commit may record fields that this code does not know. They are ignored. Fields that a commit lacks are None.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.dataset import CLASSES
from stages.errors import InputError, remedied
from stages.files import read_text, replacing

PATH = Path("reports/metrics.json")


class Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Part(Section):
    """Figures of a part of the data: the share of images classified correctly, and the mean cross-entropy in nats."""

    accuracy: float
    loss: float | None = None


class Digit(Section):
    """The figures of one digit."""

    digit: int
    images: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class Test(Part):
    """The figures of the test set. Precision, recall and F1 are unweighted means over the ten digits."""

    errors: int  # images
    calibration_error: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    # A list, because DVC's tables leave lists out. These thirty figures would hide the ones above.
    per_class: Annotated[list[Digit], Field(max_length=CLASSES)] | None = None


class Own(Part):
    """The figures of the test pictures of our own."""

    images: int
    errors: int  # images


class Size(Section):
    """The size of the model."""

    parameters: int
    bytes: int | None = None  # size of the model's file


class Report(Section):
    """The content of metrics.json."""

    train: Part | None = None
    validation: Part | None = None
    test: Test
    own_test: Own | None = None  # absent where there are none
    model: Size | None = None


def save(report: Report, path: Path = PATH) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report.model_dump(exclude_none=True), indent=2) + "\n", encoding="utf-8")


def load(path: Path = PATH) -> Report:
    """Read what `save` wrote.

    Raises `InputError` if the file is missing or is not a report.
    """
    with remedied("restore it with `dvc repro --force evaluate`"):
        return parse(read_text(path), str(path))


def parse(text: str, name: str) -> Report:
    """Read a report that this code, older code or newer code wrote.

    Raises `InputError` with `name` and one clause for each field that is missing or invalid.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as invalid:
        faults = [
            f"{'.'.join(map(str, error['loc'])) or 'the whole file'}: {error['msg']}" for error in invalid.errors()
        ]
        raise InputError(f"{name}: {'; '.join(faults)}") from None
