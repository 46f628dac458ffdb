"""What a person sees when the input is at fault: one line, exit code 1, no traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
        message = " ".join(str(error).split()) or "out of memory"
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            message += "; make room and run `dvc repro` again"
        sys.exit(f"error: {message}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
