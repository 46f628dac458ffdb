"""What lies at a revision: a commit, branch, tag, experiment, registered version or stage, without checking it out."""

import atexit
import functools
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pygit2
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.experiments.exceptions import InvalidExpRefError
from dvc.scm import RevError, clone, resolve_rev
from pydantic import TypeAdapter
from scmrepo.exceptions import SCMError

from stages import params
from stages.errors import InputError, remedied
from tools import ROOT, md5_of
from tools.runs import lock, versions
from tools.runs.lock import Lock

QUOTED = 500  # characters of a message about a file
LIMIT = 64 * 1024**2  # bytes of a file in git; the committed ones have up to 270,000
REMAKE = "check it out, run `dvc repro` and commit the result"  # the remedy for a commit that is not whole

Content = TypeVar("Content")


@dataclass(frozen=True)
class Revision:
    """A commit of a repository and the name it was asked for by, or the files in a repository's folder."""

    name: str
    commit: str  # 40 hexadecimal digits; empty for the folder's files
    repo: str  # folder or URL

    def __str__(self) -> str:
        return self.name if self.commit else f"{self.name} (not committed)"

    @property
    def place(self) -> str:
        """Where its files are, for messages."""
        return f"at {self.name}" if self.commit else f"in the {self.name}"

    @property
    def remake(self) -> str:
        """The remedy for a revision that is not whole."""
        return REMAKE if self.commit else "run `dvc repro`; REV=HEAD names the committed run"


class NotHereError(InputError):
    """A file of a revision is neither in git or the workspace, nor in the cache or the storage."""


WORKSPACE = "workspace"


def workspace(repo: str | Path = ROOT) -> Revision:
    """Return the files in a repository's folder, whether they are committed or not."""
    return Revision(WORKSPACE, "", str(repo))


def differs_from_head(repo: str | Path, paths: Iterable[Path]) -> bool:
    """Tell whether one of the files differs between HEAD and the repository's folder."""
    with git_errors(repo), opened(str(repo)) as (dvc, git):
        if git.head_is_unborn:
            raise InputError(f"{repo}: nothing is committed yet; commit the files with `git add . && git commit`")
        unchanged = (pygit2.GIT_STATUS_CURRENT, pygit2.GIT_STATUS_IGNORED)
        for path in paths:
            with suppress(KeyError):  # neither in HEAD nor in the folder
                if git.status_file(_path_in_git(dvc, git, path.as_posix())) not in unchanged:
                    return True
        return False


def resolve(name: str, repo: str | Path = ROOT) -> Revision:
    """Find the commit behind a name: whatever git knows, an experiment, `lstm@v1.2.0`, or `lstm@STAGE`.

    Raises `InputError` if there is none.
    """
    with git_errors(repo), opened(str(repo)) as (dvc, git):
        try:
            commit = _commit(dvc.scm, name)
        except InputError as error:
            if git.is_shallow:
                deeper = str(error).replace(
                    "`git fetch --tags`", "this clone is shallow, `git fetch --unshallow --tags`"
                )
                raise InputError(deeper) from None
            raise
        try:
            return Revision(name, str(git[commit].peel(pygit2.Commit).id), str(repo))
        except pygit2.InvalidSpecError:
            raise InputError(f"{name}: expected a commit, found a file or folder in one") from None


def _commit(scm: Any, name: str) -> str:
    if versioned := re.fullmatch(rf"{versions.ARTIFACT}@(?P<version>v\d.*)?(?P<stage>.*)", name):
        found = versions.find_version if versioned["version"] else versions.find_holder
        return found(scm, versioned["version"] or versioned["stage"]).commit
    try:
        # DVC would take an empty name for HEAD.
        return str(resolve_rev(scm, name or "no name"))
    except RevError:
        if same := [scm.get_ref(ref)[:10] for ref in scm.iter_refs("refs/exps/") if ref.endswith(f"/{name}")]:
            raise InputError(
                f"{name}: {len(same)} experiments of different commits have this name; name one by its own commit: "
                f"{' or '.join(same)}"
            ) from None
        raise InputError(
            f"{name}: no commit, branch, tag or experiment here; `git fetch --tags` gets those of others, "
            f"`dvc exp pull origin {name}` an experiment"
        ) from None


@contextmanager
def opened(repo: str) -> Iterator[tuple[Repo, pygit2.Repository]]:
    """Open a repository, which is a folder or a URL, as DVC and as git see it."""
    with Repo(_folder(repo), uninitialized=True) as dvc:
        yield dvc, pygit2.Repository(dvc.scm.root_dir)


