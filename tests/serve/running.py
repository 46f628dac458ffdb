"""Servers on loopback: in a thread of the test's process, or in a process of their own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from tests.clones import Clone
from tools import ROOT
from tools.serve.app import make_server
from tools.serve.collect import Collection
from tools.serve.server import listen
from tools.serve.serving import Serving

PATIENCE = 30  # seconds


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return found


class Client:
    """A client of a server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path: str, content: Any = None, kind: str | None = "image/png", **options: Any) -> requests.Response:
        headers = {"Content-Type": kind} if kind and content is not None else {}
        headers |= options.pop("headers", {})
        return requests.post(self.url + path, content, timeout=PATIENCE, headers=headers, **options)

    def form(self, path: str, *pictures: tuple[str, bytes]) -> requests.Response:
        return self.post(path, files=[("images", picture) for picture in pictures])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def is_well(self, picture: bytes) -> bool:
        """Tell whether the server answers."""
        return self.post("/predict", picture).status_code == 200 and self.get("/health").json()["status"] == "ok"


@contextmanager
def in_thread(serving: Serving, collection: Collection | None = None) -> Iterator[Client]:
    with listen("127.0.0.1", 0) as listening:
        server = make_server(serving, collection)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: server.started)
        try:
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


class Process(Client):
    """A server in a process of its own, started in a clone as `make serve` does."""

    def __init__(self, clone: Clone, *options: str, port: int = 0, setup: str = "pass") -> None:
        run = f"import runpy; {setup}; runpy.run_module('tools.serve.server', run_name='__main__', alter_sys=True)"
        self.log = Path(clone.folder) / f"server-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", run, "--port", str(port), *options],
                cwd=clone.folder, env=clone.environment, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self.log.read_text().startswith("http://") or self.process.poll() is not None)
        printed = self.log.read_text()
        assert printed.startswith("http://"), printed
        super().__init__(int(printed.split(" ")[0].rpartition(":")[2]))
        until(self.listens)

    def listens(self) -> bool:
        try:
            return self.get("/health").ok
        except requests.ConnectionError:
            return False

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


HERE = "from pathlib import Path; import tools; tools.ROOT = Path.cwd()"  # and not where the links lead


def make_folder(path: Path, content: bytes) -> Clone:
    """Make a folder with this repository's code and a model. It needs no git."""
    clone = Clone(path)
    (path / "models").mkdir(parents=True)
    (path / "models/lstm.keras").write_bytes(content)
    for name in ("stages", "tools"):
        (path / name).symlink_to(ROOT / name)
    clone.environment["XDG_CACHE_HOME"] = str(path / "user")
    clone.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return clone


def request(picture: bytes, path: str = "/predict") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture


def received(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found
