"""The server as a process: its address, its end, and clients that are slow or vanish."""

import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clones import Clone, error_of
from tests.serve.running import HERE, PATIENCE, Client, Process, in_thread, make_folder, received, request, until
from tools.serve import limits
from tools.serve.server import listen
from tools.serve.serving import Serving

SERVE = ("python", "-m", "tools.serve.server")


@pytest.fixture
def folder(content: bytes, tmp_path: Path) -> Clone:
    return make_folder(tmp_path / "clone", content)


def test_sigterm_finishes_what_is_under_way_and_takes_no_more(folder: Clone, picture: bytes) -> None:
    server = Process(folder, setup=HERE)
    sent = request(picture)
    with server.connect() as connection:
        connection.sendall(sent[:-5])
        until(lambda: "requests_under_way 2.0" in server.get("/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.listens())
        assert server.process.poll() is None
        connection.sendall(sent[-5:])
        assert received(connection).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.process.wait(PATIENCE) == -signal.SIGTERM
    assert len(server.log.read_text().splitlines()) == 1


def test_ctrl_c_is_one_word(folder: Clone) -> None:
    server = Process(folder, setup=HERE)
    assert server.end(signal.SIGINT) == 130
    assert server.log.read_text().splitlines()[1:] == ["interrupted; run the same command again to go on"]


def test_a_server_that_was_killed_starts_again_at_the_same_address(folder: Clone, picture: bytes) -> None:
    first = Process(folder, "--collect", "collected", setup=HERE)
    assert first.post("/collect?digit=1", picture).ok
    with first.connect() as connection:
        connection.sendall(request(picture)[:-5])
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = Process(folder, "--collect", "collected", port=first.port, setup=HERE)
    assert second.is_well(picture)
    assert len(list((folder.folder / "collected").rglob("*.png"))) == 1
    second.end()


def test_an_address_that_is_taken_is_one_line(folder: Clone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        printed = folder.run(*SERVE, "--port", port, exit_code=1)
    assert error_of(printed) == (
        f"error: 127.0.0.1:{port}: Address already in use; choose others: make serve HOST=127.0.0.1 PORT=8001"
    )
    for options in (("--port", "70000"), ("--host", "no host")):
        assert "choose others: make serve" in error_of(folder.run(*SERVE, *options, exit_code=1))


def test_the_parts_of_an_answer_are_sent_without_delay() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # of others, asyncio does not set TCP_NODELAY


@pytest.mark.parametrize("option", ["--model", "--collect"])
def test_an_empty_value_is_refused(option: str, folder: Clone) -> None:
    assert f"{option} is empty; give it a value, or leave it out" in folder.run(*SERVE, option, "", exit_code=1)


# Clients that are slow or vanish


@pytest.mark.parametrize("start", [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_client_that_sends_no_whole_headers_is_closed(
    serving: Serving, picture: bytes, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1)
    with in_thread(serving) as client, client.connect() as connection:
        connection.sendall(start)
        for _ in range(2):
            time.sleep(0.1)
            connection.sendall(b"x" if start else b"")
        assert received(connection) == b""
        assert client.is_well(picture)


def test_so_is_one_whose_second_request_does_not_come_whole(
    serving: Serving, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1)
    with in_thread(serving) as client, client.connect() as connection:
        connection.sendall(request(picture) + b"GET / HTTP")
        found = received(connection)
        assert found.startswith(b"HTTP/1.1 200 OK\r\n")
        assert found.count(b"HTTP/1.1") == 1


def test_a_body_that_does_not_come_whole_is_given_up(
    serving: Serving, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 1)
    with in_thread(serving) as client, client.connect() as connection:
        connection.sendall(request(picture)[:-5])
        found = received(connection)
        assert found.startswith(b"HTTP/1.1 408 ")
        assert b"expected the whole body within 1 s" in found
        assert client.is_well(picture)


def test_headers_have_a_limit(client: Client, picture: bytes) -> None:
    with client.connect() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 500_000)
        assert received(connection)[:13] in {b"HTTP/1.1 400 ", b""}
    assert client.is_well(picture)


def test_more_connections_than_allowed_are_told_to_come_back(
    client: Client, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 5)
    open_ones = [client.connect() for _ in range(5)]
    with client.connect() as connection:
        assert received(connection).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    for connection in open_ones:
        connection.close()
    until(lambda: client.get("/health").status_code == 200)
    assert client.is_well(picture)


def test_clients_that_vanish_leave_nothing_behind(client: Client, picture: bytes) -> None:
    sent = request(picture)

    def vanish(at: int) -> None:
        with client.connect() as connection:
            connection.sendall(sent[:at])

    threads = [threading.Thread(target=vanish, args=(at,)) for at in range(1, len(sent), max(1, len(sent) // 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: "requests_under_way 1.0" in client.get("/metrics").text)
    assert client.is_well(picture)
