"""MNIST (LeCun, Cortes, Burges): where its files are, how to fetch and verify them, how to read IDX."""

import gzip
import os
import signal
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests
import urllib3
from numpy.typing import NDArray
from tqdm import tqdm

from stages.errors import InputError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MIRROR_VARIABLE = "MNIST_MIRROR"

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


def mirrors() -> tuple[str, ...]:
    """Name the sources in the order in which they are tried: $MNIST_MIRROR, a URL or a folder, comes first."""
    own = os.environ.get(MIRROR_VARIABLE)
    return (own, *MIRRORS) if own else MIRRORS


def fetch(
    files: Iterable[IdxFile],
    sources: Sequence[str],
    *,
    cache: Path | None = None,
    retries: int = RETRIES,
    silence: float = SILENCE,
    deadline: float = DEADLINE,
) -> list[Path]:
    """Return the paths of verified files in the user's cache folder, downloading those that are not there.

    A source, a URL or a folder, that fails for one file is not asked for the next.
    Raises `InputError` with the reason of every source if none of them has a file.
    """
    folder = cache or pooch.os_cache("mnist-lstm")
    reasons: dict[str, str] = {}
    paths = []
    for file in files:
        end = time.monotonic() + deadline
        left = [source for source in sources if source not in reasons]
        for number, source in enumerate(left):
            store = pooch.create(
                path=folder,
                base_url=source.rstrip("/") + "/",
                registry={file.name: f"sha256:{file.sha256}"},
                retry_if_failed=retries,
            )
            part = (end - time.monotonic()) / (len(left) - number)
            download = _Download(file, silence=silence, until=time.monotonic() + part)
            try:
                paths.append(Path(store.fetch(file.name, downloader=download)))
                break
            except (requests.RequestException, _SourceError, ValueError) as error:
                reasons[source] = " ".join(str(error).split())
        else:
            raise InputError(_no_source(file, reasons))
    return paths


def _no_source(file: IdxFile, reasons: dict[str, str]) -> str:
    tried = "; ".join(f"{source}: {reason}" for source, reason in reasons.items())
    return (
        f"{file.name}: no source has it. Tried {tried}. Ways out: set {MIRROR_VARIABLE} to a URL or a folder "
        "with the four files, fetch the team's copy with `dvc pull`, or try the pipeline without MNIST: `make demo`"
    )


class _SourceError(Exception):
    """A source cannot be read, and trying again would not help. (An `OSError` is of this machine's cache folder.)"""


class _Download:
    """Pooch's way to be given a downloader: called with a URL and the file to write."""

    def __init__(self, file: IdxFile, *, silence: float, until: float) -> None:
        self.file = file
        self.silence = silence
        self.until = until

    def __call__(self, url: str, output: str, _: pooch.Pooch) -> None:
        with Path(output).open("wb") as target, _deadline(self.until):
            if urlsplit(url).scheme in ("http", "https"):
                self._stream(url, target)
            else:
                try:
                    source = Path(url).expanduser().open("rb")
                except OSError as error:
                    raise _SourceError(error) from None
                with source:
                    target.write(source.read(self.file.size + 1))

    def _stream(self, url: str, target: BinaryIO) -> None:
        address = urlsplit(url)
        if address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("plain http is for this machine only; use https")
        with (
            requests.get(
                url, stream=True, timeout=self.silence, headers={"Accept-Encoding": "identity"}, allow_redirects=False
            ) as response,
            tqdm(total=self.file.size, desc=self.file.name, unit="B", unit_scale=True, disable=None) as progress,
        ):
            response.raise_for_status()
            if response.is_redirect:
                raise ValueError(f"redirects to {response.headers['Location']}: name that instead")
            try:
                received = 0
                while chunk := response.raw.read1(1 << 16):
                    progress.update(len(chunk))
                    received += len(chunk)
                    if received > self.file.size:
                        raise ValueError(f"expected {self.file.size:,} bytes, found more")
                    target.write(chunk)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from None


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
