"""The .npz files that pass between stages: normalized images and their labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.errors import RESTORE, InputError, remedied
from stages.files import load_arrays, replacing

SIDE = 28  # pixels
CLASSES = 10

TRAIN = Path("data/processed/train.npz")
VALIDATION = Path("data/processed/validation.npz")
TEST = Path("data/processed/test.npz")


@dataclass(frozen=True)
class Dataset:
    """Images of digits and their labels."""

    images: NDArray[np.float32]  # (n, 28, 28), 0 is background and 1 is ink
    labels: NDArray[np.uint8]  # (n,), 0-9

    def __len__(self) -> int:
        return len(self.labels)


def save(dataset: Dataset, path: Path) -> None:
    """Write an uncompressed .npz. No zlib is involved, so the same data gives the same file everywhere."""
    with replacing(path) as temporary:
        np.savez(temporary, images=dataset.images, labels=dataset.labels)


def load(path: Path) -> Dataset:
    """Read what `save` wrote.

    Raises `InputError` if the file is missing, damaged, or holds anything but normalized images and their labels.
    """
    try:
        with path.open("rb") as file, remedied(RESTORE):
            return parse(file, str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; make it with `dvc repro prepare` or fetch it with `dvc pull`") from None


def parse(file: BinaryIO, name: str) -> Dataset:
    """Read the .npz of a dataset.

    Raises `InputError` with `name` if it is damaged or holds anything but normalized images and their labels.
    """
    try:
        images, labels = load_arrays(file, "images", "labels")
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or malicious file makes NumPy raise
        raise InputError(f"{name}: damaged, or not an .npz of images and labels ({error})") from None
    if images.dtype != np.float32 or images.size == 0 or images.shape[1:] != (SIDE, SIDE):
        raise InputError(
            f"{name}: expected float32 images of shape (n, {SIDE}, {SIDE}), "
            f"found {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or labels.max() >= CLASSES:
        raise InputError(
            f"{name}: expected {len(images)} uint8 labels of 0-{CLASSES - 1}, "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    # The comparison is false for NaN too.
    if not (images.min() >= 0 and images.max() <= 1):
        raise InputError(f"{name}: expected pixels between 0 and 1, found others")
    return Dataset(images, labels)
