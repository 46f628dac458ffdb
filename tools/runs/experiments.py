"""All runs of a repository: the current run, every registered version and every experiment, read in one go.

A repository may have a thousand. So only what a table shows is read, and of dvc.lock only the parameters are parsed.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pygit2

from stages import history, report
from stages.errors import InputError
from stages.report import Report
from tools import ROOT
from tools.runs import about, lock, versions
from tools.runs.about import About
from tools.runs.revision import LIMIT, Revision, git_errors, opened, read_text
from tools.runs.run import current, flat


@dataclass(frozen=True)
class Entry:
    """What a table of runs shows of one."""

    name: str
    about: About
    params: dict[str, Any]
    made_of: frozenset[tuple[str, str]]  # the MD5 of code, requirements and data that it depends on, by path
    report: Report
    history: pd.DataFrame


def load_all(repo: str | Path = ROOT) -> tuple[list[Entry], list[str]]:
    """Read every run. Return also, for each run that cannot be read, its name and the reason."""
    entries, faults = [], []
    for name, source in _named(repo):
        try:
            text = source.read(lock.PATH)
            entry = Entry(
                name,
                source.about,
                flat(lock.parse(without_files(text), str(lock.PATH)).params),
                frozenset(DEPENDENCY.findall(text)),
                report.parse(source.read(report.PATH), str(report.PATH)),
                history.parse(source.read(history.PATH), str(history.PATH)),
            )
        except InputError as error:
            faults.append(f"{name}: {error}")
        else:
            entries.append(entry)
    return entries, faults


@dataclass(frozen=True)
class _Source:
    """Where a run's files are: in a commit's tree, or in the folder."""

    about: About
    tree: pygit2.Tree | None
    prefix: Path  # of the project in the tree
    folder: Revision

    def read(self, path: Path) -> str:
        if self.tree is None:
            return read_text(self.folder, path)
        try:
            blob = self.tree[(self.prefix / path).as_posix()]
        except KeyError:
            raise InputError(f"{path}: there is no such file") from None
        if not isinstance(blob, pygit2.Blob) or blob.size > LIMIT:
            raise InputError(f"{path}: expected a file of at most {LIMIT:,} bytes")
        try:
            return blob.data.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: expected text in UTF-8 ({error})") from None


def _named(repo: str | Path) -> Iterator[tuple[str, _Source]]:
    """Find every run: the one here, the commit here, the versions, and the experiments, each the newest first."""
    here = current(repo)
    with git_errors(repo), opened(str(repo)) as (dvc, git):
        prefix = Path(dvc.root_dir).resolve().relative_to(Path(git.workdir).resolve())

        def source(commit: pygit2.Commit, *, is_experiment: bool = False) -> _Source:
            return _Source(about.of_commit(git, commit, is_experiment=is_experiment), commit.tree, prefix, here)

        if not here.commit:
            yield str(here), _Source(about.describe(here), None, prefix, here)
        yield "HEAD", source(git[git.head.target].peel(pygit2.Commit))
        for version in reversed(versions.registered(dvc.scm)):
            yield version.tag, source(git[version.commit].peel(pygit2.Commit))
        found = {name: git[commit].peel(pygit2.Commit) for name, commit in about.experiments(git).items()}
        names = {reference: reference.split("/", 4)[-1] for reference in found}
        count = Counter(names.values())
        for reference, commit in sorted(found.items(), key=lambda each: -each[1].commit_time):
            name = names[reference]
            # Experiments of different commits may have one name. `git describe` writes such names, and git reads them.
            yield name if count[name] == 1 else f"{name}-0-g{commit.short_id}", source(commit, is_experiment=True)


# Code, requirements and data as DVC writes them among a stage's dependencies.
DEPENDENCY = re.compile(r"^    - path: ([\w./-]+\.(?:py|txt|npz))\n      hash: md5\n      md5: (\w+)$", re.MULTILINE)


def without_files(text: str) -> str:
    """Leave out the lists of files of a dvc.lock, which are most of it and take most of the time."""
    kept, keeps = [], True
    for line in text.splitlines(keepends=True):
        if key := re.match(r" {0,4}([^ -].*?):", line):
            keeps = key[1] not in ("deps", "outs")
        if keeps:
            kept.append(line)
    return "".join(kept)
