"""Everything that a commit records of its run, read through the owners of the files.

A field that a commit lacks is None or empty, and is shown as not recorded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages import confusion, environment, history, params, predictions, report
from stages.confusion import Counts
from stages.environment import Environment
from stages.errors import InputError
from stages.report import Report
from tools import ROOT, md5_of
from tools.runs import evidence
from tools.runs.lock import PATH, Lock
from tools.runs.revision import (
    WORKSPACE,
    Revision,
    differs_from_head,
    read,
    read_lock,
    read_text,
    resolve,
    workspace,
)

REQUIREMENTS = Path("requirements.txt")


@dataclass(frozen=True)
class Run:
    """What lies at a revision."""

    revision: Revision
    lock: Lock
    params: Mapping[str, Any]  # that the stages ran with, by section.name
    report: Report
    history: pd.DataFrame
    predictions: pd.DataFrame
    own: pd.DataFrame  # predictions of test pictures of our own, of which there may be none
    environment: Environment | None  # what decided the bits of the training beside its inputs
    missing: str  # why the environment is not there, and the command that gets it
    packages: Mapping[str, str]  # versions, by name; empty if requirements.txt is not that of the run
    not_run: list[str]  # which files of the commit differ from those that the stages ran with

    def __str__(self) -> str:
        return str(self.revision)

    @property
    def counts(self) -> Counts:
        """The test images by actual (rows) and predicted digit (columns)."""
        return confusion.count(self.predictions["actual"], self.predictions["predicted"])


RECORDED = (
    PATH,
    params.PATH,
    REQUIREMENTS,
    report.PATH,
    history.PATH,
    predictions.PATH,
    predictions.OWN_PATH,
    confusion.PATH,
)


def current(repo: str | Path = ROOT) -> Revision:
    """Return the current run: the workspace if it differs from HEAD in what is recorded of a run, or else HEAD."""
    return workspace(repo) if differs_from_head(repo, RECORDED) else resolve("HEAD", repo)


def find(name: str, repo: str | Path = ROOT) -> Revision:
    """Find a revision by its name, which may be that of the workspace."""
    return workspace(repo) if name == WORKSPACE else resolve(name, repo)


def load(of: Revision) -> Run:
    """Read everything that a revision records of its run.

    Raises `InputError` if a file is missing that is in git, is not what the stages write, or disagrees with another.
    """
    lock, found = read_lock(of), evidence.load(of)
    record, missing = None, ""
    if environment.PATH.as_posix() in lock.hashes:
        try:
            record = read(of, environment.PATH, environment.parse)
        except InputError as error:
            missing = str(error)
    ran_with = flat(lock.params)
    packages, other_packages = read_packages(of, lock)
    return Run(
        of,
        lock,
        ran_with,
        found.report,
        read(of, history.PATH, history.parse),
        found.predictions,
        found.own,
        record,
        missing,
        packages,
        [*other_params(of, ran_with), *other_packages],
    )


def other_params(of: Revision, ran_with: Mapping[str, Any]) -> list[str]:
    """Say which parameters of the commit's params.yaml are not those that the stages ran with."""

    def parse(text: str, name: str) -> Any:
        return params.parse(text.encode(), name, limit=params.LIMIT)

    try:
        values = read(of, params.PATH, parse)
    except InputError as error:
        return [str(error)]
    in_file = flat(values) if isinstance(values, dict) else {}
    names = [name for name in {**ran_with, **in_file} if ran_with.get(name, _NONE) != in_file.get(name, _NONE)]
    if not names:
        return []
    differences = ", ".join(
        f"{name} is {in_file.get(name, 'absent')} there and was {ran_with.get(name, 'absent')} in the run"
        for name in names
    )
    return [f"{params.PATH} {of.place} is not what the stages ran with: {differences}; {of.remake}"]


_NONE = object()


def read_packages(of: Revision, lock: Lock) -> tuple[dict[str, str], list[str]]:
    """Read the versions of the packages, or say that requirements.txt is not that of the run."""
    content = read_text(of, REQUIREMENTS)
    found = md5_of(content.encode())
    if lock.deps.get(REQUIREMENTS.as_posix()) not in (None, found):
        return {}, [f"{REQUIREMENTS} {of.place} is not that of the run, so its packages are not shown; {of.remake}"]
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", content, re.MULTILINE)), []


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested values by their whole path, with dots between."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        result |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result
