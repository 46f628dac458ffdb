"""MNIST (LeCun, Cortes, Burges): the four official files, and functions that read their format, IDX."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputError

RAW = Path("data/raw")  # where `prepare` writes the files, and where each commit of this repository records them


@dataclass(frozen=True)
class IdxFile:
    """One of the official files: its name, size in bytes, SHA-256, and the shape of its array of bytes."""

    name: str
    size: int
    sha256: str
    shape: tuple[int, ...]


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte.gz",
    9_912_422,
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    (60_000, 28, 28),
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte.gz",
    28_881,
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    (60_000,),
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte.gz",
    1_648_877,
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    (10_000, 28, 28),
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte.gz",
    4_542,
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    (10_000,),
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes that must have exactly this shape.

    The format: two zero bytes, the type (0x08: unsigned byte), the number of dimensions, a big-endian
    32-bit size for each, the items (http://yann.lecun.com/exdb/mnist/).
    Raises `InputError` with the expected and the found value.
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}; remove it and run `dvc repro`") from None
    if content[:4] != header[:4]:
        raise InputError(f"{path}: expected IDX magic {header[:4].hex()}, found {content[:4].hex()}")
    if content[: len(header)] != header:
        found = tuple(np.frombuffer(content[4 : len(header)].ljust(len(header) - 4, b"\0"), ">u4").tolist())
        raise InputError(f"{path}: expected dimensions {shape}, found {found}")
    if len(content) != size:
        more_or_less = "more" if len(content) > size else f"{len(content) - len(header):,}"
        raise InputError(f"{path}: expected {size - len(header):,} items, found {more_or_less}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def read_labels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an IDX file of labels, which must be digits."""
    labels = read_idx(path, shape)
    if labels.max() > 9:
        at = int(labels.argmax())
        raise InputError(f"{path}: expected labels 0-9, found {labels[at]} at item {at:,}")
    return labels
