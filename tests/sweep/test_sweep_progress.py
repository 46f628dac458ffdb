"""What is kept of each trial while a sweep runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.sweep import record
from tools.sweep.record import Key, Outcome
from tools.sweep.specification import Grid, Sweep

pytest.importorskip("ray")  # `make test-sweep` installs it

SWEEP = Sweep.model_validate(
    {
        "change": {"train.decay": Grid(grid=[0.1, 0.2])},
        "search": "grid", "metric": "validation_accuracy", "direction": "maximize",
    }
)  # fmt: skip
ROW = {"epoch": 1, "validation_accuracy": 0.5, "validation_loss": 1.0}


def trial(number: int) -> Any:
    """Make what Ray tells of a trial."""
    return SimpleNamespace(
        config={"trial": {"number": number, "seed": 0, "changes": {"train.decay": (number + 1) / 10}}},
        num_failures=0, last_result={}, get_error=lambda: "LostError: the storage is lost",
    )  # fmt: skip


def test_the_time_in_which_a_trial_waits_for_its_next_run_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.sweep import progress  # noqa: PLC0415 - it needs Ray

    clock = SimpleNamespace(now=100.0, monotonic=lambda: 0.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(progress, "time", clock)
    outcomes: dict[Key, Outcome] = {}
    told = progress.Progress("rate", SWEEP, outcomes, 2, tmp_path / "rate.json")
    lost, other = trial(0), trial(1)
    for now, event, of in (
        (100.0, told.on_trial_start, lost),
        (110.0, told.on_trial_recover, lost),
        (110.0, told.on_trial_start, other),
        (170.0, told.on_trial_complete, other),
        (171.0, told.on_trial_start, lost),
        (176.0, told.on_trial_error, lost),
    ):
        clock.now = now
        other.last_result = {**ROW, "ended": "finished"}
        told.note(other, ROW)
        event(trial=of)
    assert outcomes[0, 0].spans == [(100.0, 110.0), (171.0, 176.0)]
    assert (outcomes[0, 0].ended, outcomes[0, 0].reason) == ("", "the storage is lost")
    assert outcomes[0, 0].seconds == 15.0
    assert outcomes[1, 0].spans == [(110.0, 170.0)]
    assert record.load(tmp_path / "rate.json") == outcomes


def test_the_time_of_a_run_that_ctrl_c_cuts_off_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.sweep import progress  # noqa: PLC0415

    clock = SimpleNamespace(now=100.0, monotonic=lambda: 0.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(progress, "time", clock)
    path = tmp_path / "rate.json"
    told = progress.Progress("rate", SWEEP, {(0, 0): Outcome(changes={}, spans=[(1.0, 2.0)])}, 1, path)
    told.on_trial_start(trial=trial(0))
    clock.now = 130.0
    told.cut_off()
    assert record.load(path) == {(0, 0): Outcome(changes={}, spans=[(1.0, 2.0), (100.0, 130.0)])}
    told.cut_off()
    assert record.load(path)[0, 0].seconds == 31.0
