"""Where a model comes from: the workspace, or a registered version, a stage or any other revision of a clone."""

import functools
from contextlib import suppress
from dataclasses import dataclass, field

from stages import archive
from stages.errors import InputError
from stages.files import replacing
from tools import ROOT, md5_of
from tools.serve.inference import cache

MISSING = (
    f"{archive.PATH}: not found; `make repro` trains it in some minutes, `dvc pull` fetches it from the storage; "
    "`make demo` trains a small one in a minute, for MODEL=demo"
)


@dataclass(frozen=True)
class Source:
    """A model's archive and what is known about it."""

    name: str  # as it was asked for
    content: bytes = field(repr=False)
    commit: str | None = None  # None of the workspace's
    version: str | None = None  # v1.2.0, if its commit is registered
    card: str | None = None  # of the version

    def __str__(self) -> str:
        version = f" ({self.version})" if self.version else ""
        return f"{self.name}{version} with the MD5 {self.md5}"

    @functools.cached_property
    def md5(self) -> str:
        return md5_of(self.content)


def workspace() -> Source:
    """Read the workspace's model.

    Raises `InputError` if there is none.
    """
    try:
        return Source(str(archive.PATH), (ROOT / archive.PATH).read_bytes())
    except FileNotFoundError:
        raise InputError(MISSING) from None


def fetch(name: str, repo: str = str(ROOT)) -> Source:
    """Read a revision's model from the user's cache folder, or from the cache or the storage of a clone."""
    # DVC takes a second to import, which the workspace's model does not need.
    from tools.runs import lock  # noqa: PLC0415
    from tools.runs.revision import opened, read_bytes, read_lock, remove_clones, resolve  # noqa: PLC0415
    from tools.runs.versions import message, registered  # noqa: PLC0415

    try:
        of = resolve(name, repo)
        md5 = read_lock(of).hashes.get(archive.PATH.as_posix())
        if md5 is None:
            raise InputError(f"{lock.PATH} at {name}: names no {archive.PATH}")
        path = cache() / f"{md5}.keras"
        content = b""
        with suppress(OSError):
            content = path.read_bytes()
        if md5_of(content) != md5:
            content = read_bytes(of, archive.PATH)
            with suppress(OSError), replacing(path) as temporary:  # a cache that cannot be written is only slower
                temporary.write_bytes(content)
        with opened(repo) as (dvc, _):
            version = next((each for each in reversed(registered(dvc.scm)) if each.commit == of.commit), None)
            card = message(dvc.scm, version) if version else None
        return Source(name, content, of.commit, version.name if version else None, card)
    finally:
        remove_clones()
