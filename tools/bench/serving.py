"""Measure the server beside plain Keras in FastAPI: `make bench-serve`, after `make repro`. Not part of `dvc repro`.

Both servers run at once, and take turns in being asked, so that ratios stay right if the speed of the machine changes.
Each client sends its next request when it has the answer to the last. `--quick` asks less; `--many N` measures this
project's memory while N requests are answered.
"""

import asyncio
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import numpy as np
from PIL import Image

from stages import dataset
from stages.errors import InputError, one_line_errors
from tools import ROOT, make_parser, tables
from tools.bench.measure import environment

SERVERS = {
    "mnist-lstm": ["tools.serve.server", "--port"],
    "plain Keras in FastAPI": ["tools.bench.plain_server"],
}
CLIENTS = (1, 8, 64)
BATCH = 100  # pictures of a large request
ROUNDS = 2
SECONDS = 20  # of a measurement at most
STARTED = 120  # seconds
BOUNDARY = "part-of-a-form"


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int
    seconds: float  # until the first answer

    def memory(self) -> int:
        """Return the resident memory in MiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a few seconds each")
    parser.add_argument("--many", type=int, metavar="N", help="measure only memory, while N requests are answered")
    arguments = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        raise InputError("memory is measured on Linux alone; run this there")
    pictures = encoded(dataset.load(dataset.TEST).images[:1_000])
    with ExitStack() as stack:
        if arguments.many:
            print_memory(stack.enter_context(running("mnist-lstm")), pictures, arguments.many)
            return
        servers = [stack.enter_context(running(name)) for name in SERVERS]
        print(report(servers, pictures, quick=arguments.quick))
    print(", ".join(f"{name} {value}" for name, value in environment().items()))


def encoded(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[bytes]:
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(file, "PNG")
        found.append(file.getvalue())
    return found


@contextmanager
def running(name: str) -> Iterator[Server]:
    """Start a server, and wait for its first answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - this repository's own modules
        [sys.executable, "-m", *SERVERS[name], str(port)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() > started + STARTED:
                raise InputError(f"{name}: the server does not start; its message is above")
            time.sleep(0.02)
        yield Server(name, port, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    direct = build_opener(ProxyHandler({}))
    with suppress(URLError, OSError), direct.open(f"http://127.0.0.1:{port}/health", timeout=1) as response:
        return bool(response.status == 200)
    return False


def report(servers: Sequence[Server], pictures: Sequence[bytes], *, quick: bool) -> str:
    """Ask the servers in turns, and lay out what was measured."""
    seconds, rounds = (3, 1) if quick else (SECONDS, ROUNDS)
    single = [request([picture]) for picture in pictures]
    large = [request(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
    for server in servers:
        asyncio.run(ask(server.port, single[:20], 2, 30))  # until all is loaded
    times: dict[tuple[str, int], list[float]] = {}
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for clients in CLIENTS:
            for server in servers:
                times.setdefault((server.name, clients), []).extend(
                    asyncio.run(ask(server.port, single, clients, seconds))
                )
        for server in servers:
            started = time.perf_counter()
            asked = asyncio.run(ask(server.port, large, 2, seconds))
            rates[server.name].append(len(asked) * BATCH / (time.perf_counter() - started))
    rows: list[tuple[str, ...]] = [("start-up", *(f"{server.seconds:.1f} s" for server in servers))]
    for clients in CLIENTS:
        named = f"{clients} client{'s' * (clients > 1)}"
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            rows.append((f"{label}, {named}", *(
                f"{1000 * float(np.quantile(times[server.name, clients], share)):,.0f} ms" for server in servers
            )))  # fmt: skip
        rows.append((f"requests/s, {named}", *(
            f"{clients / float(np.mean(times[server.name, clients])):,.0f}" for server in servers
        )))  # fmt: skip
    rows.append((f"pictures/s, {BATCH} a request", *(f"{max(rates[server.name]):,.0f}" for server in servers)))
    rows.append(("memory at the end", *(f"{server.memory():,} MiB" for server in servers)))
    return tables.markdown(("", *(server.name for server in servers)), rows)


def print_memory(server: Server, pictures: Sequence[bytes], many: int) -> None:
    """Print the memory after 1,000 requests, and at each tenth of all."""
    single = [request([picture]) for picture in pictures]
    print(f"memory after 0 requests: {server.memory()} MiB", flush=True)
    asked = 0
    for total in (1_000, *(many * tenth // 10 for tenth in range(1, 11))):
        asked += len(asyncio.run(ask(server.port, single, 64, limit=total - asked)))
        print(f"memory after {asked:,} requests: {server.memory()} MiB", flush=True)


def request(pictures: Sequence[bytes]) -> bytes:
    """Return a request with pictures as a form."""
    parts = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{number}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + picture
        + b"\r\n"
        for number, picture in enumerate(pictures)
    )
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(
    port: int, requests: Sequence[bytes], clients: int, seconds: float = float("inf"), limit: int = sys.maxsize
) -> list[float]:
    """Let clients send requests for some time, or so many, and return the seconds that each took."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    started = 0

    async def client() -> None:
        nonlocal started
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.perf_counter() < end and started < limit:
                started += 1
                before = time.perf_counter()
                writer.write(requests[started % len(requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise InputError(f"the server at port {port} answered {head[9:12].decode()}")
                times.append(time.perf_counter() - before)
        finally:
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(clients)))
    return times


if __name__ == "__main__":
    with one_line_errors():
        main()
