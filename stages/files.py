"""Files and folders that appear whole or not at all."""

import fcntl
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.errors import FULL, InputError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DEFLATED = 1_032  # no zip file holds more than this many bytes in one


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path on the same disk, and move it to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path), _folder_beside(path) as folder:
        temporary = folder / path.name  # with its suffix, by which some libraries choose the format
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if path.is_dir():
            path.replace(folder / f"{path.name}.old")
        temporary.replace(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file's name to the error of a full disk. Python names no file if a write to an open file fails."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Make a hidden folder for this block alone, and remove those that killed processes left.

    A file in the folder is locked by the operating system as long as its process lives, whatever the container. Where
    locks are not supported, as on some network disks, no other folder is removed.
    """
    start, lock_name = f".{path.stem}.unfinished-", f"{path.name}.lock"
    for other in path.parent.iterdir():
        if other.name.startswith(start) and other.name.endswith(path.suffix):
            with suppress(OSError), (other / lock_name).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other)
    folder = Path(tempfile.mkdtemp(path.suffix, start, path.parent))
    try:
        with (folder / f"{path.name}.new").open("w") as lock:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(lock.name).rename(folder / lock_name)  # locked before another process can find it
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises `InputError` if it is missing or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8 ({error})") from None


def load_arrays(source: Path | BinaryIO, *names: str) -> list[NDArray[Any]]:
    """Read arrays of an .npz, each to its end, where its checksum is.

    A damaged header makes NumPy alone stop before that, or take all memory.
    """
    arrays = []
    with (
        source.open("rb") if isinstance(source, Path) else nullcontext(source) as whole,
        zipfile.ZipFile(whole) as archive,
    ):
        size = whole.seek(0, os.SEEK_END)
        for name in names:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as file:
                if member.file_size > size * (1 if member.compress_type == zipfile.ZIP_STORED else DEFLATED):
                    raise ValueError(f"{name} claims {member.file_size:,} bytes in a file of {size:,}")
                _check_header(file, member.file_size)
                file.seek(0)
                arrays.append(np.lib.format.read_array(file, allow_pickle=False))
    return arrays


def _check_header(file: IO[bytes], size: int) -> None:
    """Compare the size that an array's header claims with what is there, before memory is taken.

    Raises `ValueError` if they differ.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = HEADERS[version](file)
    claimed, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != found and not dtype.hasobject:
        raise ValueError(f"the header claims {claimed:,} bytes, {found:,} are there")
