"""Measure what a sweep costs besides training: `python -m tests.sweep.measure overhead`, and three others.

`overhead` runs the steps of a trial on small digits. `rate` runs the same trials on one node, on two, and in DVC's own
queue. `experiments` makes 100, 1,000 and 5,000 experiments, without
training, and times what reads them. `exchange` sends the gradients of the network between two processes.
"""

import argparse
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2

from stages import report
from stages.params import load_params
from tests.clones import Clone
from tests.parameters import SMALL, write_params
from tests.sweep.cluster.nodes import running
from tools import ROOT, tables
from tools.runs import lock
from tools.sweep import candidates, specification
from tools.sweep.specification import SEED

PARAMETERS = 216_426  # of the network of the mission, four bytes each
COUNTS = (100, 1_000, 5_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=MEASURES)
    with tempfile.TemporaryDirectory() as folder:
        MEASURES[parser.parse_args().what](Path(folder))


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cloned(folder: Path) -> Clone:
    """Clone the commit here."""
    folder.mkdir()
    clone = Clone(folder)
    clone.run("git", "clone", "--quiet", str(ROOT), ".")
    return clone


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def overhead(folder: Path) -> None:
    """Run the steps of two trials on a node that has nothing, and print what each took."""
    from tools.sweep.trial import DvcTrial, Job  # noqa: PLC0415 - it needs Ray

    clone = cloned(folder / "clone")
    clone.run("git", "rm", "-r", "--quiet", "dvc.lock", "reports")
    write_params(clone.folder, **SMALL)
    clone.commit("Small parameters")
    clone.run("git", "init", "--quiet", "--bare", str(folder / "git"))
    clone.run("git", "push", "--quiet", str(folder / "git"), "HEAD:main")
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    job = Job(
        name="cost", url=str(folder / "git"), commit=commit, params=load_params(clone.folder / "params.yaml"),
        storage=str(folder / "storage"), author={}, cpus=1, pause=0,
    )  # fmt: skip
    (folder / "storage").mkdir()
    rows = []
    for number in range(2):
        trial = DvcTrial.__new__(DvcTrial)
        trial.setup(
            {"trial": {"number": number, "seed": 0, "changes": {"train.learning_rate": 0.01 + number / 1000}}}, job
        )
        trial.node = folder / "node"
        trial.node.mkdir(exist_ok=True)
        trial.copy = trial.node / "trials" / trial.name
        before = size(folder / "storage"), size(folder / "git")
        rows.append((f"trial {number + 1}: clone", seconds(trial.clone), size(trial.copy)))
        rows.append((f"trial {number + 1}: look for the experiment", seconds(trial.fetched), 0))
        rows.append((f"trial {number + 1}: prepare", seconds(trial.prepare), 0))
        arguments = ("dvc", "exp", "run", "--pull", "--name", trial.name, *trial.settings())
        took = seconds(lambda: trial.run(*arguments).wait())  # noqa: B023 - it is called at once
        stages = sum(map(float, re.findall(r"; (\d+) s, 0 s left", trial.log.read_text())))
        rows.append((f"trial {number + 1}: dvc exp run, of which {stages:.0f} s are epochs", took, 0))
        rows.append(
            (f"trial {number + 1}: push of the data", seconds(trial.push), size(folder / "storage") - before[0])
        )
        rows.append((f"trial {number + 1}: of which to git", 0.0, size(folder / "git") - before[1]))
        trial.cleanup()
    print(
        tables.markdown(
            ("step", "seconds", "bytes"), [(name, f"{took:.1f}", f"{count:,}") for name, took, count in rows]
        )
    )


RATE: dict[str, Any] = {
    "change": {
        "train.learning_rate": {"log_uniform": [0.003, 0.03]},
        "train.epochs": 30,
        "model.lstm_units": [64, 64],
    },
    "search": "random", "trials": 4, "seeds": 2, "memory": 1,
}  # fmt: skip


def rate(folder: Path) -> None:
    """Run the same trials on one node of one core, on two, and in DVC's queue with two workers."""
    base = cloned(folder / "base")
    base.run("git", "remote", "remove", "origin")
    write_params(base.folder, **SMALL)
    base.run("dvc", "repro")
    base.commit("Small digits")
    rows = []
    for workers in (1, 2):
        with running(folder / f"cluster{workers}", base.copy(folder / f"clone{workers}"), workers=workers) as cluster:
            cluster.write("rate", **RATE)
            took = seconds(lambda: cluster.start_sweep("rate").wait())
            assert len(cluster.experiments("rate")) == RATE["trials"] * RATE["seeds"], cluster.printed("rate")
            sweep = specification.load(cluster.clone.folder / "sweeps/rate.yaml", load_params())
        rows.append((f"`make sweep`, {workers} node{'s' * (workers > 1)} of one core", took))
    queue = base.copy(folder / "queue")
    for changes in candidates.known(sweep):
        for seed in range(sweep.seeds):
            options = [f"--set-param={name}={value}" for name, value in {**changes, SEED: seed}.items()]
            queue.run("dvc", "exp", "run", "--queue", *options)

    def run_queue() -> None:
        queue.run("dvc", "queue", "start", "--jobs", "2")
        while re.search("Running|Queued", queue.run("dvc", "queue", "status")):
            time.sleep(1)

    rows.append(("`dvc queue start -j 2`", seconds(run_queue)))
    assert queue.run("dvc", "queue", "status").count("Success") == RATE["trials"] * RATE["seeds"]
    trials = RATE["trials"] * RATE["seeds"]
    print(
        tables.markdown(
            ("", "seconds", "trials an hour"),
            [(name, f"{took:.0f}", f"{3600 * trials / took:.0f}") for name, took in rows],
        )
    )


