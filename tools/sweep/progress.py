"""What a sweep prints while it runs, and what it keeps of each trial."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from stages.history import Epoch
from stages.terminal import printable
from tools.sweep import record
from tools.sweep.record import Key, Outcome
from tools.sweep.specification import Sweep
from tools.sweep.table import duration
from tools.sweep.trial import LostError


class Progress(tune.Callback):
    """Prints a line for each epoch and each trial that ends, and saves the record after each trial that ends."""

    def __init__(self, name: str, sweep: Sweep, outcomes: MutableMapping[Key, Outcome], total: int, path: Path) -> None:
        self.name, self.sweep, self.outcomes, self.total, self.path = name, sweep, outcomes, total, path
        self.started = time.monotonic()
        self.before = self.ended()  # in earlier commands
        self.rows: dict[Key, list[dict[str, float]]] = {}
        self.starts: dict[Key, float] = {}  # of the runs under way

    def on_trial_result(self, *, trial: TuneTrial, result: dict[str, Any], **_: Any) -> None:
        self.note(trial, result)

    def on_trial_complete(self, *, trial: TuneTrial, **_: Any) -> None:
        result = trial.last_result
        ended = result.get("ended", "stopped")
        self.end(trial, ended=ended, reason=result.get("reason", ""))

    def on_trial_start(self, *, trial: TuneTrial, **_: Any) -> None:
        self.starts[key(trial)] = time.time()
        if trial.num_failures:
            print(f"{self.label(trial)}: {reason(trial)}; it is started again", flush=True)
        elif key(trial) not in self.outcomes:
            self.outcomes[key(trial)] = Outcome(changes=trial.config["trial"]["changes"])
            record.save(self.outcomes, self.path)

    def on_trial_recover(self, *, trial: TuneTrial, **_: Any) -> None:
        self.keep_time(key(trial))  # the trial may wait for its next run

    def on_trial_error(self, *, trial: TuneTrial, **_: Any) -> None:
        self.end(trial, ended="", reason=reason(trial))

    def note(self, trial: TuneTrial, result: Mapping[str, Any]) -> None:
        """Keep and print an epoch. An attempt that starts again reports its first epochs again."""
        if "epoch" not in result:
            return
        row = {name: result[name] for name in Epoch._fields if name in result}
        rows = self.rows.setdefault(key(trial), [])
        if len(rows) < row["epoch"]:
            rows.append(row)
            if not result.get("ended"):
                print(f"{self.label(trial)}, epoch {row['epoch']:.0f}: {shown(self.sweep, row)}", flush=True)

    def end(self, trial: TuneTrial, *, ended: Any, reason: str) -> None:
        self.outcomes[key(trial)] = Outcome(
            ended=ended,
            changes=trial.config["trial"]["changes"],
            history=self.rows.get(key(trial), []),
            reason=reason,
            spans=self.spans(key(trial)),
        )
        record.save(self.outcomes, self.path)
        rows = self.rows.get(key(trial), [])
        told = {
            "finished": f"finished: {shown(self.sweep, rows[-1])}" if rows else "finished",
            "stopped": f"stopped early after epoch {len(rows)}: {shown(self.sweep, rows[-1])}"
            if rows
            else "stopped early",
            "failed": f"failed: {reason}",
            "": f"not run: {reason}",
        }[ended]
        print(f"{self.label(trial)} {told}; {self.status()}", flush=True)

    def cut_off(self) -> None:
        """Keep the time of the runs under way, which end with this command."""
        for of in list(self.starts):
            self.keep_time(of)

    def keep_time(self, of: Key) -> None:
        """Keep the time of a run after which its trial has not ended."""
        self.outcomes[of] = self.outcomes[of].model_copy(update={"spans": self.spans(of)})
        record.save(self.outcomes, self.path)

    def spans(self, of: Key) -> list[tuple[float, float]]:
        """End the run under way, and give the start and end of all runs of a trial."""
        known, started = self.outcomes.get(of), self.starts.pop(of, None)
        return [*(known.spans if known else []), *([] if started is None else [(started, time.time())])]

    def status(self) -> str:
        """Say how many trials ended, which is the best so far, and how much time is left."""
        ended = self.ended()
        told = [f"{ended:,} of {self.total:,} ended"]
        values = {
            each: outcome.history[-1][self.sweep.metric]
            for each, outcome in self.outcomes.items()
            if outcome.ended == "finished" and outcome.history
        }
        if values:
            choose: Callable[..., Key] = max if self.sweep.direction == "maximize" else min
            told.append(f"best so far {record.name_of(self.name, choose(values, key=lambda each: values[each]))}")
        if ended < self.total and ended > self.before:
            left = (time.monotonic() - self.started) / (ended - self.before) * (self.total - ended)
            told.append(f"about {duration(left)} left")
        return ", ".join(told)

    def ended(self) -> int:
        return sum(outcome.ended != "" for outcome in self.outcomes.values())

    def label(self, trial: TuneTrial) -> str:
        return record.name_of(self.name, key(trial))


def key(trial: TuneTrial) -> Key:
    of = trial.config["trial"]
    return of["number"], of["seed"]


def shown(sweep: Sweep, row: Mapping[str, float]) -> str:
    """Format the metric of an epoch."""
    name = sweep.metric.replace("_", " ")
    value = row[sweep.metric]
    return f"{name} {value:.2%}" if sweep.metric == "validation_accuracy" else f"{name} {value:.4f}"


def reason(trial: TuneTrial) -> str:
    """Say in one line why an attempt of a trial ended."""
    lines = [line.strip() for line in str(trial.get_error()).splitlines() if line.strip()]
    for line in reversed(lines):
        if f"{LostError.__name__}: " in line:
            return printable(line.partition(f"{LostError.__name__}: ")[2])
    return printable(lines[-1]) if lines else "lost"
