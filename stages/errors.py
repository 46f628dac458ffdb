"""Errors of the input: one line, exit code 1, no traceback."""

import errno
import importlib.util
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from stages.terminal import printable

# The remedy for a damaged output.
RESTORE = "restore it with `dvc checkout --force`, or remove it and run `dvc repro`"

INTERRUPTED = "interrupted; run the same command again to go on"

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of a disk, a quota, or the largest file that is allowed

# What the dynamic loader says where an imported library finds no memory, or may not be executed.
_NOT_MAPPED = ("failed to map segment from shared object", "cannot allocate memory")


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
    """End the process with one line for an `InputError`, a file-system error, lack of memory or Ctrl-C."""
    try:
        yield
    except Exception as error:
        if not needs_one_line(error):
            raise
        sys.exit(_line(error))
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)


@contextmanager
def interrupted_at_once(release: Callable[[], object] = lambda: None) -> Iterator[None]:
    """End the process at Ctrl-C, with one line, exit code 130 and no unwinding, after a call of `release`.

    For TensorFlow, imported or computing: an exception raised within it may be lost, or leave damaged memory behind.
    """

    def end(*_: object) -> None:
        release()
        os.write(2, b"\n" * os.isatty(2) + f"{INTERRUPTED}\n".encode())
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def needs_one_line(error: BaseException) -> bool:
    """Tell whether a line says all of an error: the input, the file system or lack of memory, not the code."""
    if isinstance(error, ImportError):
        return _not_mapped(error) is not None
    return isinstance(error, (InputError, OSError, MemoryError)) or _is_memory_of_tensorflow(error)


def _is_memory_of_tensorflow(error: BaseException) -> bool:
    """Tell whether TensorFlow lacks memory. Its class is known by name, since this module starts without TensorFlow."""
    return type(error).__name__ == "ResourceExhaustedError"


def _not_mapped(error: ImportError) -> str | None:
    """Find the line about a library that was not loaded into memory."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if any(text in line.lower() for text in _NOT_MAPPED)), None)


def _line(error: BaseException) -> str:
    message = "" if _is_memory_of_tensorflow(error) else " ".join(str(error).split())
    message = message or (type(error).__name__ if isinstance(error, OSError) else "out of memory")
    if isinstance(error, IsADirectoryError):
        message += "; expected a file"
    if isinstance(error, OSError) and error.errno in FULL:
        message += "; make room and run the same command again"
    if isinstance(error, ImportError):
        message = f"out of memory, or a file system mounted noexec: {_not_mapped(error)}"
    return f"error: {printable(message)}"


ROOT = Path(__file__).resolve().parents[1]  # of the repository


def _without_environment() -> str:
    """Say that this Python has no packages, and how to run the command in the environment."""
    programs = ROOT / ".venv/bin"
    export = f"export PATH={shlex.quote(str(programs))}:$PATH"
    told = f"the packages are not installed for {sys.executable}"
    if not (programs / "python").exists():
        return f"{told}; `make setup` in {ROOT} installs the environment, then `{export}`"
    if Path(sys.executable).parent == programs:
        return f"{told}; `make -B .venv/installed-dev` in {ROOT} installs all packages"
    return f"{told}; `{export}` finds the environment's Python"


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print one line for an error during the import of a stage, before `one_line_errors` is active."""
    if isinstance(error, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    elif needs_one_line(error):
        print(_line(error), file=sys.stderr)
    elif isinstance(error, ModuleNotFoundError) and importlib.util.find_spec("numpy") is None:
        print(f"error: {_without_environment()}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _tell
