"""Downloads from real servers on loopback and from folders, and MNIST's official files."""

import gzip
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from stages import download, mnist
from stages.download import fetch
from stages.errors import InputError
from stages.mnist import IdxFile, read_idx, read_labels
from tests.loopback import serving

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = IdxFile("file.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), (1,))

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Run a server on loopback. Yield its URL and the list of paths requested so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
                answer(self)

    with serving(Handler) as url:
        yield f"{url}/", asked


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


def answers_at_length(request: BaseHTTPRequestHandler) -> None:
    request.send_response(503, "://" * 20_000)
    request.end_headers()


def hangs(_: BaseHTTPRequestHandler) -> None:
    time.sleep(2)


def redirects_to(url: str, body: bytes = b"", times: int = 1) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", url)
        request.end_headers()
        for _ in range(times):
            request.wfile.write(body)

    return answer


def packs_without_need(request: BaseHTTPRequestHandler) -> None:
    content = gzip.compress(bytes(10 * len(CONTENT)))
    request.send_response(200)
    request.send_header("Content-Encoding", "gzip")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def sends_without_end(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(bytes(1 << 16))


def trickles_headers(request: BaseHTTPRequestHandler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Comment: " + bytes(b"a" * 1000):
        request.wfile.write(bytes([byte]))
        time.sleep(0.1)


def fetched(sources: list[str], cache: Path, *, silence: float = 1.5, deadline: float = 60, retries: int = 0) -> bytes:
    (path,) = fetch([FILE], sources, cache=cache, retries=retries, silence=silence, deadline=deadline)
    return path.read_bytes()


def test_a_file_is_fetched_once_and_then_read_from_the_cache(tmp_path: Path) -> None:
    with server(sends(CONTENT)) as (url, asked):
        assert fetched([url], tmp_path) == CONTENT
        assert fetched([url], tmp_path) == CONTENT
    assert asked == ["/file.gz"]


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
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
        pytest.param(
            redirects_to("http://192.0.2.1/"),
            "expected https, found http://192.0.2.1: plain http is for this machine only",
            id="redirects to plain http",
        ),
        pytest.param(redirects_to("file:///etc/passwd"), "expected https, found file://:", id="redirects to a file"),
        pytest.param(redirects_to("file.gz"), "Exceeded 30 redirects", id="redirects in circles"),
        pytest.param(redirects_to("http://["), "not a URL", id="redirects to nowhere"),
        pytest.param(
            redirects_to("http://192.0.2.1/", bytes(1 << 16), 1_000_000),
            "expected https, found http://192.0.2.1",
            id="redirects with a body without end",
        ),
        pytest.param(packs_without_need, "expected 300,000 bytes, found more", id="unpacks to more"),
        pytest.param(answers_at_length, r"503 Server Error:\.\.\.$", id="answers at length"),
        pytest.param(hangs, "timed out", id="hangs"),
        pytest.param(sends(CONTENT, piece=1000, pause=0.1), "not finished by the deadline", id="trickles"),
        pytest.param(trickles_headers, "not finished by the deadline", id="trickles headers"),
        pytest.param(sends_without_end, "expected 300,000 bytes, found more", id="without end"),
    ],
)
def test_a_bad_mirror_is_skipped_and_the_next_is_used(answer: Answer, reason: str, tmp_path: Path) -> None:
    # Only who sends slowly meets the deadline; a busy machine must not.
    deadline = 4 if "deadline" in reason else 60
    with server(answer) as (bad, _), pytest.raises(InputError, match=reason):
        fetched([bad], tmp_path, deadline=deadline)
    assert list(tmp_path.iterdir()) == []  # nothing unverified is left
    with server(answer) as (bad, _), server(sends(CONTENT)) as (good, _):
        assert fetched([bad, good], tmp_path, deadline=deadline) == CONTENT


@pytest.mark.fault("downloads broken")
def test_a_mirror_that_is_down_is_skipped(tmp_path: Path) -> None:
    with server(hangs) as (down, _):
        pass  # its port is free again
    with server(sends(CONTENT)) as (good, _):
        assert fetched([down, good], tmp_path) == CONTENT
    with pytest.raises(InputError, match="Connection refused"):
        fetched([down], tmp_path / "empty")


@pytest.mark.fault("downloads broken")
def test_a_mirror_that_recovers_is_used(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1/",
        "http://127.1/",
        "http://localhost.example.org/",
        "http://127.0.0.1@192.0.2.1/",
        "http://192.0.2.1\\@127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///tmp/",
    ],
)
def test_plain_http_is_allowed_on_this_machine_only(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected https, found .*: plain http is for this machine only"):
        fetched([address], tmp_path)


def test_a_redirect_on_this_machine_is_followed(tmp_path: Path) -> None:
    with server(sends(CONTENT)) as (there, asked), server(redirects_to(f"{there}released?part=1")) as (here, _):
        assert fetched([here], tmp_path) == CONTENT
    assert asked == ["/released?part=1"]


def test_a_redirect_to_https_is_followed(tmp_path: Path) -> None:
    with (
        server(sends(CONTENT)) as (there, _),  # which does not speak TLS
        server(redirects_to(there.replace("http:", "https:"))) as (here, _),
        pytest.raises(InputError, match=r"SSLError.*wrong version number|SSLError.*record layer failure"),
    ):
        fetched([here], tmp_path)


def test_a_setting_of_tls_that_names_no_file_leaves_the_other_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent.pem")
    (tmp_path / "file.gz").write_bytes(CONTENT)
    assert fetched(["https://127.0.0.1:1/", str(tmp_path)], tmp_path / "cache") == CONTENT


def test_a_redirect_to_plain_http_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with server(sends(CONTENT)) as (there, asked):
        # Another name of this machine, which stands for another machine.
        elsewhere = there.replace("127.0.0.1", "127.1")
        with server(redirects_to(elsewhere)) as (here, _), pytest.raises(InputError, match=r"found http://127\.1:"):
            fetched([here], tmp_path)
    assert asked == []


def test_the_query_of_a_mirror_is_sent_after_the_name(tmp_path: Path) -> None:
    with server(sends(CONTENT)) as (url, asked):
        assert fetched([f"{url}mnist/?token=secret"], tmp_path) == CONTENT
    assert asked == ["/mnist/file.gz?token=secret"]


@pytest.mark.parametrize(
    "mirror",
    [
        "{}?token=secret",
        "http://zoe:secret@{host}/mnist?token=secret&more=secret",
        "http://secret@{host}/",
        "https://zoe:secret@{host}/",
        "http:/zoe:secret@{host}/",
        "http://zoe:sec/secret@{host}/",
        "http://:#secret@{host}/",
        "http://zoe:s@secret@{host}/",
        "ftp://zoe:secret@{host}/mnist",
        "http://zoe:secret@[/",
        "http://zoe:secret@192.0.2.1/",
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        sends(b"gone", status=404),
        sends(b"other"),
        redirects_to("http://zoe:secret@192.0.2.1/?token=secret"),
        redirects_to("http://secret@127.0.0.1:1/there?token=secret"),
    ],
    ids=["missing", "other", "redirects", "redirects to nobody"],
)
def test_no_password_and_no_query_is_shown(mirror: str, answer: Answer, tmp_path: Path) -> None:
    with server(answer) as (url, _), pytest.raises(InputError, match="no source has it") as error:
        fetched([mirror.format(url, host=url.removeprefix("http://").rstrip("/"))], tmp_path)
    assert "secret" not in str(error.value)
    assert "zoe" not in str(error.value)


@pytest.mark.parametrize(
    ("mirror", "shown"),
    [
        ("https://zoe:secret@example.org:8443/mnist?token=secret", "https://example.org:8443/mnist"),
        ("https://example.org:8443/npm/mnist@1.0/", "https://example.org:8443/npm/mnist@1.0/"),
        ("https://example.org/a@b/", "https://example.org/a@b/"),
    ],
)
def test_the_rest_of_a_url_is_shown(mirror: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nothing listens there
    with pytest.raises(InputError, match=f"Tried {shown}: HTTPSConnectionPool"):
        fetched([mirror], tmp_path)


def test_a_wrong_file_in_a_folder_is_read_once_and_reported_without_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.gz").write_bytes(b"other")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("Pooch waits before it tries again"))
    with pytest.raises(InputError, match=f"Tried {tmp_path}: SHA256 hash of downloaded file .* but got "):
        fetched([str(tmp_path)], tmp_path / "cache", retries=2)
    assert capfd.readouterr() == ("", "")


def test_a_folder_in_the_place_of_a_cached_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "the cache" / "file.gz"
    path.mkdir(parents=True)
    with pytest.raises(InputError, match=f"{path}: cannot be read \\(Is a directory\\); remove it: `rm -r '{path}'`"):
        fetched([str(tmp_path)], path.parent)


def test_without_any_source_the_error_names_every_reason_and_remedy(tmp_path: Path) -> None:
    with (
        server(sends(b"", status=404)) as (url, _),
        pytest.raises(InputError, match=r"file\.gz: no source has it") as error,
    ):
        fetched([url, str(tmp_path / "no folder")], tmp_path / "cache")
    for words in (url, "404", "no folder", "No such file", "MNIST_MIRROR", "dvc pull", "make demo"):
        assert words in str(error.value)


def test_the_own_mirror_comes_first_and_the_repository_last(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert download.sources() == [*download.MIRRORS]
    assert all(source.startswith("https://") for source in download.MIRRORS)
    monkeypatch.setenv("MNIST_MIRROR", "/some/folder")
    (in_empty_folder / ".dvc").mkdir()
    assert download.sources() == ["/some/folder", *download.MIRRORS, download.REPOSITORY]


def test_a_folder_that_is_no_repository_is_reported_as_a_failed_source(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (in_empty_folder / ".dvc").mkdir()
    with pytest.raises(InputError, match=r"Tried data/raw at HEAD: .* is not a git repository"):
        fetched([download.REPOSITORY], in_empty_folder / "cache", deadline=60)
    assert capfd.readouterr() == ("", "")


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
