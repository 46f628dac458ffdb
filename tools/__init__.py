"""What people run around the pipeline, in packages; docs/development.md says which may import which."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import NoReturn

from stages.errors import InputError  # from here on, an error while a module is imported is one line

ROOT = Path(__file__).resolve().parents[1]  # of the repository


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        spec = sys.modules["__main__"].__spec__  # none where a test calls the tool
        raise InputError(f"{message}; `python -m {spec.name if spec else 'TOOL'} --help` says what is allowed")


def make_parser(documentation: str | None) -> argparse.ArgumentParser:
    """Make a tool's parser, described by the first line of its documentation (which `python -OO` leaves out).

    It raises `InputError` for arguments that it does not take.
    """
    return _Parser(description=(documentation or "").partition("\n")[0])


def md5_of(content: bytes) -> str:
    """Return the MD5, by which DVC names files."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
