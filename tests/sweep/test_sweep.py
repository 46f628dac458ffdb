"""The command `make sweep`."""

import socket
import threading
from collections.abc import MutableMapping
from contextlib import nullcontext
from errno import ECONNREFUSED
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.errors import InputError
from stages.params import load_params
from tests.parameters import make_params
from tools import ROOT
from tools.runs.run import flat
from tools.sweep import record, table
from tools.sweep.record import Key, Outcome
from tools.sweep.remote import Experiment
from tools.sweep.specification import Grid, Sweep

pytest.importorskip("ray")  # `make test-sweep` installs it


def ended(accuracy: float, ended: str = "finished") -> Outcome:
    row = {
        "epoch": 1, "training_accuracy": 0.5, "training_loss": 1.0, "validation_accuracy": accuracy,
        "validation_loss": 1.0, "learning_rate": 0.001,
    }  # fmt: skip
    return Outcome.model_validate({"ended": ended, "changes": {}, "history": [row]})


def test_early_stopping_compares_with_trials_that_ended_before() -> None:
    from tools.sweep.sweep import scheduler  # noqa: PLC0415 - it needs Ray

    sweep = Sweep.model_validate(
        {
            "change": {"train.decay": Grid(grid=[0.1, 0.2])}, "search": "grid",
            "metric": "validation_accuracy", "direction": "maximize",
            "early_stopping": {"grace_period": 1, "reduction_factor": 2},
        }
    )  # fmt: skip
    job: Any = SimpleNamespace(params=make_params())

    def decision(*earlier: Outcome) -> str:
        asha = scheduler(sweep, job, {(number, 0): outcome for number, outcome in enumerate(earlier)})
        assert asha is not None
        trial: Any = SimpleNamespace(trial_id="new")
        controller: Any = None
        asha.on_trial_add(controller, trial)
        return asha.on_trial_result(controller, trial, ended(0.8).history[0])

    assert decision(ended(0.9), ended(0.9, "stopped")) == "STOP"
    assert decision(ended(0.7), ended(0.7, "stopped")) == "CONTINUE"
    assert decision(ended(0.9, ""), ended(0.9, "")) == "CONTINUE", "both will run again"


@pytest.mark.parametrize("not_run", [0, 1])
@pytest.mark.parametrize("finished", [0, 1])
def test_the_exit_code_is_1_if_a_trial_was_not_run_or_none_finished(
    not_run: int, finished: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.sweep import sweep  # noqa: PLC0415

    def run(_: Sweep, __: object, outcomes: MutableMapping[Key, Outcome], ___: Path) -> None:
        for seed in range(finished, 5):
            state = "failed" if seed < 5 - not_run else ""
            outcomes[0, seed] = Outcome.model_validate({"ended": state, "changes": {}})

    for module in (record, table):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(sweep, "make_job", lambda *_: SimpleNamespace(commit="a" * 40))
    monkeypatch.setattr(sweep, "cluster", lambda _: nullcontext())
    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr("ray.nodes", lambda: [node(1, 2)])
    params = flat(load_params(ROOT / "params.yaml").model_dump())
    done = Experiment("seeds-0-0", "b" * 40, params, {}, ended(0.9).history)
    of_a_larger_sweep = {(0, 5): done}
    monkeypatch.setattr(
        "tools.sweep.remote.experiments", lambda *_: of_a_larger_sweep | ({(0, 0): done} if finished else {})
    )
    pulled: list[Experiment] = []
    monkeypatch.setattr("tools.sweep.remote.pull", pulled.extend)
    monkeypatch.setattr("sys.argv", ["sweep", str(ROOT / "sweeps/seeds.yaml")])
    monkeypatch.chdir(ROOT)
    if finished and not not_run:
        sweep.main()
    else:
        with pytest.raises(SystemExit) as ends:
            sweep.main()
        assert ends.value.code == 1
    printed = capsys.readouterr().out
    assert ("1 not run: run the same command again" in printed) == bool(not_run)
    assert (tmp_path / "seeds.html").as_uri() in printed
    assert pulled == [done] * finished


def node(cpus: int, memory: float, *, is_alive: bool = True) -> dict[str, object]:
    return {"Alive": is_alive, "Resources": {"CPU": cpus, "memory": memory * 1e9}}


def test_a_trial_for_which_no_node_has_room_is_refused_or_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.sweep.sweep import check_room  # noqa: PLC0415

    sweep = Sweep.model_validate(
        {
            "change": {}, "search": "grid", "metric": "validation_accuracy", "direction": "maximize",
            "cpus": 4, "memory": 2,
        }
    )  # fmt: skip
    monkeypatch.setattr("ray.nodes", lambda: [node(4, 1.5), node(2, 8), node(8, 8, is_alive=False)])
    told = "no node has room for a trial: expected 4 CPUs and 2 GB of memory, found 4 and 1.5, 2 and 8.0"
    with pytest.raises(InputError) as refused:
        check_room(sweep, grows=False)
    assert str(refused.value) == f"{told}; lower `cpus` and `memory` in the sweep's file"
    check_room(sweep, grows=True)
    assert capsys.readouterr().err == f"note: {told}; the sweep waits for one\n"
    monkeypatch.setattr("ray.nodes", lambda: [node(2, 8), node(4, 2)])
    check_room(sweep, grows=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (
            "127.0.0.1:1",
            f"Ray at 127.0.0.1:1: [Errno {ECONNREFUSED}] Connection refused; correct the address, or",
        ),
        ("127.0.0.1:65536", "Ray at 127.0.0.1:65536: "),
        ("host", "RAY=host: expected the address of a cluster's head, such as host:6379"),
        ("ray://host:1", "RAY=ray://host:1: expected the address of a cluster's head, such as host:6379"),
    ],
)
def test_an_address_of_no_cluster_is_refused(address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.sweep.sweep import cluster  # noqa: PLC0415

    monkeypatch.setattr("ray.init", pytest.fail)
    monkeypatch.setattr("tools.sweep.sweep.START", 0.0)
    with pytest.raises(InputError) as refused, cluster(address):
        pass
    assert str(refused.value).startswith(reason)


def test_a_head_that_is_starting_is_waited_for() -> None:
    from tools.sweep.sweep import wait_for_head  # noqa: PLC0415

    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        starting = threading.Timer(0.5, head.listen)
        starting.start()
        wait_for_head(f"127.0.0.1:{head.getsockname()[1]}")
        starting.join()


def test_why_ray_does_not_start_is_said_also_where_its_error_has_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.sweep.sweep import cluster  # noqa: PLC0415

    def fail(**_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(InputError) as refused, cluster(None):
        pass
    assert str(refused.value) == (
        "Ray did not start here: TimeoutError; run this again when the machine has less to do"
    )
