"""Pictures of the test images that a run misclassifies, or that a change fixed or broke."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages import dataset, predictions
from stages.errors import InputError
from tools.pages.subject import Subject
from tools.runs.revision import read_bytes
from tools.runs.run import Run

SHOWN = 400  # images of a group at most; this keeps the page below 3 MB

Images = NDArray[np.float32]  # (n, 28, 28)


@dataclass(frozen=True)
class Digit:
    """A test image with its actual digit, its predicted digits and their confidence."""

    index: int
    actual: int
    before: int
    before_confidence: float
    after: int
    after_confidence: float
    image: str  # a PNG as a data URI; empty if the images are not available


@dataclass(frozen=True)
class Group:
    """Test images with the same result in both runs, the most confident mistakes first."""

    name: str  # in the page's address
    title: str
    explanation: str
    count: int
    shown: Sequence[Digit]


def load_images(of: Run) -> tuple[Images | None, str]:
    """Read the test images. If they are not available, return None and a message with the command that gets them."""
    name = f"{dataset.TEST} {of.revision.place}"
    try:
        images = dataset.parse(io.BytesIO(read_bytes(of.revision, dataset.TEST)), name).images
    except InputError as error:
        return None, str(error)
    if len(images) != len(of.predictions):
        return None, (
            f"{name}: expected {len(of.predictions):,} images, one for each row of {predictions.PATH}, found "
            f"{len(images):,}; {of.revision.remake}"
        )
    return images, ""


def groups(subject: Subject, images: Images | None) -> list[Group]:
    """Group the misclassified test images by their results, without empty groups.

    Runs on different test images have no groups.
    """
    if subject.incomparable:
        return []
    new = subject.after.predictions
    old = subject.before.predictions if subject.before else new
    actual = new["actual"]
    was_right, is_right = old["predicted"] == actual, new["predicted"] == actual
    if not subject.before:
        kinds = [("wrong", "Wrong", "The misclassified test images.", new[~is_right])]
    else:
        kinds = [
            ("broken", "Newly broken", "Right before, wrong after.", new[was_right & ~is_right]),
            ("fixed", "Newly fixed", "Wrong before, right after.", old[~was_right & is_right]),
            ("still", "Still wrong", "Wrong before and after.", new[~was_right & ~is_right]),
        ]
    return [
        group(name, title, explanation, old, new, mistakes=mistakes, images=images)
        for name, title, explanation, mistakes in kinds
        if len(mistakes)
    ]


def group(
    name: str,
    title: str,
    explanation: str,
    old: pd.DataFrame,
    new: pd.DataFrame,
    *,
    mistakes: pd.DataFrame,  # the wrong rows, from `old` or from `new`
    images: Images | None,
) -> Group:
    """Make a group of mistakes, the most confident first."""
    order = mistakes["confidence"].sort_values(ascending=False, kind="stable").index[:SHOWN]
    columns = [
        table[column][order].tolist()
        for table, column in (
            (new, "index"), (new, "actual"),
            (old, "predicted"), (old, "confidence"), (new, "predicted"), (new, "confidence"),
        )
    ]  # fmt: skip
    pictures = [picture(images[index]) for index in order] if images is not None else [""] * len(order)
    shown = [Digit(*row) for row in zip(*columns, pictures, strict=True)]
    return Group(name, title, explanation, len(mistakes), shown)


def picture(image: NDArray[np.float32]) -> str:
    """Return an image (28, 28) as a PNG, black on white, as a data URI."""
    file = io.BytesIO()
    Image.fromarray((255 - 255 * image).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
