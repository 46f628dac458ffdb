"""What lies at a revision: a commit, branch, tag, experiment, registered version or stage, without checking it out."""

import atexit
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.open_repo import clean_repos
from dvc.scm import RevError, resolve_rev
from scmrepo.exceptions import SCMError

from stages.errors import InputError
from tools import registry
from tools.storage import todays_storage

ROOT = Path(__file__).resolve().parents[1]
LOCK = "dvc.lock"
REMAKE = "check it out, run `dvc repro` and commit the result"  # the remedy for a commit that is not whole

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
    if versioned := re.fullmatch(rf"{registry.ARTIFACT}@(?P<version>v\d.*)?(?P<stage>.*)", name):
        found = registry.find_version if versioned["version"] else registry.find_holder
        return found(scm, versioned["version"] or versioned["stage"]).commit
    try:
        return str(resolve_rev(scm, name))
    except RevError:
        raise InputError(
            f"{name}: no commit, branch, tag or experiment here; `git fetch --tags` gets those of others, "
            f"`dvc exp pull origin {name}` an experiment"
        ) from None


def read_text(revision: Revision, path: str) -> str:
    """Read a text file, tracked by git or by DVC."""
    try:
        return read_bytes(revision, path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} at {revision}: expected text in UTF-8 ({error})") from None


def read_values(revision: Revision, path: str) -> dict[str, Any]:
    """Read a file of JSON or YAML.

    Raises `InputError` if it is not names and values.
    """
    read = json.loads if path.endswith(".json") else yaml.safe_load
    try:
        values = read(read_text(revision, path))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} at {revision}: not readable: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} at {revision}: expected names and values, found {type(values).__name__}")
    return values


def read_bytes(revision: Revision, path: str) -> bytes:
    """Read a file tracked by git, or by DVC from the cache or else the storage.

    Raises `InputError` if it is not there, or not the one that dvc.lock names.
    """
    try:
        content: bytes = _files(revision).read_bytes(path)
    except FileNotFoundError:
        raise InputError(_missing(revision, path)) from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - each kind of storage has its own way to say that it cannot
        raise InputError(f"{path} at {revision}: not readable: {error}") from None
    expected = hashes(revision).get(path) if path != LOCK else None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()  # DVC's choice
    if expected not in (None, found):
        raise InputError(
            f"{path} at {revision}: expected the file with the MD5 {expected} that {LOCK} names there, found {found}; "
            "if the file is in git, the commit mixes two runs: check it out, run `dvc repro` and commit the result; "
            f"if not, remove files/md5/{expected[:2]}/{expected[2:]} from the cache or the storage, and push it again "
            "from a clone that has it"
        )
    return content


@functools.cache
def hashes(revision: Revision) -> Mapping[str, str]:
    """Read the hash of every output from dvc.lock, by its path."""
    return {
        out["path"]: out["md5"]
        for stage in lock(revision)["stages"].values()
        for out in stage.get("outs", [])
        if "md5" in out
    }


@functools.cache
def lock(revision: Revision) -> Any:
    """Read dvc.lock."""
    content = read_text(revision, LOCK)
    try:
        read = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise InputError(f"{LOCK} at {revision}: not readable as YAML: {error}; {REMAKE}") from None
    if not (isinstance(read, dict) and isinstance(read.get("stages"), dict)):
        raise InputError(f"{LOCK} at {revision}: records no run; {REMAKE}")
    return read


@functools.cache
def _files(revision: Revision) -> DVCFileSystem:
    with Repo.open(revision.repo, uninitialized=True) as today:
        config = todays_storage(today)
    return DVCFileSystem(revision.repo, rev=revision.commit, config=config)


def _missing(revision: Revision, path: str) -> str:
    if path == LOCK:
        return f"{revision} has no {LOCK}, so no run; {REMAKE}"
    if path not in hashes(revision):
        return f"{path}: there is no such file at {revision}"
    if path not in {out.def_path for out in _files(revision).repo.index.outs if out.use_cache}:
        return f"{path} at {revision}: not in the commit, though {LOCK} names it there; {REMAKE}"
    return (
        f"{path} at {revision}: neither in the cache nor in the storage; whoever has it pushes it with "
        f"`dvc push --all-commits {path}`, or of an experiment with `dvc exp push origin {revision}`"
    )
