"""What a person sees when the input is at fault: one line, exit code 1, no traceback."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

# The remedy for a damaged output.
RESTORE = "restore it with `dvc checkout --force`, or remove it and run `dvc repro`"


class InputError(Exception):
    """The input is at fault; the message says what, where, expected, found and the remedy."""


@contextmanager
def remedied(text: str) -> Iterator[None]:
    """Append a remedy to the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; {text}") from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line for an `InputError`, a file-system error or Ctrl-C."""
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        sys.exit(_line(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


@contextmanager
def interrupted_at_once(output: int = 2) -> Iterator[None]:
    """End the process at Ctrl-C, with one word to a file descriptor and exit code 130, and unwind nothing.

    For TensorFlow, imported or computing: an exception raised within it may be lost, or leave damaged memory behind.
    """

    def end(*_: object) -> None:
        os.write(output, b"\ninterrupted\n" if os.isatty(output) else b"interrupted\n")
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Add a remedy to the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None


def _line(error: BaseException) -> str:
    message = " ".join(str(error).split()) or "out of memory"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        message += "; make room and run `dvc repro` again"
    return f"error: {message}"


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Keep to one line before `one_line_errors` can: while a stage is still being imported."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif isinstance(error, OSError):
        print(_line(error), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _tell
