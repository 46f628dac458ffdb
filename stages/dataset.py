"""The .npz files that pass between stages: normalized images and their labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.errors import RESTORE, InputError, remedied
from stages.files import load_arrays, replacing

Content = TypeVar("Content")

SIDE = 28  # pixels
CLASSES = 10

TRAIN = Path("data/processed/train.npz")
VALIDATION = Path("data/processed/validation.npz")
TEST = Path("data/processed/test.npz")
OWN_TEST = Path("data/processed/own_test.npz")


@dataclass(frozen=True)
class Dataset:
    """Images of digits and their labels."""

    images: NDArray[np.float32]  # (n, 28, 28), 0 is background and 1 is ink
    labels: NDArray[np.uint8]  # (n,), 0-9

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Named(Dataset):
    """Pictures of our own, of which there may be none, with the names by which they are known."""

    names: NDArray[np.str_]  # (n,), 32 hexadecimal digits each


def save(dataset: Dataset, path: Path) -> None:
    """Write an uncompressed .npz. No zlib is involved, so the same data gives the same file everywhere."""
    with replacing(path) as temporary:
        np.savez(temporary, **vars(dataset))


def load(path: Path) -> Dataset:
    """Read what `save` wrote.

    Raises `InputError` if the file is missing, damaged, or holds anything but normalized images and their labels.
    """
    return _load(path, parse)


def load_named(path: Path = OWN_TEST) -> Named:
    """Read what `save` wrote of pictures of our own."""
    return _load(path, parse_named)


def _load(path: Path, parse: Callable[[BinaryIO, str], Content]) -> Content:
    try:
        with path.open("rb") as file, remedied(RESTORE):
            return parse(file, str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; make it with `dvc repro prepare` or fetch it with `dvc pull`") from None


def parse(file: BinaryIO, name: str) -> Dataset:
    """Read the .npz of a dataset.

    Raises `InputError` with `name` if it is damaged or holds anything but normalized images and their labels.
    """
    images, labels = _arrays(file, name, "images", "labels")
    if images.size == 0:
        raise InputError(f"{name}: expected images, found {images.dtype} of shape {images.shape}")
    return _checked(images, labels, name)


def parse_named(file: BinaryIO, name: str) -> Named:
    """Read the .npz of pictures of our own, as `parse` does; there may be none."""
    images, labels, names = _arrays(file, name, "images", "labels", "names")
    checked = _checked(images, labels, name)
    if names.dtype != np.dtype("U32") or names.shape != labels.shape or len(set(names.tolist())) < len(names):
        raise InputError(f"{name}: expected {len(labels)} different names, found {names.dtype} of shape {names.shape}")
    return Named(checked.images, checked.labels, names)


def _arrays(file: BinaryIO, name: str, *arrays: str) -> list[NDArray[Any]]:
    try:
        return load_arrays(file, *arrays)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or malicious file makes NumPy raise
        raise InputError(f"{name}: damaged, or not an .npz of {' and '.join(arrays)} ({error})") from None


def _checked(images: NDArray[Any], labels: NDArray[Any], name: str) -> Dataset:
    if images.dtype != np.float32 or images.shape[1:] != (SIDE, SIDE):
        raise InputError(
            f"{name}: expected float32 images of shape (n, {SIDE}, {SIDE}), "
            f"found {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or (labels >= CLASSES).any():
        raise InputError(
            f"{name}: expected {len(images)} uint8 labels of 0-{CLASSES - 1}, "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    # The comparison is false for NaN too.
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(f"{name}: expected pixels between 0 and 1, found others")
    return Dataset(images, labels)
