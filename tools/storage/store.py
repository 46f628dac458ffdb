"""What the team's storage holds of a commit, as DVC's store of objects."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dvc
from dvc.repo import Repo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.base import ObjectFileSystem

from stages.errors import InputError
from stages.terminal import printable
from tools.runs.revision import git_errors, refuse_hostile_pipeline, resolve

NAME = "storage"  # of the remote
CREDENTIALS = (
    "for S3, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or keep your keys in this clone: "
    f"`dvc remote modify --local {NAME} access_key_id ID` and the same with secret_access_key"
)


def open_storage(repo: Repo) -> Any:
    """Give the storage as DVC's store of objects.

    Raises `InputError` if there is none, or if it needs a package that is not installed.
    """
    with storage_errors():
        return repo.cloud.get_remote_odb()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn every error of DVC and of the storage into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"the storage is not there: {error}; make its bucket or folder, or correct the URL") from error
    except PermissionError as error:
        raise InputError(f"the storage refuses: {error}; {CREDENTIALS}") from error
    except Exception as error:
        if package := re.search(r"dvc-(\w+)", str(error) if isinstance(error, ImportError) else ""):
            install = f"{sys.executable} -m pip install 'dvc[{package[1]}]=={dvc.__version__}'"
            raise InputError(f"the storage needs the package {package[0]}: {install}") from error
        if "credentials" in str(error):
            raise InputError(f"the storage refuses: {error}; {CREDENTIALS}") from error
        raise InputError(f"the storage cannot be reached or used: {str(error) or type(error).__name__}") from error


class Stored(NamedTuple):
    """A file of a commit as the storage holds it."""

    path: str  # as it is shown
    md5: str
    size: int | None  # where dvc.lock says it
    folder: str | None = None  # md5 of the list that the file is named in
    damaged: bool = False  # a list that cannot be read


def files(repo: Repo, storage: Any, rev: str) -> list[Stored]:
    """List what the storage must hold of a commit: each file, and of each folder also the list of its files."""
    found: list[Stored] = []
    refuse_hostile_pipeline(resolve(rev, repo.root_dir))
    with git_errors(repo.root_dir), repo.switch(rev):
        for out in repo.index.outs:
            if not (out.use_cache and out.hash_info):
                continue
            path, md5 = printable(str(Path(out.fs_path).relative_to(repo.root_dir))), out.hash_info.value
            if not out.hash_info.isdir:
                found.append(Stored(path, md5, out.meta.size))
                continue
            listed = out.get_obj() or _list_of_folder(storage, out.hash_info)
            found.append(Stored(path, md5, None, damaged=listed is None))
            found += [Stored(printable("/".join((path, *parts))), of.value, None, md5) for parts, _, of in listed or ()]
    return found


def _list_of_folder(storage: Any, md5: Any) -> Iterable[Any] | None:
    """Read a folder's list of files from the storage; nothing if it is missing, and None if it is damaged."""
    with storage_errors():
        try:
            return Tree.load(storage, md5)
        except FileNotFoundError:
            return ()
        except ObjectFormatError:
            return None


def unavailable(repo: Repo, rev: str = "HEAD", push: str = "dvc push") -> list[str]:
    """Name each file of a commit that other clones cannot get, with the reason and the command that helps."""
    storage = open_storage(repo)
    if note_folder(storage) and "CI" in os.environ:
        print("note: in CI this folder is not checked, since each run is on another machine", file=sys.stderr)
        return []
    wanted = files(repo, storage, rev)
    sizes = sizes_of(storage, wanted)
    found = []
    for file in wanted:
        match sizes[file.md5]:
            case FileNotFoundError():
                # DVC takes a folder whose list is there for complete.
                incomplete = file.folder is not None and not isinstance(sizes[file.folder], OSError)
                remedy = "make repair" if incomplete else push
                found.append(f"{file.path}: not in the storage; run `{remedy}` in a clone that has it")
            case PermissionError() as error:
                place = storage.oid_to_path(file.md5)
                found.append(f"{file.path}: the storage refuses {place}: {error}; ask who runs it; {CREDENTIALS}")
            case _ if file.damaged:
                found.append(f"{file.path}: damaged in the storage; run `make repair` in a clone that has it")
            case size if None not in {size, file.size} and size != file.size:
                found.append(
                    f"{file.path}: damaged in the storage, {size} bytes instead of {file.size}; "
                    "run `make repair` in a clone that has it"
                )
    return found


def sizes_of(storage: Any, wanted: Iterable[Stored]) -> dict[str, int | OSError | None]:
    """Ask the storage for the size of each object, many at once: None if it is not known, or why there is no object.

    Object storages list a thousand objects in one request. So they are not asked for each file of a folder, whose size
    no commit records.
    """
    asked = {file.md5 for file in wanted if file.folder is None}
    listed = {file.md5 for file in wanted} - asked
    sizes: dict[str, int | OSError | None] = {}
    with storage_errors():
        if listed and isinstance(storage.fs, ObjectFileSystem):
            try:
                there = set(storage.oids_exist(listed))
            except PermissionError:
                asked |= listed  # without the right to list, each object can still be asked for
            else:
                sizes = {md5: None if md5 in there else FileNotFoundError() for md5 in listed}
        else:
            asked |= listed
        names = sorted(asked)
        infos = storage.fs.info([storage.oid_to_path(name) for name in names], return_exceptions=True)
        for name, info in zip(names, infos, strict=True):
            if isinstance(info, FileNotFoundError) and (fault := http_fault(storage, info)):
                raise fault
            if isinstance(info, FileNotFoundError | PermissionError):
                sizes[name] = info
            elif isinstance(info, Exception):
                raise info
            else:
                sizes[name] = info["size"]
    return sizes


def http_fault(store: Any, error: FileNotFoundError) -> BaseException | None:
    """Return why an HTTP server did not say whether it has a file. fsspec takes each such reason for a missing file."""
    if store.fs.protocol not in {"http", "https"} or getattr(error.__cause__, "status", None) in {404, 410}:
        return None
    return error.__cause__


def note_folder(storage: Any) -> bool:
    """Return whether the storage is a folder, and note that other machines do not reach it."""
    if storage.fs.protocol != "local":
        return False
    folder = Path(storage.path).parents[1]
    print(f"note: the storage is the folder {folder}: only machines that have it get the data", file=sys.stderr)
    return True
