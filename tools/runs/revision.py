"""What lies at a revision: a commit, branch, tag, experiment, registered version or stage, without checking it out."""

import atexit
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.open_repo import clean_repos
from dvc.scm import RevError, resolve_rev
from scmrepo.exceptions import SCMError

from stages.errors import InputError, remedied
from tools import ROOT
from tools.runs import lock, versions
from tools.runs.lock import Lock

REMAKE = "check it out, run `dvc repro` and commit the result"  # the remedy for a commit that is not whole

Content = TypeVar("Content")

atexit.register(clean_repos)  # the clones of URLs, which DVC leaves in the temporary folder


@dataclass(frozen=True)
class Revision:
    """A commit of a repository, and the name it was asked for by."""

    name: str
    commit: str  # 40 hexadecimal digits
    repo: str  # folder or URL

    def __str__(self) -> str:
        return self.name


def resolve(name: str, repo: str | Path = ROOT) -> Revision:
    """Find the commit behind a name: whatever git knows, an experiment, `lstm@v1.2.0`, or `lstm@STAGE`.

    Raises `InputError` if there is none.
    """
    try:
        with Repo.open(str(repo), uninitialized=True) as opened:
            return Revision(name, _commit(opened.scm, name), str(repo))
    except (DvcException, SCMError) as error:
        raise InputError(f"{repo}: not readable as a git repository with DVC: {error}") from None


def _commit(scm: Any, name: str) -> str:
    if versioned := re.fullmatch(rf"{versions.ARTIFACT}@(?P<version>v\d.*)?(?P<stage>.*)", name):
        found = versions.find_version if versioned["version"] else versions.find_holder
        return found(scm, versioned["version"] or versioned["stage"]).commit
    try:
        return str(resolve_rev(scm, name))
    except RevError:
        raise InputError(
            f"{name}: no commit, branch, tag or experiment here; `git fetch --tags` gets those of others, "
            f"`dvc exp pull origin {name}` an experiment"
        ) from None


def read(revision: Revision, path: Path, parse: Callable[[str, str], Content]) -> Content:
    """Read a text file with its owner's `parse`, which takes the text and the name for messages."""
    text = read_text(revision, path)
    with remedied(REMAKE):
        return parse(text, f"{path} at {revision}")


def read_text(revision: Revision, path: str | Path) -> str:
    """Read a text file, tracked by git or by DVC."""
    try:
        return read_bytes(revision, path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} at {revision}: expected text in UTF-8 ({error})") from None


def read_bytes(revision: Revision, path: str | Path) -> bytes:
    """Read a file tracked by git, or by DVC from the cache or else the storage.

    Raises `InputError` if the file is not there, or if its MD5 is not the one that dvc.lock names.
    """
    name = Path(path).as_posix()
    try:
        content: bytes = _files(revision).read_bytes(name)
    except FileNotFoundError:
        raise InputError(_missing(revision, name)) from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - each kind of storage has its own way to say that it cannot
        raise InputError(f"{path} at {revision}: not readable: {error}") from None
    expected = read_lock(revision).hashes.get(name) if name != lock.PATH.as_posix() else None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()  # DVC's choice
    if expected not in (None, found):
        raise InputError(
            f"{path} at {revision}: expected the file with the MD5 {expected} that {lock.PATH} names, found {found}; "
            "if the file is in git, the commit mixes two runs: check it out, run `dvc repro` and commit the result; "
            f"if not, remove files/md5/{expected[:2]}/{expected[2:]} from the cache or the storage, and push it again "
            "from a clone that has it"
        )
    return content


@functools.cache
def read_lock(revision: Revision) -> Lock:
    """Read dvc.lock."""
    return read(revision, lock.PATH, lock.parse)


@functools.cache
def _files(revision: Revision) -> DVCFileSystem:
    with Repo.open(revision.repo, uninitialized=True) as today:
        config = todays_storage(today)
    return DVCFileSystem(revision.repo, rev=revision.commit, config=config)


def todays_storage(repo: Repo) -> dict[str, Any]:
    """Return the settings of today's storage, for a commit that may name an earlier one."""
    name = repo.config["core"].get("remote")
    remotes = repo.config["remote"]
    return {"core": {"remote": name}, "remote": {name: dict(remotes[name])}} if name in remotes else {}


def _missing(revision: Revision, path: str) -> str:
    if path == lock.PATH.as_posix():
        return f"{revision} has no {path}, so no run; {REMAKE}"
    if path not in read_lock(revision).hashes:
        return f"{path}: there is no such file at {revision}"
    if path not in {out.def_path for out in _files(revision).repo.index.outs if out.use_cache}:
        return f"{path} at {revision}: not in the commit, though {lock.PATH} names it there; {REMAKE}"
    return (
        f"{path} at {revision}: neither in the cache nor in the storage; whoever has it pushes it with "
        f"`dvc push --all-commits {path}`, or of an experiment with `dvc exp push origin {revision}`"
    )
