import gzip
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stages import mnist
from stages.errors import InputError
from stages.mnist import IdxFile, fetch, read_idx, read_labels


def idx(*shape: int, items: bytes, magic: bytes | None = None) -> bytes:
    """An IDX file by the letter of its format, compressed."""
    header = (magic or bytes([0, 0, 8, len(shape)])) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + items, mtime=0)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "images-idx3-ubyte.gz"
    path.write_bytes(content)
    return path


# Reading


def test_literal_bytes_are_read(tmp_path: Path) -> None:
    literal = b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03\x00\x01\x02\xfd\xfe\xff"
    images = read_idx(written(tmp_path, gzip.compress(literal, mtime=0)), (2, 1, 3))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [[[0, 1, 2]], [[253, 254, 255]]])


def test_sizes_are_big_endian(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b"\x00\x00\x08\x01\x00\x00\x01\x02" + bytes(258), mtime=0))
    assert read_idx(path, (258,)).shape == (258,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(2, 2, items=b"1234", magic=b"\x00\x00\x0d\x02"), "expected IDX magic 00000802, found 00000d02"),
        (idx(2, 2, items=b"1234", magic=b"\x01\x00\x08\x02"), "expected IDX magic 00000802, found 01000802"),
        (idx(2, 2, 1, items=b"1234"), "expected IDX magic 00000802, found 00000803"),
        (idx(2, 3, items=b"123456"), r"expected dimensions \(2, 2\), found \(2, 3\)"),
        (idx(2, 2, items=b"123"), "expected 4 items, found 3"),
        (idx(2, 2, items=b"12345"), "expected 4 items, found more"),
        (gzip.compress(b"\x00\x00\x08\x02\x00", mtime=0), r"expected dimensions \(2, 2\), found \(0, 0\)"),
        (gzip.compress(b"", mtime=0), "expected IDX magic 00000802, found $"),
        (b"<html>not found</html>", "damaged gzip file"),
        (b"", "expected IDX magic 00000802, found $"),
        (idx(2, 2, items=b"1234")[:-9], "damaged gzip file"),
        (idx(2, 2, items=b"1234")[:-5] + b"\0" * 5, "damaged gzip file"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_idx(written(tmp_path, content), (2, 2))
    assert "images-idx3-ubyte.gz" in str(error.value)


def test_a_file_that_unpacks_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    endless = idx(2, 2, items=b"1234" + bytes(1_000_000))
    without_its_end = written(tmp_path, endless[:-8])
    # Reading on would meet the end that is missing.
    with pytest.raises(InputError, match="found more"):
        read_idx(without_its_end, (2, 2))


def test_labels_are_digits(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_labels(written(tmp_path, idx(3, items=b"\x00\x09\x05")), (3,)), [0, 9, 5])
    with pytest.raises(InputError, match="expected labels 0-9, found 10 at item 1"):
        read_labels(written(tmp_path, idx(3, items=b"\x00\x0a\x05")), (3,))


@pytest.mark.skipif(
    not Path(os.environ.get("MNIST_MIRROR", "none"), mnist.TEST_IMAGES.name).exists(),
    reason="MNIST_MIRROR names no folder with the official files",
)
def test_the_official_files(tmp_path: Path) -> None:
    paths = fetch(mnist.FILES, [os.environ["MNIST_MIRROR"]], cache=tmp_path)
    for file, path in zip(mnist.FILES, paths, strict=True):
        assert path.stat().st_size == file.size
    labels = read_labels(paths[1], (60_000,)), read_labels(paths[3], (10_000,))
    assert np.bincount(labels[0]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels[1]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert labels[0][:5].tolist() == [5, 0, 4, 1, 9]
    # The well-known mean of the training images.
    assert round(read_idx(paths[0], (60_000, 28, 28)).mean() / 255, 4) == 0.1307
    read_idx(paths[2], (10_000, 28, 28))


# Fetching, from a real server

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = IdxFile("file.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), (1,))

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A server on loopback; gives its URL and the paths asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/", asked
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def sends(
    content: bytes, *, status: int = 200, length: int | None = None, pause: float = 0, piece: int = 1 << 20
) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        for start in range(0, len(content), piece):
            request.wfile.write(content[start : start + piece])
            time.sleep(pause)

    return answer


def hangs(_: BaseHTTPRequestHandler) -> None:
    time.sleep(2)


def redirects(request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", "http://192.0.2.1/")
    request.end_headers()


def sends_without_end(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(bytes(1 << 16))


def trickles_headers(request: BaseHTTPRequestHandler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Comment: " + bytes(b"a" * 1000):
        request.wfile.write(bytes([byte]))
        time.sleep(0.1)


def fetched(sources: list[str], cache: Path, *, silence: float = 0.8, deadline: float = 2, retries: int = 0) -> bytes:
    (path,) = fetch([FILE], sources, cache=cache, retries=retries, silence=silence, deadline=deadline)
    return path.read_bytes()


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    with server(sends(CONTENT)) as (url, asked):
        assert fetched([url], tmp_path) == CONTENT
        assert fetched([url], tmp_path) == CONTENT
    assert asked == ["/file.gz"]


def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(CONTENT[:-1] + b"!")
    with server(sends(CONTENT)) as (url, _):
        assert fetched([url], tmp_path) == CONTENT


def test_a_folder_is_a_source(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "file.gz").write_bytes(CONTENT)
    assert fetched([str(mirror)], tmp_path / "cache") == CONTENT


@pytest.mark.fault("downloads broken")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(sends(b"gone", status=404), "404", id="missing"),
        pytest.param(sends(b"oops", status=503), "503", id="unavailable"),
        pytest.param(
            sends(b"<html>log in</html>"), f"does not match the known hash: expected sha256:{FILE.sha256}", id="html"
        ),
        pytest.param(sends(CONTENT[:-1] + b"!"), f"expected sha256:{FILE.sha256} but got", id="corrupted"),
        pytest.param(sends(CONTENT[:1000], length=len(CONTENT)), "IncompleteRead", id="dropped half way"),
        pytest.param(redirects, "redirects to http://192.0.2.1/: name that instead", id="redirects"),
        pytest.param(hangs, "timed out", id="hangs"),
        pytest.param(sends(CONTENT, piece=1000, pause=0.1), "not finished by the deadline", id="trickles"),
        pytest.param(trickles_headers, "not finished by the deadline", id="trickles headers"),
        pytest.param(sends_without_end, "expected 300,000 bytes, found more", id="without end"),
    ],
)
def test_a_bad_mirror_is_passed_over_for_the_next(answer: Answer, reason: str, tmp_path: Path) -> None:
    with server(answer) as (bad, _), pytest.raises(InputError, match=reason):
        fetched([bad], tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing unverified is left
    with server(answer) as (bad, _), server(sends(CONTENT)) as (good, _):
        assert fetched([bad, good], tmp_path) == CONTENT


@pytest.mark.fault("downloads broken")
def test_a_mirror_that_is_down_is_passed_over(tmp_path: Path) -> None:
    with server(hangs) as (down, _):
        pass  # its port is free again
    with server(sends(CONTENT)) as (good, _):
        assert fetched([down, good], tmp_path) == CONTENT
    with pytest.raises(InputError, match="Connection refused"):
        fetched([down], tmp_path / "empty")


@pytest.mark.fault("downloads broken")
def test_a_mirror_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    answers = iter([sends(b"", status=503), sends(CONTENT)])

    def answer(request: BaseHTTPRequestHandler) -> None:
        next(answers)(request)

    with server(answer) as (url, asked):
        assert fetched([url], tmp_path, retries=1, deadline=30) == CONTENT
    assert len(asked) == 2


def test_a_mirror_that_failed_is_not_asked_for_the_next_file(tmp_path: Path) -> None:
    with server(sends(b"", status=404)) as (bad, asked), server(sends(CONTENT)) as (good, _):
        other = IdxFile("other.gz", FILE.size, FILE.sha256, FILE.shape)
        fetch([FILE, other], [bad, good], cache=tmp_path, retries=0)
    assert asked == ["/file.gz"]


def test_plain_http_is_for_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use https"):
        fetched(["http://192.0.2.1/"], tmp_path)


def test_without_any_source_every_reason_and_the_ways_out_are_told(tmp_path: Path) -> None:
    with (
        server(sends(b"", status=404)) as (url, _),
        pytest.raises(InputError, match=r"file\.gz: no source has it") as error,
    ):
        fetched([url, str(tmp_path / "no folder")], tmp_path / "cache")
    for words in (url, "404", "no folder", "No such file", "MNIST_MIRROR", "dvc pull", "make demo"):
        assert words in str(error.value)


def test_the_own_mirror_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    assert mnist.mirrors() == mnist.MIRRORS
    assert all(source.startswith("https://") for source in mnist.MIRRORS)
    monkeypatch.setenv("MNIST_MIRROR", "/some/folder")
    assert mnist.mirrors() == ("/some/folder", *mnist.MIRRORS)
