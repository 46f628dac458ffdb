"""The results of a sweep as a table: candidates with their spread over seeds, and the command that takes the best."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.files import replacing
from tools import ROOT, tables
from tools.runs.seeds import interval_of_mean
from tools.sweep.record import Key, Outcome, name_of
from tools.sweep.specification import Sweep

FOLDER = ROOT / "reports/sweeps"


@dataclass(frozen=True)
class Candidate:
    """A candidate and what became of its trials, by seed."""

    number: int
    changes: Mapping[str, Any]
    outcomes: Mapping[int, Outcome]
    seeds: int  # that it is to have

    def values(self, metric: str) -> list[float]:
        """Return the metric of each finished trial."""
        return [outcome.history[-1][metric] for outcome in self.outcomes.values() if outcome.ended == "finished"]

    @property
    def is_whole(self) -> bool:
        """Whether all its seeds finished, so that it can be chosen."""
        return sum(outcome.ended == "finished" for outcome in self.outcomes.values()) == self.seeds

    @property
    def state(self) -> str:
        """Say what did not finish."""
        stopped = [len(outcome.history) for outcome in self.outcomes.values() if outcome.ended == "stopped"]
        reasons = [outcome.reason for outcome in self.outcomes.values() if outcome.ended == "failed"]
        missing = self.seeds - sum(outcome.ended != "" for outcome in self.outcomes.values())
        told = [f"stopped early after epoch {', '.join(map(str, sorted(stopped)))}"] if stopped else []
        told += [f"failed: {reasons[0]}"] if reasons else []
        told += [f"{missing} not run"] if missing else []
        return "; ".join(told)


def candidates(sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> list[Candidate]:
    """Group trials by candidate: those that may be chosen first, the best before the others."""
    groups: dict[int, dict[int, Outcome]] = {}
    for (number, seed), outcome in sorted(outcomes.items()):
        groups.setdefault(number, {})[seed] = outcome
    found = [Candidate(number, next(iter(of.values())).changes, of, sweep.seeds) for number, of in groups.items()]
    sign = -1 if sweep.direction == "maximize" else 1

    def order(candidate: Candidate) -> tuple[bool, float, int]:
        values = candidate.values(sweep.metric)
        last = values or [each.history[-1][sweep.metric] for each in candidate.outcomes.values() if each.history]
        return not candidate.is_whole, sign * statistics.mean(last) if last else math.inf, candidate.number

    return sorted(found, key=order)


def write(name: str, sweep: Sweep, commit: str, outcomes: Mapping[Key, Outcome]) -> str:
    """Write reports/sweeps/NAME.md and return what to print."""
    text = markdown(name, sweep, commit, outcomes)
    path = FOLDER / f"{name}.md"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def markdown(name: str, sweep: Sweep, commit: str, outcomes: Mapping[Key, Outcome]) -> str:
    ordered = candidates(sweep, outcomes)
    together = sum(outcome.seconds or 0 for outcome in outcomes.values())
    others = sum(not outcome.spans for outcome in outcomes.values())
    lines = [
        f"# Sweep {name}",
        "",
        f"{counted(commit, outcomes)}.",
        f"Trials ran for {duration(elapsed(outcomes.values()))}. Together they took {duration(together)} and "
        f"{together * sweep.cpus / 3600:.2f} reserved CPU hours"
        f"{f', without the {others:,} that this clone did not run to an end' if others else ''}.",
        "",
        rows(name, sweep, ordered),
        "",
    ]
    if ordered and ordered[0].is_whole:
        lines += [
            f"Chosen on validation images: the {'highest' if sweep.direction == 'maximize' else 'lowest'} mean "
            f"{sweep.metric.replace('_', ' ')}. The best of several figures is an overestimate on average. "
            "The test set was not used for the choice, so its accuracy is not.",
            "",
            f"`{command(name, ordered[0])}` takes the best.",
            "",
        ]
    return "\n".join(lines)


def elapsed(outcomes: Iterable[Outcome]) -> float:
    """Return the seconds in which at least one trial ran."""
    total, until = 0.0, -math.inf
    for start, end in sorted(span for outcome in outcomes for span in outcome.spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def counted(commit: str, outcomes: Mapping[Key, Outcome]) -> str:
    """Count the trials by what became of them."""
    ended: list[str] = [outcome.ended for outcome in outcomes.values()]
    kinds = {"finished": "finished", "stopped": "stopped early", "failed": "failed"}
    told = [f"{ended.count(kind):,} {word}" for kind, word in kinds.items()]
    told += [f"{ended.count(''):,} not run: run the same command again"] if "" in ended else []
    return f"{len(outcomes):,} trials at commit {commit[:10]}: {', '.join(told)}"


def command(name: str, best: Candidate) -> str:
    """Return the command that takes a candidate, with its first seed."""
    return f"dvc exp apply {name_of(name, (best.number, 0))}"


def interval(sweep: Sweep, values: Sequence[float]) -> str:
    """Format the interval of the mean over seeds; nothing for a single value."""
    found = interval_of_mean(values)
    return " to ".join(number(sweep, end) for end in found) if found else ""


def rows(name: str, sweep: Sweep, ordered: Sequence[Candidate]) -> str:
    """Lay the candidates out, one a row."""
    varied = list(sweep.varied)
    head = [
        "candidate",
        *varied,
        "seeds",
        f"mean {sweep.metric.replace('_', ' ')}",
        "standard deviation",
        "95% interval of the mean",
        "",
    ]
    found = []
    for candidate in ordered:
        values = candidate.values(sweep.metric)
        cells = [f"{name}-{candidate.number}", *(shown(candidate.changes[each]) for each in varied), len(values)]
        cells += [number(sweep, statistics.mean(values)) if values else ""]
        cells += [number(sweep, statistics.stdev(values)) if len(values) > 1 else "", interval(sweep, values)]
        found.append([*cells, candidate.state])
    return tables.markdown(head, found)


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(sweep: Sweep, value: float) -> str:
    return f"{value:.3%}" if sweep.metric == "validation_accuracy" else f"{value:.5f}"


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