@functools.cache
def _folder(repo: str) -> str:
    """Return the folder of a repository: its own or, of a URL or a bare repository, that of a clone.

    DVC has clones of its own for this, and leaves half of them in the temporary folder.
    """
    if Path(repo).exists() and not _is_bare(repo):
        return repo
    folder = tempfile.mkdtemp(prefix="mnist-lstm-")
    atexit.register(remove_clones)
    _clones.append(folder)
    clone(repo, folder).close()
    return folder


_clones: list[str] = []


def remove_clones() -> None:
    """Remove the clones of URLs: at the end, or earlier where a process may end without one."""
    _folder.cache_clear()
    while _clones:
        shutil.rmtree(_clones.pop(), ignore_errors=True)


def _is_bare(folder: str) -> bool:
    try:
        return pygit2.Repository(folder).is_bare
    except pygit2.GitError:
        return False


@contextmanager
def git_errors(repo: str | Path) -> Iterator[None]:
    """Turn the errors of DVC and libgit2 about a repository that they cannot read into one line."""
    try:
        yield
    except (DvcException, SCMError, pygit2.GitError, RecursionError) as error:
        if isinstance(error, InvalidExpRefError):
            remove = f"git update-ref -d {shlex.quote(error.ref)}"
            raise InputError(
                f"{error.ref}: no name of an experiment; DVC finds no experiment by its name while git has this "
                f"reference; `{remove}` removes it"
            ) from None
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason, cause = (" ".join(str(each).split()) for each in (error, first))
        if cause not in reason:
            reason += f": {cause}"
        if isinstance(error, LockError):
            raise InputError(f"{repo}: DVC is busy: {reason.rstrip('.')}; then run the same command again") from None
        if "is not owned by" in reason:
            allow = f"git config --global --add safe.directory {shlex.quote(str(Path(repo).resolve()))}"
            raise InputError(f"{repo}: it belongs to another user; `{allow}` makes git read it") from None
        if re.search("object not found|unable to read tree", reason, re.IGNORECASE):
            raise InputError(
                f"{repo}: this clone lacks an object ({reason}); in a partial clone, "
                "`git fetch --refetch --no-filter` gets all objects"
            ) from None
        raise InputError(f"{repo}: not readable as a git repository with DVC: {reason}") from None


def read(revision: Revision, path: Path, parse: Callable[[str, str], Content]) -> Content:
    """Read a text file with its owner's `parse`, which takes the text and the name for messages."""
    text, name = read_text(revision, path), f"{path} {revision.place}"
    with remedied(revision.remake):
        try:
            return parse(text, name)
        except RecursionError:
            raise InputError(f"{name}: nested too deeply") from None
        except InputError as error:
            message = str(error)  # which may quote the file
            raise InputError(message if len(message) <= QUOTED else f"{message[:QUOTED]}...") from None


def read_text(revision: Revision, path: str | Path) -> str:
    """Read a text file, tracked by git or by DVC."""
    try:
        return read_bytes(revision, path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} {revision.place}: expected text in UTF-8 ({error})") from None


