"""The client that measures servers."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stages import archive
from stages.errors import InputError
from stages.pictures import read
from tests.serve.conftest import archive_of, png
from tests.serve.running import Client, in_thread
from tools.bench.serving import CLIENTS, Server, answers, ask, encoded, report, request
from tools.serve.serving import Serving


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr("tools.serve.inference.cache", lambda: tmp_path / "cache")
    for module in ("source", "serving"):
        monkeypatch.setattr(f"tools.serve.{module}.ROOT", tmp_path)
    (tmp_path / archive.PATH.parent).mkdir()
    archive_of(0, tmp_path / archive.PATH.parent)
    with in_thread(Serving(None)) as client:
        yield client


def test_so_many_requests_are_sent_and_answered(client: Client) -> None:
    requests = [request([png((40 + number, 60)) for number in range(count)]) for count in (1, 3)]
    times = asyncio.run(ask(client.port, requests, clients=4, limit=20))
    assert len(times) == 20
    assert all(seconds > 0 for seconds in times)
    counted = client.get("/metrics").text
    assert 'requests_total{path="/predict",status="200"} 20.0' in counted
    assert 'pictures_total{outcome="read"} 40.0' in counted


def test_a_refusal_ends_the_measurement(client: Client) -> None:
    with pytest.raises(InputError, match=rf"the server at port {client.port} answered 400"):
        asyncio.run(ask(client.port, [request([])], clients=1, limit=1))


def test_the_report_has_a_column_a_server_and_its_figures(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.serving.BATCH", 2)
    server = Server("this", client.port, os.getpid(), 1.25)

    async def few(port: int, requests: list[bytes], clients: int, _: float) -> list[float]:
        return await ask(port, requests, clients, limit=clients)

    monkeypatch.setattr("tools.bench.serving.ask", few)
    lines = report([server, server], [png(), png()], quick=True).splitlines()
    assert re.fullmatch(r"\| +\| +this \| +this \|", lines[0])
    names = [line.split("|")[1].strip() for line in lines[2:]]
    expected = [
        f"{what}, {clients} client{'s' * (clients > 1)}" for clients in CLIENTS for what in ("p50", "p99", "requests/s")
    ]
    assert names == ["start-up", *expected, "pictures/s, 2 a request", "memory at the end"]


def test_images_are_written_as_they_are(tmp_path: Path) -> None:
    image = np.zeros((28, 28), np.float32)
    image[4:24, 12:15] = 1
    (tmp_path / "a.png").write_bytes(encoded(image[np.newaxis])[0])
    assert read(tmp_path / "a.png").shape == (28, 28)


def test_a_proxy_does_not_answer_for_this_machine(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert answers(int(client.url.rpartition(":")[2]))
    assert not answers(1)
