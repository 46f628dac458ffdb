"""What a person sees when the input is at fault: one line, exit code 1, no traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

# The remedy for a damaged output.
RESTORE = "bring it back with `dvc checkout --force`, or remove it and run `dvc repro`"


class InputError(Exception):
    """The input is at fault; the message says what, where, expected, found and the remedy."""


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
