"""Pictures that people drew and named, saved for a later training: folder/<digit>/<hash of the content>.png."""

import fcntl
import hashlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from stages.errors import FULL, InputError
from stages.find_digit import Grey

PICTURES = 10_000
BYTES = 200 * 1024**2  # of all pictures; one has at most 400 x 400 shades of grey, so 160 kB
LOCK, UNFINISHED = ".lock", ".unfinished"


class FullError(Exception):
    """There is no room for another picture."""


class Collection:
    """A folder of pictures. Its limits hold for all that is in it, whichever process wrote it."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises `InputError` if files cannot be written into it.
        """
        self.folder = folder
        self.lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOCK).touch()
        except OSError as error:
            raise InputError(f"{folder}: no picture can be saved here: {error.strerror}; name another") from None

    def save(self, grey: Grey, digit: int) -> str:
        """Save a picture, whole or not at all, and return its name. The same picture is saved once.

        Raises `FullError` if a limit is reached or the disk is full.
        """
        file = io.BytesIO()
        Image.fromarray(np.round(grey * 255).astype(np.uint8)).save(file, "PNG")
        content = file.getvalue()
        name = f"{digit}/{hashlib.sha256(content).hexdigest()}.png"
        try:
            with self.alone():
                if not (self.folder / name).exists():
                    self.check_room(len(content))
                    self.write(name, content)
        except OSError as error:
            if error.errno in FULL:
                raise FullError(f"the picture is not saved: {error.strerror}") from None
            raise
        return name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other thread and no other process save. The operating system ends the lock of a killed process."""
        with suppress(FileExistsError):  # somebody may have moved the folder away with its pictures
            self.folder.mkdir()
            print(f"note: {self.folder} was gone, and is made again", file=sys.stderr)
        with self.lock, (self.folder / LOCK).open("w") as lock:
            with suppress(OSError):  # some network disks have no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def check_room(self, size: int) -> None:
        sizes = [path.stat().st_size for path in self.folder.glob("[0-9]/[0-9a-f]*.png")]
        if len(sizes) >= PICTURES or sum(sizes) + size > BYTES:
            raise FullError(f"the collection is full: {len(sizes):,} pictures, {sum(sizes):,} bytes")

    def write(self, name: str, content: bytes) -> None:
        # Always the same name, so a kill leaves at most one such file, which the next save writes anew.
        unfinished = self.folder / UNFINISHED
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            (self.folder / name).parent.mkdir(exist_ok=True)
            unfinished.replace(self.folder / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
