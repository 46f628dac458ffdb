"""All that a commit records of its run, read through the owners of the files.

A commit may lack what a later one records: that is None, or an empty mapping, and is shown as not recorded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages import environment, history, predictions, report
from stages.environment import Environment
from stages.errors import InputError
from stages.report import Report
from tools.runs.lock import Lock
from tools.runs.revision import Revision, read, read_lock, read_text

REQUIREMENTS = Path("requirements.txt")


@dataclass(frozen=True)
class Run:
    """What lies at a revision."""

    revision: Revision
    lock: Lock
    params: Mapping[str, Any]  # by section.name
    report: Report
    history: pd.DataFrame
    predictions: pd.DataFrame
    environment: Environment | None  # processor and packages that trained
    missing: str  # why the environment is not there, and the command that gets it
    packages: Mapping[str, str]  # versions, by name

    def __str__(self) -> str:
        return self.revision.name


def load(of: Revision) -> Run:
    """Read a revision's evidence.

    Raises `InputError` if a file is missing that is in git, or is not what the stages write.
    """
    lock = read_lock(of)
    record, missing = None, ""
    if environment.PATH.as_posix() in lock.hashes:
        try:
            record = read(of, environment.PATH, environment.parse)
        except InputError as error:
            missing = str(error)
    return Run(
        of,
        lock,
        flat(lock.params),
        read(of, report.PATH, report.parse),
        read(of, history.PATH, history.parse),
        read(of, predictions.PATH, predictions.parse),
        record,
        missing,
        dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", read_text(of, REQUIREMENTS), re.MULTILINE)),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested values by their whole path, with dots between."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        result |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result
