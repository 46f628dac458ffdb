"""Everyday pictures of a digit as shades of grey: decoded small, in bounded memory, turned as the camera was held."""

import multiprocessing
import os
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.errors import InputError
from stages.find_digit import CONTRAST, Grey, normalized
from stages.terminal import printable

LONGEST = 400  # pixels of a picture's longer side: a digit a tenth as long still has more than MNIST's 28
PIXELS = 50_000_000  # of a picture that cannot be decoded smaller: they take about 0.5 GB
TURNS = {  # by the value of EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF's tag
MANY = 200  # pictures: from here on, starting other processes is worth it
PART = 32  # pictures that a process takes at a time


class TooLargeError(InputError):
    """The picture has more pixels than the caller allows."""


def read_all(paths: Sequence[Path]) -> Iterator[NDArray[np.float32] | InputError]:
    """Read pictures in their order, many of them in one process a core; give the error of a picture in its place."""
    if len(paths) < MANY:
        yield from map(_read_or_refuse, paths)
        return
    # On Linux, copies of this process, which need no start-up. Elsewhere a copy is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(cores(), context, _end_with_parent)
    try:
        yield from pool.map(_read_or_refuse, paths, chunksize=PART)
    except BrokenProcessPool:
        raise MemoryError from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_or_refuse(path: Path) -> NDArray[np.float32] | InputError:
    try:
        return read(path)
    except InputError as error:
        return error


def read(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG as (28, 28), 0 for paper and 1 for ink.

    Raises `InputError` if it is no picture of one digit.
    """
    try:
        return normalized(load(path))
    except InputError as error:
        raise InputError(f"{printable(str(path))}: {error}") from None


def load(path: Path) -> Grey:
    """Read a PNG or JPEG, at most `LONGEST` in height and width.

    Raises `InputError` if it is none, damaged, or too large.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError("no readable PNG or JPEG: expected a file, found a folder, pipe or device")
        with path.open("rb") as file:
            return decode(file)
    except FileNotFoundError:
        raise InputError("not found") from None
    except OSError as error:
        raise InputError(f"no readable PNG or JPEG: {error}") from None


def decode(file: BinaryIO, pixels: int | None = None) -> Grey:
    """Decode a PNG or JPEG, at most `LONGEST` in height and width, if it is stored with at most so many pixels.

    Raises `InputError` if it is none, damaged, or too large.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of metadata
            Image.open(file, formats=("PNG", "JPEG")) as image,
        ):
            width, height = image.size
            if pixels is not None and width * height > pixels:
                raise TooLargeError(f"expected at most {pixels:,} pixels, found {width:,} x {height:,}")
            return to_grey(image)
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise InputError("no readable PNG or JPEG") from None
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes Pillow raise
        raise InputError(f"no readable PNG or JPEG: {error}") from None


def to_grey(image: Image.Image) -> Grey:
    """Decode a picture as shades of grey, small and upright."""
    image.draft("L", (LONGEST, LONGEST))  # a JPEG is decoded smaller; the size is that from here on
    width, height = image.size
    if width * height > PIXELS:
        raise InputError(f"expected at most {PIXELS:,} pixels, found {width:,} x {height:,}; make the picture smaller")
    turn = TURNS.get(orientation(image))
    if image.mode.startswith("I"):  # 16 bits, as Pillow names them
        image = Image.fromarray(of_16_bits(np.asarray(image, np.float32)))
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "L")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BICUBIC)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode == "RGBA":
        return on_paper(np.asarray(image.convert("LA"), np.float32) / np.float32(255))
    return np.asarray(image, np.float32) / np.float32(255 if image.mode == "L" else 1)


def orientation(image: Image.Image) -> int:
    """Read how the camera was held, 1 to 8; upright if the metadata cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever damaged metadata makes Pillow raise
        return 1


def of_16_bits(values: NDArray[np.float32]) -> Grey:
    """Scale to 0 to 1: cameras and scanners store 10, 12 or 14 bits in 16."""
    bits = max(8, int(np.quantile(values, 0.999)).bit_length())  # a single hot pixel decides nothing
    return np.minimum(values / np.float32(2**bits - 1), 1)


def on_paper(grey_and_alpha: NDArray[np.float32]) -> Grey:
    """Lay a partly transparent picture (height, width, 2) on paper.

    If most of it is opaque and has several shades, the paper is seen, and its shade goes on. Otherwise the ink alone is
    seen, and the paper is black below light ink and white below dark ink.
    """
    grey, alpha = grey_and_alpha[..., 0], grey_and_alpha[..., 1]
    opaque = grey[alpha > 0.5]
    if not opaque.size:
        return np.ones_like(grey)
    darkest, shade, lightest = np.quantile(opaque, [0.05, 0.5, 0.95])
    paper_is_seen = opaque.size > grey.size / 2 and lightest - darkest > CONTRAST
    paper = np.float32(shade if paper_is_seen else shade < 0.5)
    return paper + alpha * (grey - paper)
