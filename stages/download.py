"""Verified files from mirrors, from a folder, or from this repository's own data."""

import os
import re
import shlex
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import pooch
import requests
from tqdm import tqdm
from urllib3.util import parse_url

from stages import mnist
from stages.errors import InputError
from stages.mnist import RAW, IdxFile

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MIRROR_VARIABLE = "MNIST_MIRROR"
REPOSITORY = f"{RAW} at HEAD"  # in DVC's cache, or else its storage
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

SILENCE = 20  # seconds without a byte, after which a connection is closed
DEADLINE = 600  # seconds for one file, retries included; the remaining sources share the remaining time
RETRIES = 2  # after a first failure


def sources() -> list[str]:
    """Name the sources in the order in which they are tried: $MNIST_MIRROR, which is a URL or a folder, comes first."""
    own = os.environ.get(MIRROR_VARIABLE)
    return [*([own] if own else []), *MIRRORS, *([REPOSITORY] if (_root() / ".dvc").is_dir() else [])]


def _root() -> Path:
    """Find the repository. It is not the working folder if DVC runs an experiment in a temporary folder."""
    return Path(os.environ.get("DVC_ROOT", "."))


@contextmanager
def cache_folder() -> Iterator[Path]:
    """Yield the user's cache folder, or a temporary one if that neither has all files whole nor can be written to."""
    folder = pooch.os_cache("mnist-lstm")
    try:
        if not all(_is_whole(folder / file.name, file) for file in mnist.FILES):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror
    else:
        yield folder
        return
    print(
        f"note: {folder} cannot be written to ({reason}), so downloads are not kept; "
        "set XDG_CACHE_HOME to another folder",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="mnist-lstm-") as temporary:
        yield Path(temporary)


def _is_whole(path: Path, file: IdxFile) -> bool:
    return path.is_file() and os.access(path, os.R_OK) and pooch.file_hash(str(path)) == file.sha256


def fetch(
    files: Iterable[IdxFile],
    sources: Sequence[str],
    *,
    cache: Path,
    retries: int = RETRIES,
    silence: float = SILENCE,
    deadline: float = DEADLINE,
) -> list[Path]:
    """Return the paths of verified files in a cache folder, downloading those that are not there.

    A source, which is a URL, a folder or `REPOSITORY`, is not asked for the next file if it fails for one.
    Raises `InputError` with the reason of every source if none of them has a file.
    """
    pooch.get_logger().setLevel("ERROR")
    reasons: dict[str, str] = {}
    paths = []
    for file in files:
        end = time.monotonic() + deadline
        left = [source for source in sources if source not in reasons]
        for number, source in enumerate(left):
            store = pooch.create(
                path=cache,
                base_url="",
                registry={file.name: f"sha256:{file.sha256}"},
                urls={file.name: _address(source, file.name)},
                retry_if_failed=retries if _is_url(source) else 0,
            )
            part = (end - time.monotonic()) / (len(left) - number)
            download = _downloader(source, file, silence=silence, until=time.monotonic() + part)
            try:
                paths.append(Path(store.fetch(file.name, downloader=download)))
                break
            except (requests.RequestException, _SourceError, ValueError) as error:
                reasons[source] = _without_secrets(str(error)[:5_000])
            except (IsADirectoryError, PermissionError) as error:
                path = cache / file.name
                raise InputError(
                    f"{path}: cannot be read ({error.strerror or error}); remove it: `rm -r {shlex.quote(str(path))}`"
                ) from None
        else:
            raise InputError(_no_source(file, reasons))
    return paths


def _no_source(file: IdxFile, reasons: dict[str, str]) -> str:
    tried = "; ".join(f"{_without_secrets(source)}: {reason}" for source, reason in reasons.items())
    return (
        f"{file.name}: no source has it. Ways out: try the pipeline without MNIST: `make demo`; "
        f"set {MIRROR_VARIABLE} to a URL or a folder with the four files; "
        f"or fetch the team's copy with `dvc pull`. Tried {tried}"
    )


def _is_url(source: str) -> bool:
    return ":/" in source


def _address(source: str, name: str) -> str:
    """Add the name of a file to a folder, or to a URL before its query."""
    folder, mark, query = source.partition("?") if _is_url(source) else (source, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def _without_secrets(text: str) -> str:
    """Remove user, password and query from all URLs, malformed ones too, and shorten the text."""
    shown = re.sub(r"(:/+)(?:[^/\s]*:(?!\d+/)\S*|[^/?#\s]*)@|\?\S*", r"\1", text)
    return textwrap.shorten(shown, 400, placeholder="...")


class _SourceError(Exception):
    """A source cannot be read, and a retry would not help. (An `OSError` concerns this machine's cache folder.)"""


def _downloader(source: str, file: IdxFile, *, silence: float, until: float) -> Callable[[str, str, pooch.Pooch], None]:
    """Make what Pooch calls with an address and the path to write to."""

    def download(address: str, output: str, store: pooch.Pooch) -> None:
        with Path(output).open("wb") as target, _deadline(until):
            if not _is_url(source):
                target.write(_read(source, address, file))
                return
            _check(address)
            with tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None) as progress:
                stream = pooch.HTTPDownloader(
                    progressbar=progress,
                    chunk_size=1 << 16,
                    timeout=silence,
                    headers={"Accept-Encoding": "identity"},
                    hooks={"response": _check_redirect},
                )
                try:
                    stream(address, _Limited(target, file.size), store)
                except OSError as error:
                    # Requests has no exception of its own for settings of TLS that name no file.
                    if isinstance(error, requests.RequestException) or error.errno:
                        raise
                    raise _SourceError(error) from None

    return download


def _read(source: str, address: str, file: IdxFile) -> bytes:
    """Read a file, but not much more than its size, from a folder or from this repository."""
    try:
        if source == REPOSITORY:
            import dvc.api  # noqa: PLC0415 - takes half a second

            opened = dvc.api.DVCFileSystem(str(_root()), rev="HEAD").open(str(RAW / file.name))
        else:
            opened = Path(address).expanduser().open("rb")
        with opened as content:
            return content.read(file.size + 1)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - each kind of storage has errors of its own
        raise _SourceError(error) from None


class _Limited:
    """What Pooch needs of a file, which ends with a `ValueError` before it grows above a size."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.flush = file.flush

    def write(self, chunk: bytes) -> None:
        if self.file.tell() + len(chunk) > self.size:
            raise ValueError(f"expected {self.size:,} bytes, found more")
        self.file.write(chunk)


def _check_redirect(response: requests.Response, **_: object) -> None:
    """Check where a redirect leads, before `requests` follows it."""
    if response.is_redirect:
        response.close()  # without its body, which may be endless
        _check(response.headers["Location"], response.url)


def _check(address: str, base: str = "") -> None:
    try:
        url = parse_url(urljoin(base, address))
    except ValueError:  # its message may quote a part of a password
        raise _SourceError("not a URL; write special characters of user and password as %40 and the like") from None
    if url.scheme != "https" and (url.scheme != "http" or url.host not in LOOPBACK):
        raise _SourceError(
            f"expected https, found {url.scheme}://{url.host or ''}: plain http is for this machine only"
        )


@contextmanager
def _deadline(until: float) -> Iterator[None]:
    """End the block with a `ValueError` at a moment of the monotonic clock; works in the main thread."""

    def end(*_: object) -> None:
        raise ValueError("not finished by the deadline")

    remaining = until - time.monotonic()
    if remaining <= 0:
        end()
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, remaining)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
