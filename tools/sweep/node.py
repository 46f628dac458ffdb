"""What the trials of one node share: a folder with a mirror of the git remote, DVC's cache, checkpoints, and cores."""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pooch


def folder(url: str) -> Path:
    """Return the folder of this node for the trials of one git remote."""
    return _top() / hashlib.sha256(url.encode()).hexdigest()[:16]


def _top() -> Path:
    return Path(pooch.os_cache("mnist-lstm")) / "sweeps"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock of this node. The operating system releases it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Cores:
    """Cores of this node that no other trial has until these are released.

    The numbers are empty where so many cores are not free, or where processes cannot be bound to cores.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._locks: list[IO[str]] = []

    def take(self, count: int) -> None:
        """Take as many cores."""
        if sys.platform != "linux":
            return
        for number in sorted(os.sched_getaffinity(0)):
            path = _top() / "cores" / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self.numbers.append(number)
            self._locks.append(lock)
            if len(self.numbers) == count:
                return
        self.release()

    def release(self) -> None:
        """Leave the cores to others."""
        for lock in self._locks:
            lock.close()
        self.numbers, self._locks = [], []
