"""The server under malformed requests, slow and vanishing clients, kills and a full disk."""

import hashlib
import io
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.clones import Clone
from tests.faults.pipeline import SAMPLE
from tests.serve.conftest import archive_of, png
from tests.serve.running import HERE, Process, make_folder, received, request, until

MALFORMED = 100 if SAMPLE else 2_000
VANISHING = 40 if SAMPLE else 400
SLOW = 20 if SAMPLE else 200
KILLS = 2 if SAMPLE else 10
LEVEL = 64 * 1024**2  # bytes by which memory may differ

PICTURE = png()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return archive_of(0, tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(model: bytes, tmp_path: Path) -> Clone:
    return make_folder(tmp_path / "clone", model)


@pytest.fixture
def server(folder: Clone) -> Iterator[Process]:
    server = Process(folder, "--collect", "collected", setup=HERE)
    yield server
    assert server.process.poll() is None
    assert server.end() == -signal.SIGTERM
    assert "Traceback" not in server.log.read_text()


def form() -> tuple[str, bytes]:
    """Return the type and the body of a form with two pictures."""
    prepared = requests.Request(
        "POST", "http://x", files=[("images", ("a.png", PICTURE)), ("images", ("b.jpg", png(kind="JPEG")))]
    ).prepare()
    assert isinstance(prepared.body, bytes)
    return prepared.headers["Content-Type"], prepared.body


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Change, insert or remove some bytes, or cut the rest off."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if at < len(changed):
                changed[at] = rng.randrange(256)
            case 1:
                changed[at:at] = rng.randbytes(rng.randint(1, 20))
            case 2:
                del changed[at : at + rng.randint(1, 20)]
            case _ if rng.random() < 0.3:
                del changed[at:]
    return bytes(changed)


@pytest.mark.fault("malformed requests answered", MALFORMED)
def test_any_malformed_request_is_read_or_refused(server: Process) -> None:
    rng = random.Random(1)  # noqa: S311 - the same damage every time
    kind, body = form()
    bodies = [("image/png", PICTURE), ("image/jpeg", png(kind="JPEG")), (kind, body), ("image/png", png((300, 200)))]
    statuses = set()
    with requests.Session() as session:
        for number in range(MALFORMED):
            if number % 5 == 4:  # of the whole request
                with server.connect() as connection, suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(damaged(request(PICTURE), rng))
                    connection.shutdown(1)  # no more will come
                    answer = received(connection)
                    statuses.add(int(answer[9:12]) if answer else 0)
                continue
            kind, body = bodies[number % 5]
            path = rng.choice(("/predict", "/predict?pixels=true", "/collect?digit=3"))
            headers = {"Content-Type": kind if rng.random() < 0.9 else damaged(kind.encode(), rng).hex()}
            response = session.post(server.url + path, damaged(body, rng), headers=headers, timeout=30)
            statuses.add(response.status_code)
            assert ("error" in response.json()) == (response.status_code != 200)
    assert 200 in statuses
    assert 422 in statuses
    assert not {status for status in statuses if status >= 500}, statuses
    assert server.is_well(PICTURE)


@pytest.mark.fault("vanishing clients survived", VANISHING)
def test_clients_that_vanish_at_any_byte_are_forgotten(server: Process) -> None:
    sent = request(PICTURE)
    for number in range(VANISHING):
        with server.connect() as connection:
            connection.sendall(sent[: 1 + number * len(sent) // VANISHING])
    until(lambda: "requests_under_way 1.0" in server.get("/metrics").text)
    assert server.is_well(PICTURE)
    if (files := Path(f"/proc/{server.process.pid}/fd")).exists():
        assert len(list(files.iterdir())) < 60


@pytest.mark.fault("slow clients survived", SLOW)
def test_slow_clients_do_not_keep_others_waiting(server: Process) -> None:
    sent = request(PICTURE)
    cuts = [len(sent) - 1 - number % (len(sent) - 1) for number in range(SLOW)]
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in cuts]
        for connection, cut in zip(slow, cuts, strict=True):
            connection.sendall(sent[:cut])
        for _ in range(20):
            assert server.is_well(PICTURE)
        # Those that are slow, and not too slow, are answered.
        for connection, cut in zip(slow, cuts, strict=True):
            connection.sendall(sent[cut:])
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.fault("floods survived")
@pytest.mark.skipif(sys.platform != "linux", reason="it reads a process's memory from /proc")
def test_memory_stays_level_under_a_flood_of_large_pictures(server: Process) -> None:
    large = png((5_000, 4_900))
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2_000, 2_000), np.uint8)).save(noise, "PNG")
    statuses: list[int] = []

    def flood(count: int) -> None:
        statuses.extend(
            server.post("/predict", (large, noise.getvalue(), PICTURE)[number % 3]).status_code
            for number in range(count)
        )

    def all_at_once() -> None:
        threads = [threading.Thread(target=flood, args=(3 if SAMPLE else 9,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    all_at_once()
    before = server.memory()
    all_at_once()
    assert server.memory() < before + LEVEL
    assert set(statuses) <= {200, 422, 503}
    assert server.is_well(PICTURE)


def whole(folder: Path) -> set[str]:
    """Return the pictures of a collection, each of which must be whole."""
    found = set()
    for path in folder.rglob("*.png"):
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest(), "a part of a picture has the final name"
        found.add(f"{path.parent.name}/{path.name}")
    return found


@pytest.mark.fault("kills while collecting survived", KILLS)
@pytest.mark.timeout(900)
def test_a_kill_loses_no_picture_that_was_acknowledged(folder: Clone) -> None:
    collected = folder.folder / "collected"
    acknowledged: set[str] = set()

    def collect(server: Process, thread: int) -> None:
        with suppress(requests.RequestException):
            for number in range(1_000):
                picture = png((40 + 10 * thread + number % 7, 40 + number))
                acknowledged.add(server.post(f"/collect?digit={thread}", picture).json()["saved"])

    for number in range(KILLS):
        server = Process(folder, "--collect", "collected", setup=HERE)
        threads = [threading.Thread(target=collect, args=(server, thread)) for thread in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.2 + 0.1 * number)
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert acknowledged <= whole(collected)
    assert acknowledged
    server = Process(folder, "--collect", "collected", setup=HERE)
    for digit in range(3):
        assert server.post(f"/collect?digit={digit}", PICTURE).ok
    server.end()
    # What the kills left unfinished is written anew by the next save.
    assert {path.name for path in collected.rglob(".*")} == {".lock"}


@pytest.mark.fault("full disks survived")
def test_a_full_disk_is_told_and_leaves_no_part_of_a_picture(folder: Clone) -> None:
    small, large = png((30, 30)), png((399, 399), "JPEG")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))"
    server = Process(folder, "--collect", "collected", setup=f"{HERE}; {limit}")
    refused = server.post("/collect?digit=2", large)
    assert (refused.status_code, refused.json()) == (507, {"error": "the picture is not saved: File too large"})
    saved = server.post("/collect?digit=2", small).json()["saved"]
    assert whole(folder.folder / "collected") == {saved}
    assert server.is_well(PICTURE)
    server.end()
    server = Process(folder, "--collect", "collected", setup=HERE)
    assert server.post("/collect?digit=2", large).ok
    server.end()
    assert len(whole(folder.folder / "collected")) == 2
