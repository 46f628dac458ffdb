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
from stages.dataset import SIDE
from stages.errors import InputError
from tools.pages.subject import Subject
from tools.runs.revision import REMAKE, read_bytes
from tools.runs.run import Run

SHOWN = 500  # images of a group at most; this keeps the page below 3 MB
ACROSS = 25  # images in a row of a sheet

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


@dataclass(frozen=True)
class Group:
    """Test images with the same result in both runs, the most confident mistakes first."""

    title: str
    explanation: str
    count: int
    shown: Sequence[Digit]
    images: str  # the shown images in one PNG, as a data URI; empty if the images are not available


def load_images(of: Run) -> tuple[Images | None, str]:
    """Read the test images. If they are not available, return None and a message with the command that gets them."""
    name = f"{dataset.TEST} at {of}"
    try:
        images = dataset.parse(io.BytesIO(read_bytes(of.revision, dataset.TEST)), name).images
    except InputError as error:
        return None, str(error)
    if len(images) != len(of.predictions):
        return None, (
            f"{name}: expected {len(of.predictions):,} images, one for each row of {predictions.PATH}, found "
            f"{len(images):,}; {REMAKE}"
        )
    return images, ""


def groups(subject: Subject, images: Images | None) -> list[Group]:
    """Group the misclassified test images by their results. Return no groups if the runs have different test sets."""
    if subject.incomparable:
        return []
    new = subject.after.predictions
    old = subject.before.predictions if subject.before else new
    actual = new["actual"]
    was_right, is_right = old["predicted"] == actual, new["predicted"] == actual
    if not subject.before:
        return [group("Wrong", "The misclassified test images.", old, new, mistakes=new[~is_right], images=images)]
    return [
        group(
            "Newly fixed", "Wrong before, right after.", old, new, mistakes=old[~was_right & is_right], images=images
        ),
        group(
            "Newly broken", "Right before, wrong after.", old, new, mistakes=new[was_right & ~is_right], images=images
        ),
        group("Still wrong", "Wrong before and after.", old, new, mistakes=new[~was_right & ~is_right], images=images),
    ]


def group(
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
        table[name][order].tolist()
        for table, name in (
            (new, "index"), (new, "actual"),
            (old, "predicted"), (old, "confidence"), (new, "predicted"), (new, "confidence"),
        )
    ]  # fmt: skip
    picture = sheet(images[order]) if images is not None and len(order) else ""
    return Group(title, explanation, len(mistakes), [Digit(*row) for row in zip(*columns, strict=True)], picture)


def sheet(images: Images) -> str:
    """Put images (n, 28, 28) into one PNG, black on white and `ACROSS` in a row, and return it as a data URI."""
    down = -(-len(images) // ACROSS)
    canvas = np.zeros((down * ACROSS, SIDE, SIDE), np.float32)
    canvas[: len(images)] = images
    pixels = canvas.reshape(down, ACROSS, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(down * SIDE, ACROSS * SIDE)
    file = io.BytesIO()
    Image.fromarray((255 - 255 * pixels).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
