"""Run a sweep: many trainings on this machine or on a Ray cluster, each an experiment of DVC: `make sweep`.

The exit code is 1 if no trial finished, if a trial was not run, since the storage or the git remote was lost for long,
or if the storage lost files of an experiment.
"""

import logging
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before Ray is imported: it reports nothing to its makers, and writes no logs in formats that nobody reads here.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # of a failed trial
    "RAY_AIR_NEW_OUTPUT": "0",
}

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from stages.errors import InputError, one_line_errors
from stages.params import Params, load_params
from stages.pictures import cores
from stages.terminal import printable
from tools import ROOT, make_parser
from tools.sweep import page, plan, record, remote, specification, table
from tools.sweep.progress import Progress
from tools.sweep.record import Key, Outcome
from tools.sweep.search import MODES, Tpe
from tools.sweep.specification import Sweep
from tools.sweep.trial import DvcTrial, Job

ATTEMPTS = 20  # more of a trial, after its node, the git remote or the storage was lost
START = 30.0  # seconds in which a cluster's head must answer
PAUSE = 15.0  # seconds before an attempt that met none of them ends


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/rate.yaml")
    parser.add_argument("--ray", help="address of a running cluster that this machine is part of, such as host:6379")
    arguments = parser.parse_args()
    name, base = specification.name_of(arguments.file), load_params()
    sweep = specification.load(arguments.file, base)
    job = make_job(name, sweep, base)
    path = record.path_of(name, job.commit)
    outcomes = plan.merged(name, sweep, base, record.load(path), remote.experiments(name, job.commit))
    if plan.is_left(sweep, outcomes):
        if not arguments.ray:
            remote.check_keys()
        with cluster(arguments.ray):
            check_room(sweep, grows=bool(arguments.ray))
            run(sweep, job, outcomes, path)
    finished = remote.experiments(name, job.commit)
    outcomes = plan.merged(name, sweep, base, outcomes, finished)
    print(table.write(name, sweep, job.commit, outcomes))
    print(page.write(name, sweep, job.commit, outcomes).as_uri())
    ours = [experiment for key, experiment in finished.items() if key in outcomes]  # not of a larger sweep of this name
    if ours:
        remote.pull(ours)
    if plan.is_left(sweep, outcomes) or not ours:
        sys.exit(1)


def make_job(name: str, sweep: Sweep, base: Params) -> Job:
    """Collect what all trials share, and check that the git remote and the storage can be used."""
    return Job(
        name=name,
        commit=remote.commit(),
        url=remote.url(),
        params=base,
        storage=remote.storage(),
        author=remote.author(),
        cpus=sweep.cpus,
        pause=PAUSE,
    )


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Start Ray on this machine for the block, or connect to a cluster."""
    if address:
        wait_for_head(address)
    packages = [str(ROOT / name) for name in ("stages", "tools")]
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(
            address=address or "local",
            **(
                {} if address else {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": 100 * 2**20}
            ),
            runtime_env={"py_modules": packages} if address else None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except Exception as error:  # noqa: BLE001 - Ray raises a bare one where a node does not start in time
        remedy = (
            f"this machine must be part of the cluster: `.venv/bin/ray start --address={address} --num-cpus=0`"
            if address
            else "run this again when the machine has less to do"
        )
        where = f"at {address}" if address else "did not start here"
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"Ray {where}: {reason}; {remedy}") from None
    try:
        yield
    finally:
        ray.shutdown()


def wait_for_head(address: str) -> None:
    """Connect to a cluster's head, which may be starting. Ray itself would try for a quarter of an hour.

    Raises `InputError` if nothing answers in time.
    """
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"\[.+\]|[^:/]+", host) or not re.fullmatch(r"\d{1,5}", port):
        raise InputError(f"RAY={printable(address)}: expected the address of a cluster's head, such as host:6379")
    end = time.monotonic() + START
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError, UnicodeError) as error:
            if time.monotonic() > end:
                raise InputError(
                    f"Ray at {printable(address)}: {error}; correct the address, or start a head there with "
                    "`.venv/bin/ray start --head`"
                ) from None
        time.sleep(1)


def check_room(sweep: Sweep, *, grows: bool) -> None:
    """Say that no node has room for a trial, on which Ray would wait without a word.

    Raises `InputError` where no node can come.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [(node.get("CPU", 0), node.get("memory", 0) / 1e9) for node in nodes]
    if any(cpus >= sweep.cpus and memory >= sweep.memory for cpus, memory in found):
        return
    told = (
        f"no node has room for a trial: expected {sweep.cpus} CPUs and {sweep.memory:g} GB of memory, found "
        f"{', '.join(f'{cpus:.0f} and {memory:.1f}' for cpus, memory in found) or 'no node'}"
    )
    if not grows:
        raise InputError(f"{told}; lower `cpus` and `memory` in the sweep's file")
    print(f"note: {told}; the sweep waits for one", file=sys.stderr)


