"""A Ray cluster of a head and worker nodes, a git server and an S3 server, each on a machine of its own."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.clones import Clone
from tests.sweep.cluster.namespaces import Machine, network, wait_until
from tests.team.people import without_settings_of_others
from tests.team.s3 import Server, answers, serving
from tests.team.storages import Bucket

GIT_PORT, RAY_PORT = 9418, 6399
BASE = {"metric": "validation_accuracy", "direction": "maximize"}
# How long a node that is gone may go unnoticed; Ray's own values are for larger clusters.
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


class Cluster:
    """The machines, the servers on them, and the clone that sweeps are started in."""

    def __init__(self, folder: Path, clone: Clone, head: Machine, workers: list[Machine], servers: Machine) -> None:
        self.folder, self.clone = folder, clone
        self.head, self.workers, self.servers = head, workers, servers
        self.git = folder / "git"
        self.logs = folder / "logs"
        self.logs.mkdir()

    def ray(self, machine: Machine, *arguments: str) -> None:
        """Start a node of Ray on a machine."""
        # Two nodes on one machine do not know of each other's trials, so each is bound to a core.
        core = machine.number % (os.cpu_count() or 1)
        machine.start(
            "taskset", "--cpu-list", str(core), sys.executable, "-m", "ray.scripts.scripts", "start",
            f"--node-ip-address={machine.address}",
            "--disable-usage-stats", "--block", "--object-store-memory=100000000", *arguments,
            log=self.logs / machine.name, environment=self.clone.environment | QUICK,
        )  # fmt: skip

    def start_head(self) -> None:
        self.ray(self.head, "--head", f"--port={RAY_PORT}", "--num-cpus=0", "--include-dashboard=false")
        wait_until(lambda: answers(self.head.address, RAY_PORT), "Ray's head does not answer")

    def start_worker(self, machine: Machine) -> None:
        self.ray(machine, f"--address={self.head.address}:{RAY_PORT}", "--num-cpus=1", f"--memory={3 * 10**9}")

    def write(self, name: str, **values: object) -> None:
        """Write the file of a sweep, which no commit needs to have."""
        (self.clone.folder / "sweeps" / f"{name}.yaml").write_text(yaml.safe_dump(BASE | values))

    def start_sweep(self, name: str) -> subprocess.Popen[bytes]:
        """Start the driver on the head."""
        return self.head.start(
            sys.executable, "-m", "tools.sweep.sweep", f"sweeps/{name}.yaml", f"--ray={self.head.address}:{RAY_PORT}",
            log=self.logs / name, folder=self.clone.folder, environment=self.clone.environment,
        )  # fmt: skip

    def printed(self, name: str) -> str:
        path = self.logs / name
        return path.read_text() if path.exists() else ""

    def table(self, name: str) -> list[list[str]]:
        """Return the cells of a sweep's table, without what time it took."""
        lines = (self.clone.folder / f"reports/sweeps/{name}.md").read_text().splitlines()
        rows = [line.replace(f"{name}-", "").split("|") for line in lines if line.startswith("| ")]
        return [[cell.strip() for cell in row] for row in rows]

    def experiments(self, name: str) -> dict[str, str]:
        """Return dvc.lock of each experiment of a sweep on the git remote, which names every output's MD5."""
        found = {}
        listed = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
            cwd=self.git, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for ref in listed.split():
            if ending := re.fullmatch(rf".*/{name}-(\d+-s\d+)", ref):
                shown = ["git", "show", f"{ref}:dvc.lock"]
                found[ending[1]] = subprocess.run(
                    shown, cwd=self.git, capture_output=True, text=True, check=True
                ).stdout
        return found

    def forget(self) -> None:
        """Remove what the nodes keep of earlier trials, but for the mirror of the git remote."""
        for machine in self.workers:
            for folder in machine.cache.glob("mnist-lstm/sweeps/*/*"):
                if folder.name in {"cache", "checkpoints", "prepared"}:
                    shutil.rmtree(folder)


@contextmanager
def running(folder: Path, clone: Clone, *, workers: int) -> Iterator[Cluster]:
    """Start the machines and what runs on them for the block, and push a clone of a finished run to the git server."""
    folder.mkdir(exist_ok=True)
    without_settings_of_others(clone)
    with network(folder) as add:
        head, servers = add(1), add(9)
        nodes = [add(2 + number) for number in range(workers)]
        with serving(folder / "s3.log", servers.address, servers.command) as server:
            made = Cluster(folder, clone, head, nodes, servers)
            made.git.mkdir()
            clone.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(made.git))
            start_git(made)
            clone.run("git", "remote", "add", "origin", f"git://{servers.address}/git")
            share(made, server)
            made.start_head()
            for machine in nodes:
                made.start_worker(machine)
            wait_for_nodes(made, workers)
            yield made


def start_git(cluster: Cluster) -> None:
    cluster.servers.start(
        "git", "daemon", f"--base-path={cluster.folder}", "--export-all", "--enable=receive-pack", "--reuseaddr",
        f"--listen={cluster.servers.address}", f"--port={GIT_PORT}", log=cluster.logs / "git",
    )  # fmt: skip
    wait_until(lambda: answers(cluster.servers.address, GIT_PORT), "git's server does not answer")


def share(cluster: Cluster, server: Server) -> None:
    """Push the first run. The nodes find the storage's keys in their environment, this clone in its own settings."""
    keys = server.make_user()
    storage = Bucket(server, keys)
    storage.configure(cluster.clone)
    cluster.clone.run("dvc", "push")
    cluster.clone.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    for machine in (cluster.head, *cluster.workers):
        machine.environment |= {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}


def wait_for_nodes(cluster: Cluster, count: int) -> None:
    """Wait until as many worker nodes can take trials."""

    def alive() -> bool:
        listed = subprocess.run(
            cluster.head.command(sys.executable, "-c", NODES, f"{cluster.head.address}:{RAY_PORT}"),
            env=cluster.clone.environment | cluster.head.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return listed.stdout.strip() == str(count)

    deadline = time.monotonic() + 120
    while not alive():
        assert time.monotonic() < deadline, f"{count} nodes of Ray are not there"
        time.sleep(1)


NODES = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo
nodes = GcsClient(address=sys.argv[1]).get_all_node_info().values()
print(sum(node.state == GcsNodeInfo.ALIVE and node.resources_total.get("CPU", 0) > 0 for node in nodes))
"""
