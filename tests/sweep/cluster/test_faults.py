"""A sweep on a cluster ends with the same table and the same experiments, whatever is killed or cut meanwhile."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clones import Clone
from tests.sweep.cluster.namespaces import Machine, are_possible, wait_until
from tests.sweep.cluster.nodes import Cluster, start_git, wait_for_nodes

SAMPLE = os.environ.get("SWEEPS") == "sample"
EPOCHS = 8 if SAMPLE else 30  # long enough for every fault to meet a training
# Every second candidate is not valid. The others finish with all their seeds.
CHANGE = {
    "train.learning_rate": {"grid": [0.01, 0.02] if SAMPLE else [0.005, 0.01, 0.02, 0.03, 0.04]},
    "train.warmup": {"grid": [0.0, 0.6]},
    "train.decay": 0.5,
    "train.epochs": EPOCHS,
}
SEEDS = 1 if SAMPLE else 3
EXPECTED = {f"{2 * number}-s{seed}" for number in range(2 if SAMPLE else 5) for seed in range(SEEDS)}
SWEEP = {"change": CHANGE, "search": "grid", "seeds": SEEDS, "memory": 1}


def end(cluster: Cluster, name: str, started: subprocess.Popen[bytes], seconds: float = 3000) -> None:
    """Wait for the end of a sweep, which must succeed."""
    assert started.wait(seconds) == 0, cluster.printed(name)
    assert "Traceback" not in cluster.printed(name)


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster) -> tuple[list[list[str]], dict[str, str]]:
    """The table and the experiments of the sweep without a fault."""
    cluster.write("calm", **SWEEP)
    end(cluster, "calm", cluster.start_sweep("calm"))
    found = cluster.experiments("calm")
    assert found.keys() == EXPECTED
    return cluster.table("calm"), found


def test_trials_are_shared_out_and_have_the_bytes_of_the_same_run_by_hand(
    cluster: Cluster, undisturbed: tuple[list[list[str]], dict[str, str]]
) -> None:
    table, experiments = undisturbed
    assert sum("warmup and decay must be at most 1 together" in row[-2] for row in table) == len(EXPECTED) // SEEDS
    for machine in cluster.workers:
        assert list(machine.cache.glob("mnist-lstm/sweeps/*/logs/calm-*.log")), "each node ran trials"
        assert list(machine.cache.glob("mnist-lstm/sweeps/*/trials/*")) == [], "working copies are removed"
    by_hand = Clone(cluster.folder / "by hand")
    by_hand.folder.mkdir()
    by_hand.environment |= cluster.head.environment
    by_hand.run("git", "clone", "--quiet", str(cluster.git), ".")
    changes = (
        "train.learning_rate=0.01",
        "train.warmup=0.0",
        "train.decay=0.5",
        f"train.epochs={EPOCHS}",
        "train.seed=0",
    )
    number = 0 if SAMPLE else 2
    options = [f"--set-param={change}" for change in changes]
    by_hand.run("dvc", "exp", "run", "--name", "by-hand", *options)
    assert (by_hand.folder / "dvc.lock").read_text() == experiments[f"{number}-s0"]
    # The experiments are in the driver's clone with their data.
    cluster.clone.run("dvc", "exp", "apply", f"calm-{number}-s0")
    assert cluster.clone.content() == by_hand.content()
    cluster.clone.run("git", "restore", "params.yaml", "dvc.lock", "reports")
    cluster.clone.run("dvc", "checkout", "--force")


class Disturbed:
    """A sweep under way, and what is done to it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.driver = cluster.start_sweep(name)

    def training(self) -> tuple[Machine, int]:
        """Wait for a machine on which a training has written a checkpoint, and return its process."""
        found: list[tuple[Machine, int]] = []

        def look() -> bool:
            assert self.driver.poll() is None, self.cluster.printed(self.name)
            for machine in self.cluster.workers:
                if list(machine.cache.glob("mnist-lstm/sweeps/*/checkpoints/[!.]*.npz")):
                    found.extend((machine, process) for process in machine.find("-m stages.train"))
            return bool(found)

        wait_until(look, "no training runs", seconds=300)
        return found[0]

    def training_killed(self) -> None:
        os.kill(self.training()[1], signal.SIGKILL)

    def dvc_killed(self) -> None:
        machine, _ = self.training()
        kill(machine.find("dvc exp run"))

    def worker_process_killed(self) -> None:
        machine, training = self.training()
        # Not the agents, whose titles begin with ray:: too: the node would leave the cluster with them.
        kill(set(machine.find("ray::")) & set(ancestors(training)))
        wait_until(lambda: training not in machine.find("-m stages.train"), "the training outlives Ray's process", 20)

    def raylet_killed(self) -> None:
        machine, training = self.training()
        kill(machine.find("raylet/raylet"))
        wait_until(lambda: training not in machine.find("-m stages.train"), "the training outlives its node", 60)
        machine.kill()
        self.start_again(machine)

    def node_killed(self) -> None:
        machine, _ = self.training()
        machine.kill()
        self.start_again(machine)

    def start_again(self, machine: Machine) -> None:
        wait_for_nodes(self.cluster, 1)
        self.cluster.start_worker(machine)
        wait_for_nodes(self.cluster, 2)

    def driver_killed(self) -> None:
        self.training()
        kill(self.cluster.head.find("tools.sweep.sweep"))
        self.driver.wait()
        self.wait_for_no_training()
        self.driver = self.cluster.start_sweep(self.name)

    def driver_interrupted(self) -> None:
        self.training()
        for process in self.cluster.head.find("tools.sweep.sweep"):
            os.kill(process, signal.SIGINT)
        assert self.driver.wait(30) == 130
        assert self.cluster.printed(self.name).splitlines()[-1] == "interrupted; run the same command again to go on"
        self.wait_for_no_training()
        self.driver = self.cluster.start_sweep(self.name)

    def wait_for_no_training(self) -> None:
        machines = self.cluster.workers
        wait_until(lambda: not any(machine.find("-m stages.train") for machine in machines), "trainings go on", 30)

    def storage_lost(self) -> None:
        self.training()
        server = self.cluster.servers.find("moto.server")
        for process in server:
            os.kill(process, signal.SIGSTOP)
        time.sleep(20)
        for process in server:
            os.kill(process, signal.SIGCONT)

    def git_lost(self) -> None:
        self.training()
        kill(self.cluster.servers.find("git daemon") + self.cluster.servers.find("git-daemon"))
        time.sleep(20)
        start_git(self.cluster)

    def network_lost(self) -> None:
        machine, _ = self.training()
        machine.cut(self.cluster.servers.address)
        time.sleep(20)
        machine.restore(self.cluster.servers.address)

    def checkpoint_damaged(self) -> None:
        machine, training = self.training()
        os.kill(training, signal.SIGSTOP)
        for path in machine.cache.glob("mnist-lstm/sweeps/*/checkpoints/[!.]*.npz"):
            path.write_bytes(path.read_bytes()[:100])
        os.kill(training, signal.SIGKILL)