def experiments(folder: Path) -> None:
    """Add experiments to a clone, and time what reads or moves them."""
    clone = cloned(folder / "clone")
    clone.run("git", "init", "--quiet", "--bare", str(folder / "git"))
    clone.run("git", "remote", "set-url", "origin", str(folder / "git"))
    clone.run("git", "push", "--quiet", "origin", "HEAD:main")
    git = pygit2.Repository(str(clone.folder))
    commands = {
        "push of the references": ("git", "push", "--quiet", "origin", "refs/exps/*:refs/exps/*"),
        "git ls-remote of one": ("git", "ls-remote", "origin", "refs/exps/none"),
        "git clone": ("git", "clone", "--quiet", str(folder / "git"), str(folder / "other")),
        "dvc exp list origin": ("dvc", "exp", "list", "origin", "--all-commits"),
        "dvc exp show": ("dvc", "exp", "show", "--csv"),
        "make experiments": (sys.executable, "-m", "tools.pages.experiments"),
    }
    results: dict[str, list[str]] = {name: [] for name in ("bytes of .git", *commands)}
    made = 0
    for count in COUNTS:
        for number in range(made, count):
            add(git, number)
        made = count
        results["bytes of .git"].append(f"{size(clone.folder / '.git'):,}")
        for name, command in commands.items():
            subprocess.run(["rm", "-rf", str(folder / "other")], check=True)
            results[name].append(f"{seconds(lambda command=command: clone.run(*command)):.1f} s")  # type: ignore[misc]
            print(f"{count:,} experiments, {name}: {results[name][-1]}", flush=True)
    print(tables.markdown(("", *(f"{count:,}" for count in COUNTS)), [(name, *row) for name, row in results.items()]))


def add(git: pygit2.Repository, number: int) -> None:
    """Keep an experiment of HEAD with another learning rate and another accuracy."""
    head = git[git.head.target].peel(pygit2.Commit)
    changed = {
        str(lock.PATH): re.sub(rb"learning_rate: \S+", b"learning_rate: 0.%06d" % (number + 1), _read(head, lock.PATH)),
        str(report.PATH): re.sub(rb'"errors": \d+', b'"errors": %d' % (50 + number), _read(head, report.PATH)),
        "params.yaml": re.sub(
            rb"learning_rate: \S+", b"learning_rate: 0.%06d" % (number + 1), _read(head, "params.yaml")
        ),
    }
    index = pygit2.Index()
    index.read_tree(head.tree)
    for path, content in changed.items():
        index.add(pygit2.IndexEntry(path, git.create_blob(content), pygit2.enums.FileMode.BLOB))
    signature = pygit2.Signature("A", "a@example.org", 1_800_000_000 + number, 0)
    made = git.create_commit(None, signature, signature, "dvc: commit experiment", index.write_tree(git), [head.id])
    baseline = str(head.id)
    git.references.create(f"refs/exps/{baseline[:2]}/{baseline[2:]}/many-{number}-s0", made)


def _read(commit: pygit2.Commit, path: str | Path) -> bytes:
    blob = commit.tree[str(path)]
    assert isinstance(blob, pygit2.Blob)
    return blob.data


def exchange(_: Path) -> None:
    """Send the gradients there and back over loopback, as two machines do in each step of training."""
    content = bytes(4 * PARAMETERS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server, len(content)), daemon=True).start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def once() -> None:
                client.sendall(content)
                receive(client, len(content))

            taken = [1000 * seconds(once) for _ in range(200)]
    print(f"{len(content):,} bytes each way over loopback: {statistics.median(taken):.2f} ms (median of 200)")
    for name, bits in (("1 Gbit/s", 1e9), ("10 Gbit/s", 1e10), ("100 Gbit/s", 1e11)):
        print(f"on the wire at {name}: {8000 * len(content) / bits:.2f} ms each way")


def answer(server: socket.socket, count: int) -> None:
    """Return each message once it is whole."""
    connection, _ = server.accept()
    with connection:
        while received := receive(connection, count):
            connection.sendall(received)


def receive(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(1 << 20)
        if not part:
            break
        parts += part
    return bytes(parts)


MEASURES: dict[str, Callable[[Path], None]] = {
    "overhead": overhead,
    "rate": rate,
    "experiments": experiments,
    "exchange": exchange,
}

if __name__ == "__main__":
    main()
