"""The candidates of a sweep and their trials: what each is called, and which parameters it has."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.params import Params
from tools.sweep.record import Key
from tools.sweep.specification import SEED, Choice, Domain, Grid, Integers, LogUniform, Sweep, Uniform

DIGITS = 4  # significant ones of a suggested number


@dataclass(frozen=True)
class Trial:
    """One training: a candidate, which has a number and parameters, with one seed."""

    number: int
    seed: int
    changes: Mapping[str, Any]  # of the candidate, by section.name

    @property
    def key(self) -> Key:
        return self.number, self.seed

    @property
    def overrides(self) -> dict[str, Any]:
        """Every parameter that differs from the commit's or may do so."""
        return {**self.changes, SEED: self.seed}


def trials_of(sweep: Sweep, number: int, changes: Mapping[str, Any]) -> list[Trial]:
    """List the trials of a candidate: one for each seed."""
    return [Trial(number, seed, changes) for seed in range(sweep.seeds)]


def known(sweep: Sweep) -> Iterator[Mapping[str, Any]]:
    """Give the candidates that are known before any result: all those of grid and random, none of TPE."""
    if sweep.search == "grid":
        values = [domain.grid if isinstance(domain, Grid) else [] for domain in sweep.varied.values()]
        for chosen in itertools.product(*values):
            yield sweep.fixed | dict(zip(sweep.varied, chosen, strict=True))
    elif sweep.search == "random":
        random = np.random.default_rng(sweep.search_seed)
        for _ in range(sweep.trials or 0):
            yield sweep.fixed | {name: draw(domain, random) for name, domain in sweep.varied.items()}


def draw(domain: Domain, random: np.random.Generator) -> Any:
    """Draw a value from a domain."""
    match domain:
        case Choice(choice=values):
            return values[random.integers(len(values))]
        case Integers(ends=(low, high)):
            return int(random.integers(int(low), int(high), endpoint=True))
        case Uniform(ends=(low, high)):
            return rounded(random.uniform(low, high), low, high)
        case LogUniform(ends=(low, high)):
            return rounded(math.exp(random.uniform(math.log(low), math.log(high))), low, high)
    raise TypeError(domain)


def fits(sweep: Sweep, changes: Mapping[str, Any]) -> bool:
    """Tell whether a candidate has the fixed values of a sweep, and of the others one of each domain."""
    return (
        changes.keys() == sweep.change.keys()
        and all(changes[name] == value for name, value in sweep.fixed.items())
        and all(contains(domain, changes[name]) for name, domain in sweep.varied.items())
    )


def contains(domain: Domain, value: Any) -> bool:
    """Tell whether a value is one of a domain."""
    match domain:
        case Choice(choice=values) | Grid(grid=values):
            return value in values
        case Integers(ends=(low, high)):
            return isinstance(value, int) and low <= value <= high
        case Uniform(ends=(low, high)) | LogUniform(ends=(low, high)):
            return isinstance(value, int | float) and low <= value <= high
    raise TypeError(domain)


def rounded(value: float, low: float, high: float) -> float:
    """Round a suggested number, so that people can read it."""
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def with_changes(base: Params, changes: Mapping[str, Any]) -> Params:
    """Return the whole parameters of a trial.

    Raises `pydantic.ValidationError` if they are not valid together.
    """
    values = base.model_dump()
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    return Params.model_validate(values)