def ancestors(process: int) -> Iterator[int]:
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        yield process


def kill(processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


FAULTS: dict[str, Callable[[Disturbed], None]] = {
    "a training is killed": Disturbed.training_killed,
    "a node is killed": Disturbed.node_killed,
    "the driver is killed": Disturbed.driver_killed,
    "the storage is lost": Disturbed.storage_lost,
    "dvc is killed": Disturbed.dvc_killed,
    "Ray's process of a trial is killed": Disturbed.worker_process_killed,
    "Ctrl-C": Disturbed.driver_interrupted,
    "the git remote is lost": Disturbed.git_lost,
    "the raylet of a node is killed": Disturbed.raylet_killed,
    "a checkpoint is damaged": Disturbed.checkpoint_damaged,
}
if are_possible():
    FAULTS["a node loses git remote and storage"] = Disturbed.network_lost
ROUNDS = [list(FAULTS)[:4]] if SAMPLE else [list(FAULTS), list(FAULTS)[::-1]]


@pytest.mark.fault("faults in a sweep survived", sum(map(len, ROUNDS)) // len(ROUNDS))
@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_the_table_is_that_of_the_undisturbed_sweep(
    number: int, cluster: Cluster, undisturbed: tuple[list[list[str]], dict[str, str]]
) -> None:
    table, experiments = undisturbed
    cluster.forget()
    name = f"storm{number}"
    cluster.write(name, **SWEEP)
    disturbed = Disturbed(cluster, name)
    for fault in ROUNDS[number]:
        print(f"{time.strftime('%H:%M:%S')} {fault}", flush=True)
        FAULTS[fault](disturbed)
    end(cluster, name, disturbed.driver)
    assert cluster.table(name) == table
    found = cluster.experiments(name)
    assert found == experiments, "no trial is lost, and none has other bytes"
    record = re.findall(r"^(\S+) finished: ", cluster.printed(name), re.MULTILINE)
    assert {ending.removeprefix(f"{name}-") for ending in record} <= EXPECTED
    # The same command again runs nothing.
    before = len(cluster.printed(name))
    end(cluster, name, cluster.start_sweep(name))
    assert "are to run" not in cluster.printed(name)[before:]