def read_bytes(revision: Revision, path: str | Path) -> bytes:
    """Read a file tracked by git, or by DVC from the cache or else the storage.

    Raises `NotHereError` if the file is not there, and `InputError` if it cannot be read, or if its MD5 is not the one
    that dvc.lock names.
    """
    name = Path(path).as_posix()
    with git_errors(revision.repo), opened(revision.repo) as (dvc, git):
        content = _in_git(dvc, git, revision, name) if revision.commit else _in_folder(dvc, revision, name)
        expected = read_lock(revision).hashes.get(name) if name != lock.PATH.as_posix() else None
        # What git does not ignore belongs in the commit.
        is_stored = git.path_is_ignored(_path_in_git(dvc, git, name))
        if content is None and is_stored:
            try:
                expected, content = _in_store(dvc, read_lock(revision), name)
            except (InputError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - each kind of storage has its own way to say that it cannot
                raise InputError(f"{path} {revision.place}: not readable: {error}") from None
        if content is None:
            raise NotHereError(_missing(revision, name, expected, is_stored=is_stored))
    found = md5_of(content)
    if expected not in (None, found):
        if not revision.commit:
            raise InputError(
                f"{path} {revision.place}: not the file that {lock.PATH} names: a run is under way or was "
                f"interrupted, or the file was edited; {revision.remake}"
            )
        raise InputError(
            f"{path} at {revision}: expected the file with the MD5 {expected} that {lock.PATH} names, found {found}; "
            "if the file is in git, the commit mixes two runs: check it out, run `dvc repro` and commit the result; "
            f"if not, remove files/md5/{expected[:2]}/{expected[2:]} from the cache or the storage, and push it again "
            "from a clone that has it"
        )
    return content


def refuse_hostile_pipeline(revision: Revision) -> None:
    """Read the pipeline's files that DVC reads, within limits that DVC does not have.

    Raises `InputError` for a file that would take DVC minutes or all memory.
    """
    with git_errors(revision.repo), opened(revision.repo) as (dvc, git):
        for name in ("dvc.yaml", lock.PATH.as_posix()):
            content = _in_git(dvc, git, revision, name)
            if content is not None:
                params.parse(content, f"{name} at {revision}", limit=lock.LIMIT)


def _in_git(dvc: Repo, git: pygit2.Repository, revision: Revision, name: str) -> bytes | None:
    """Read a file of the commit, without DVC, which would read all of its pipeline."""
    try:
        blob = git[revision.commit].peel(pygit2.Commit).tree[_path_in_git(dvc, git, name)]
    except pygit2.GitError:
        raise
    except KeyError:
        return None
    if not isinstance(blob, pygit2.Blob):
        raise InputError(f"{name} at {revision}: expected a file, found a {blob.type_str}")
    if blob.size > LIMIT:
        raise InputError(f"{name} at {revision}: expected at most {LIMIT:,} bytes, found {blob.size:,}")
    return blob.data


def _in_folder(dvc: Repo, revision: Revision, name: str) -> bytes | None:
    path = Path(dvc.root_dir) / name
    try:
        if path.stat().st_size > LIMIT:
            raise InputError(f"{name} {revision.place}: expected at most {LIMIT:,} bytes, found more")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _path_in_git(dvc: Repo, git: pygit2.Repository, name: str) -> str:
    """Return the path of a file from git's top, which may be above the project."""
    return (Path(dvc.root_dir).resolve().relative_to(Path(git.workdir).resolve()) / name).as_posix()


class Listed(lock.Section):
    """A file in a folder, as the folder's list names it."""

    relpath: str
    md5: lock.Md5


def _in_store(dvc: Repo, recorded: Lock, name: str) -> tuple[str | None, bytes | None]:
    """Return the MD5 that a run records of a file, and what the cache or else the storage holds under it."""
    md5 = recorded.hashes.get(name)
    for folder in () if md5 else Path(name).parents:
        content = _object(dvc, recorded.hashes.get(folder.as_posix(), ""))
        if content is not None:
            listed = TypeAdapter(list[Listed]).validate_json(content)
            md5 = {each.relpath: each.md5 for each in listed}.get(Path(name).relative_to(folder).as_posix())
    return md5, _object(dvc, md5 or "")


def _object(dvc: Repo, md5: str) -> bytes | None:
    """Return the object of the first store that has it whole, or else a damaged one."""
    content = None
    for store in _stores(dvc) if md5 else ():
        try:
            content = bytes(store.fs.cat_file(store.oid_to_path(md5)))
        except FileNotFoundError:
            continue
        if md5_of(content) == md5.removesuffix(".dir"):
            break
    return content


def _stores(dvc: Repo) -> Iterator[Any]:
    """Give the cache and, where today's settings name one, the storage."""
    if dvc.cache.local:
        yield dvc.cache.local
    if dvc.config["core"].get("remote"):
        yield dvc.cloud.get_remote_odb()


def read_lock(revision: Revision) -> Lock:
    """Read dvc.lock."""
    return _committed_lock(revision) if revision.commit else read(revision, lock.PATH, lock.parse)


@functools.cache
def _committed_lock(revision: Revision) -> Lock:
    return read(revision, lock.PATH, lock.parse)


def _missing(revision: Revision, path: str, md5: str | None, *, is_stored: bool) -> str:
    if path == lock.PATH.as_posix():
        return f"{revision} has no {path}, so no run; {revision.remake}"
    if md5 is None:
        return f"{path}: there is no such file {revision.place}"
    if not is_stored:
        return (
            f"{path} {revision.place}: not {'in the commit' if revision.commit else 'there'}, though {lock.PATH} names "
            f"it there; {revision.remake}"
        )
    if not revision.commit:
        return f"{path} {revision.place}: neither there nor in the cache nor in the storage; `make repro` makes it"
    # At another commit than that of the workspace, DVC does not find a storage with a relative path.
    check_out = "" if revision.name == "HEAD" else f"git checkout {revision.commit[:10]} && "
    return (
        f"{path} {revision.place}: neither in the cache nor in the storage; `{check_out}dvc push` in a clone that has "
        f"it shares it; `{check_out}make repro` makes it here"
    )
