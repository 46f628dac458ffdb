"""Set the storage of data and models for every clone of the team: `make storage URL=s3://bucket/path`.

The storage is named in .dvc/config, which is committed. Keys are in .dvc/config.local, which is not committed.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dvc.config import Config
from dvc.fs import LocalFileSystem
from dvc.repo import Repo

from stages.errors import InputError, one_line_errors
from stages.terminal import printable
from tools import make_parser, md5_of
from tools.runs.revision import git_errors
from tools.storage.store import NAME, note_folder, open_storage, storage_errors

CONFIG, LOCAL = Path(".dvc/config"), Path(".dvc/config.local")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("url", help="s3://bucket/path, a folder, or another URL that `dvc remote add` takes")
    parser.add_argument("--endpoint", help="address of an S3 server other than Amazon's")
    arguments = parser.parse_args()
    if {*"{}"} & {*arguments.url}:
        raise InputError(f"{arguments.url}: DVC does not work with a storage whose path has {{ or }}; name one without")
    for value in (arguments.url, arguments.endpoint or ""):
        if not value.isascii():
            raise InputError(
                f"{printable(value)}: DVC writes no letters outside ASCII to {CONFIG}; name a storage without"
            )
    with restored_on_failure(CONFIG, LOCAL), git_errors(Path.cwd()):
        configure(arguments.url, arguments.endpoint)
        with Repo() as repo:
            storage = open_storage(repo)
            try_out(storage)
    print(f"{arguments.url} can be written and read; commit {CONFIG}, then `dvc push`")
    note_folder(storage)


@contextmanager
def restored_on_failure(*paths: Path) -> Iterator[None]:
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        raise


def configure(url: str, endpoint: str | None) -> None:
    """Write the storage to .dvc/config and, for S3, the keys of the environment to .dvc/config.local.

    Settings of an earlier storage of another kind are removed. A URL or another storage of this clone alone would hide
    the new one, so it is removed too.
    """
    settings = {"url": url, "verify": "true"} | ({"endpointurl": endpoint} if endpoint else {})
    with storage_errors():
        # Validate only after both edits: the new storage may not know the keys of the earlier one.
        both = Config(str(CONFIG.parent), validate=False)
        with both.edit("repo", validate=False) as config:
            earlier = config["remote"].get(NAME, {}).get("url", "")
            config["remote"][NAME] = settings
            config["core"]["remote"] = NAME
        LOCAL.touch(mode=0o600)
        LOCAL.chmod(0o600)  # before it holds keys
        with both.edit("local") as config:
            config["core"].pop("remote", None)
            own = config["remote"].pop(NAME, {})
            if scheme(own.pop("url", earlier)) != scheme(url):
                own = {}
            if scheme(url) == "s3":
                own |= keys()
            config["remote"][NAME] = own


def scheme(url: str) -> str:
    return urlsplit(url).scheme


def keys() -> dict[str, str]:
    """Read permanent S3 keys from the environment. Keys with a session token expire within hours, so skip them."""
    names = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    if "AWS_SESSION_TOKEN" in os.environ or not all(name in os.environ for name in names.values()):
        return {}
    return {option: os.environ[name] for option, name in names.items()}


def try_out(storage: Any) -> None:
    """Write a small object, read it back and, except from an HTTP server, remove it."""
    content = uuid.uuid4().bytes
    name = md5_of(content)
    with tempfile.TemporaryDirectory() as folder, storage_errors():
        file = Path(folder, name)
        file.write_bytes(content)
        storage.add(str(file), LocalFileSystem(), name)
        found = storage.fs.cat_file(storage.oid_to_path(name))
        with suppress(NotImplementedError):  # over HTTP
            storage.delete(name)
    if found != content:
        raise InputError("the storage returned other bytes than were written")


if __name__ == "__main__":
    with one_line_errors():
        main()
