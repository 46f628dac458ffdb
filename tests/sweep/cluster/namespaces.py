"""A small network of machines on this one: each has a network namespace, a home and temporary folders of its own.

Without root, or without network namespaces, the machines are folders, and all addresses are this machine's loopback.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

BRIDGE = "sweepbr"
NETWORK = "10.77.0."
RAY = Path("/tmp/ray")  # noqa: S108 - Ray's own choice


def are_possible() -> bool:
    """Tell whether this process may make network namespaces."""
    if os.geteuid():
        return False
    try:
        made = subprocess.run(["ip", "netns", "add", "sweep-try"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    subprocess.run(["ip", "netns", "del", "sweep-try"], capture_output=True, check=False)
    return made.returncode == 0


def ip(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check).stdout


class Machine:
    """A machine of the network, on which commands run."""

    def __init__(self, number: int, folder: Path, *, has_network: bool) -> None:
        self.number = number
        self.name = f"sweep{number}"
        self.folder = folder / self.name
        self.has_network = has_network
        self.address = f"{NETWORK}{number}" if has_network else "127.0.0.1"
        self.environment: dict[str, str] = {"HOME": str(self.folder / "home"), "XDG_CACHE_HOME": str(self.cache)}
        for name in ("home", "cache", "ray", "var"):
            (self.folder / name).mkdir(parents=True)
        self._started: list[subprocess.Popen[bytes]] = []
        if has_network:
            RAY.mkdir(exist_ok=True)
            ip("netns", "add", self.name)
            ip("link", "add", f"{self.name}v", "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("link", "set", f"{self.name}v", "master", BRIDGE, "up")
            ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
            ip("-n", self.name, "link", "set", "eth0", "up")
            ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def command(self, *command: str) -> list[str]:
        """Return the command that runs one on this machine."""
        if not self.has_network:
            return list(command)
        # Where Ray and DVC keep files of a machine, whoever its user is.
        own = f'mount --bind "{self.folder}/ray" {RAY} && mount --bind "{self.folder}/var" /var/tmp && exec "$@"'
        return ["ip", "netns", "exec", self.name, "sh", "-c", own, "sh", *command]

    def start(
        self, *command: str, log: Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on this machine, as the leader of a process group."""
        variables = {**(environment or os.environ), **self.environment}
        with log.open("a") as file:
            started = subprocess.Popen(
                self.command(*command), cwd=folder or self.folder, env=variables,
                stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._started.append(started)
        return started

    def processes(self) -> list[int]:
        """List the processes of this machine: those in its namespace, or those with its home."""
        if self.has_network:
            return [int(line) for line in ip("netns", "pids", self.name).split()]
        home = f"HOME={self.environment['HOME']}\0".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if home in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def find(self, text: str) -> list[int]:
        """List the processes of this machine whose command line has a text."""
        found = []
        for process in self.processes():
            with suppress(OSError):
                if text in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                    found.append(process)
        return found

    def kill(self) -> None:
        """End the machine as a power cut does: every process at once."""
        while processes := self.processes():
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for started in self._started:
                started.poll()
            time.sleep(0.1)

    def cut(self, address: str) -> None:
        """Lose the way to an address."""
        ip("-n", self.name, "route", "add", "unreachable", f"{address}/32")

    def restore(self, address: str) -> None:
        """Find the way to an address again."""
        ip("-n", self.name, "route", "del", "unreachable", f"{address}/32", check=False)

    def remove(self) -> None:
        self.kill()
        for started in self._started:
            started.wait()
        if self.has_network:
            ip("netns", "del", self.name)


@contextmanager
def network(folder: Path) -> Iterator[Callable[[int], Machine]]:
    """Make a network for the block, and give what adds a machine with a number to it."""
    has_network = are_possible()
    machines: list[Machine] = []

    def add(number: int) -> Machine:
        machines.append(Machine(number, folder, has_network=has_network))
        return machines[-1]

    if has_network:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NETWORK}254/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
    try:
        yield add
    finally:
        for machine in machines:
            machine.remove()
        if has_network:
            ip("link", "del", BRIDGE)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
