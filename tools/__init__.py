"""What people run around the pipeline, in packages; docs/development.md says which may import which."""

import argparse
import hashlib
from pathlib import Path

from stages import errors  # noqa: F401 - from here on, an error while a module is imported is one line

ROOT = Path(__file__).resolve().parents[1]  # of the repository


def make_parser(documentation: str | None) -> argparse.ArgumentParser:
    """Make a tool's parser, described by the first line of its documentation (which `python -OO` leaves out)."""
    return argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])


def md5_of(content: bytes) -> str:
    """Return the MD5, by which DVC names files."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
