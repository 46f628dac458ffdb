"""MNIST (LeCun, Cortes, Burges): where its files are, how to fetch and verify them, how to read IDX."""

import gzip
import os
import re
import shlex
import signal
import sys
import tempfile
import textwrap
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import numpy as np
import pooch
import requests
from numpy.typing import NDArray
from tqdm import tqdm
from urllib3.util import parse_url

from stages.errors import InputError

RAW = Path("data/raw")  # where the stage puts the files, and where this repository's commits have them

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MIRROR_VARIABLE = "MNIST_MIRROR"
REPOSITORY = f"{RAW} at HEAD"  # in DVC's cache, or else its storage
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

SILENCE = 20  # seconds without a byte, after which a connection is given up
DEADLINE = 600  # seconds for one file, of which each source that is left may take its part, retries included
RETRIES = 2  # after a first failure


@dataclass(frozen=True)
class IdxFile:
    """One of the official files: its name, size in bytes, SHA-256, and the shape of its array of bytes."""

    name: str
    size: int
    sha256: str
    shape: tuple[int, ...]


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte.gz",
    9_912_422,
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    (60_000, 28, 28),
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte.gz",
    28_881,
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    (60_000,),
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte.gz",
    1_648_877,
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    (10_000, 28, 28),
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte.gz",
    4_542,
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    (10_000,),
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def sources() -> list[str]:
    """Name the sources in the order in which they are tried: $MNIST_MIRROR, which is a URL or a folder, comes first."""
    own = os.environ.get(MIRROR_VARIABLE)
    return [*([own] if own else []), *MIRRORS, *([REPOSITORY] if (_root() / ".dvc").is_dir() else [])]


def _root() -> Path:
    """Find the repository, which is not the working folder where DVC runs an experiment in a folder of its own."""
    return Path(os.environ.get("DVC_ROOT", "."))


@contextmanager
def cache_folder() -> Iterator[Path]:
    """Give the user's cache folder, or a temporary folder if the user's can neither be written to nor has the files."""
    folder = pooch.os_cache("mnist-lstm")
    try:
        if not all((folder / file.name).is_file() for file in FILES):
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
                    f"{path}: cannot be read ({error.strerror}); remove it: `rm -r {shlex.quote(str(path))}`"
                ) from None
        else:
            raise InputError(_no_source(file, reasons))
    return paths


def _no_source(file: IdxFile, reasons: dict[str, str]) -> str:
    tried = "; ".join(f"{_without_secrets(source)}: {reason}" for source, reason in reasons.items())
    return (
        f"{file.name}: no source has it. Tried {tried}. Ways out: set {MIRROR_VARIABLE} to a URL or a folder "
        "with the four files, fetch the team's copy with `dvc pull`, or try the pipeline without MNIST: `make demo`"
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
    """A source cannot be read, and trying again would not help. (An `OSError` is of this machine's cache folder.)"""


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
                stream(address, _Limited(target, file.size), store)

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


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes that must have this very shape.

    The format: two zero bytes, the type (0x08: unsigned byte), the number of dimensions, a big-endian
    32-bit size for each, the items (http://yann.lecun.com/exdb/mnist/).
    Raises `InputError` naming what was expected and found.
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}; remove it and run `dvc repro`") from None
    if content[:4] != header[:4]:
        raise InputError(f"{path}: expected IDX magic {header[:4].hex()}, found {content[:4].hex()}")
    if content[: len(header)] != header:
        found = tuple(np.frombuffer(content[4 : len(header)].ljust(len(header) - 4, b"\0"), ">u4").tolist())
        raise InputError(f"{path}: expected dimensions {shape}, found {found}")
    if len(content) != size:
        more_or_less = "more" if len(content) > size else f"{len(content) - len(header):,}"
        raise InputError(f"{path}: expected {size - len(header):,} items, found {more_or_less}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def read_labels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an IDX file of labels, which must be digits."""
    labels = read_idx(path, shape)
    if labels.max() > 9:
        at = int(labels.argmax())
        raise InputError(f"{path}: expected labels 0-9, found {labels[at]} at item {at:,}")
    return labels