def run(sweep: Sweep, job: Job, outcomes: MutableMapping[Key, Outcome], path: Path) -> None:
    """Run the trials that have not ended, and note what becomes of each."""
    waiting = plan.waiting_of(sweep, outcomes)
    numbers = {number for number, _ in outcomes}
    if sweep.search == "tpe":
        count = len(waiting) + plan.open_of(sweep, outcomes) * sweep.seeds
        search = Tpe(sweep, waiting, next_number=max(numbers, default=-1) + 1)
        for (number, seed), outcome in outcomes.items():
            if outcome.ended:
                search.learn(number, seed, outcome.changes, plan.value_of(sweep, outcome))
        space: dict[str, Any] = {}
        config = tune.TuneConfig(search_alg=search, scheduler=scheduler(sweep, job, outcomes), num_samples=count)
    else:
        count = len(waiting)
        space = {"trial": tune.grid_search([asdict(trial) for trial in waiting])}
        config = tune.TuneConfig(scheduler=scheduler(sweep, job, outcomes))
    total = sum(outcome.ended != "" for outcome in outcomes.values()) + count
    progress = Progress(job.name, sweep, outcomes, total, path)
    print(
        f"{count:,} of {total:,} trials are to run, with {sweep.cpus} of "
        f"{ray.cluster_resources().get('CPU', 0):.0f} CPUs each"
    )
    resources = {"cpu": sweep.cpus, "memory": sweep.memory * 1e9}
    try:
        with tempfile.TemporaryDirectory() as folder:
            tune.Tuner(
                tune.with_resources(tune.with_parameters(DvcTrial, job=job), resources),
                param_space=space,
                tune_config=config,
                run_config=tune.RunConfig(
                    name=job.name,
                    storage_path=folder,
                    callbacks=[progress],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=ATTEMPTS),
                    verbose=0,
                ),
            ).fit()
    finally:
        progress.cut_off()


def scheduler(sweep: Sweep, job: Job, outcomes: Mapping[Key, Outcome]) -> ASHAScheduler | None:
    """Make the scheduler that stops trials early. It knows the epochs of the trials that ended before."""
    if sweep.early_stopping == "none":
        return None
    epochs = sweep.change.get("train.epochs", job.params.train.epochs)
    most = max(specification.some_values(epochs))
    asha = ASHAScheduler(
        time_attr="epoch",
        metric=sweep.metric,
        mode=MODES[sweep.direction],
        max_t=max(most, sweep.early_stopping.grace_period),
        grace_period=sweep.early_stopping.grace_period,
        reduction_factor=sweep.early_stopping.reduction_factor,
        stop_last_trials=False,
    )
    for key, outcome in outcomes.items():
        earlier: Any = SimpleNamespace(trial_id=str(key))
        asha.on_trial_add(None, earlier)
        for row in outcome.history if outcome.ended else []:
            asha.on_trial_result(None, earlier, row)
    return asha


if __name__ == "__main__":
    with one_line_errors():
        main()
