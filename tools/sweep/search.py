"""Optuna's search within Ray Tune, over several seeds of each candidate."""

import json
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from tools.sweep.candidates import Trial, rounded, trials_of
from tools.sweep.specification import Choice, Domain, Grid, Integers, LogUniform, Range, Sweep, Uniform

MODES = {"maximize": "max", "minimize": "min"}


class Tpe(Searcher):
    """Suggests the missing trials of earlier candidates first, then the trials of candidates that Optuna suggests.

    Optuna learns the mean over the seeds of a candidate. A trial that was stopped early counts with its last epoch.
    """

    def __init__(self, sweep: Sweep, waiting: Iterable[Trial], next_number: int) -> None:
        super().__init__(metric=sweep.metric, mode=MODES[sweep.direction])
        self.sweep = sweep
        self.waiting = deque(waiting)
        self.values: dict[int, dict[int, float | None]] = {}  # of the trials that have ended, by candidate and seed
        self.next_number = next_number
        self.running: dict[str, Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=(sweep.search_seed + next_number) % 2**32)
        self.optuna = OptunaSearch(distributions(sweep), metric=self.metric, mode=self.mode, sampler=sampler)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        if not self.waiting:
            encoded = self.optuna.suggest(str(self.next_number))
            changes = self.sweep.fixed | decoded(self.sweep, encoded or {})
            self.waiting.extend(trials_of(self.sweep, self.next_number, changes))
            self.next_number += 1
        self.running[trial_id] = self.waiting.popleft()
        return {"trial": asdict(self.running[trial_id])}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.running.pop(trial_id)
        self.learn(trial.number, trial.seed, trial.changes, None if error else (result or {}).get(self.metric))

    def learn(self, number: int, seed: int, changes: Mapping[str, Any], value: float | None) -> None:
        """Tell Optuna the mean of a candidate once all its seeds have ended, or that the candidate failed with one."""
        of_seeds = self.values.setdefault(number, {})
        of_seeds[seed] = value
        found = [each for each in of_seeds.values() if each is not None]
        if len(of_seeds) < self.sweep.seeds:
            return
        mean = statistics.mean(found) if len(found) == self.sweep.seeds else None
        if str(number) in self.optuna._ot_trials:
            self.optuna.on_trial_complete(str(number), {self.metric: mean}, error=mean is None)
        else:  # suggested before this command began
            self.optuna.add_evaluated_point(encoded_of(self.sweep, changes), mean or 0, error=mean is None)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the git remote and the record have all that a restart needs."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


def distributions(sweep: Sweep) -> dict[str, Any]:
    """Return the domains as Optuna's."""
    return {name: _distribution(domain) for name, domain in sweep.varied.items()}


def _distribution(domain: Domain) -> Any:
    match domain:
        case Integers(ends=(low, high)):
            return optuna.distributions.IntDistribution(int(low), int(high))
        case Uniform(ends=(low, high)):
            return optuna.distributions.FloatDistribution(low, high)
        case LogUniform(ends=(low, high)):
            return optuna.distributions.FloatDistribution(low, high, log=True)
        case Choice(choice=values) | Grid(grid=values):
            return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in values])
    raise TypeError(domain)


def encoded_of(sweep: Sweep, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a candidate's values as Optuna's: of a choice the text, because Optuna knows no lists."""
    return {
        name: json.dumps(changes[name]) if isinstance(domain, Choice | Grid) else changes[name]
        for name, domain in sweep.varied.items()
    }


def decoded(sweep: Sweep, encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's values as parameters."""
    values: dict[str, Any] = {}
    for name, domain in sweep.varied.items():
        value = encoded[name]
        if isinstance(domain, Choice):
            value = json.loads(value)
        elif isinstance(domain, Range) and isinstance(value, float):
            value = rounded(value, *domain.ends)
        values[name] = value
    return values
