"""Files and folders that appear whole or not at all."""

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or folder to, and move it there once the block has succeeded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary, old = (path.with_name(_temporary_name(path, f"{os.getpid()}{mark}")) for mark in ("", "-old"))
    try:
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if path.is_dir():
            path.replace(old)
        temporary.replace(path)
    finally:
        _remove(temporary)
        _remove(old)


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

    A damaged header makes NumPy alone stop before that.
    """
    arrays = []
    with zipfile.ZipFile(source) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as file:
                arrays.append(np.lib.format.read_array(file, allow_pickle=False))
                if file.read():
                    raise ValueError(f"more in {name} than its header says")
    return arrays


def _temporary_name(path: Path, process: str) -> str:
    """Keep the suffix, by which some libraries choose the format."""
    return f".{path.stem}.{process}{path.suffix}"


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left half written."""
    name = re.compile(re.escape(_temporary_name(path, "@")).replace("@", r"(\d+)(-old)?"))
    for other in path.parent.iterdir():
        # Its own number is that of an earlier process: in a container they begin anew.
        if (found := name.fullmatch(other.name)) and (int(found[1]) == os.getpid() or not _is_alive(int(found[1]))):
            _remove(other)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
