"""What of a sweep is done and what is to run, from the record here and the experiments on the remote."""

from collections.abc import Iterator, Mapping
from typing import Any

from stages.errors import InputError
from stages.params import Params
from tools.runs.run import flat
from tools.sweep import candidates, remote
from tools.sweep.candidates import Trial, trials_of
from tools.sweep.record import Key, Outcome, name_of
from tools.sweep.specification import SEED, Sweep


def merged(
    name: str,
    sweep: Sweep,
    base: Params,
    recorded: Mapping[Key, Outcome],
    finished: Mapping[Key, remote.Experiment],
) -> dict[Key, Outcome]:
    """Join what is recorded here with the experiments on the remote, which count as done.

    Raises `InputError` if an experiment has the name of a trial and other parameters.
    """
    planned = dict(enumerate(candidates.known(sweep)))
    is_tpe = sweep.search == "tpe"  # of which the first experiment of a candidate says what its other seeds have
    done: dict[Key, Outcome] = {}
    for key, experiment in sorted(finished.items()):
        number, seed = key
        if seed >= sweep.seeds or (number not in planned and not is_tpe):
            continue  # of a larger sweep of this name
        suggested = {each: experiment.params.get(each) for each in sweep.varied}
        changes = planned.setdefault(number, sweep.fixed | suggested)
        expected = {**flat(base.model_dump()), **changes, SEED: seed}
        if differing := list(differences(sweep, expected, experiment.params)):
            experiment_name = name_of(name, key)
            raise InputError(
                f"{remote.NAME} has an experiment {experiment_name} with other parameters: {', '.join(differing)}; "
                f"rename the sweep's file, or remove it with {remote.removal(experiment_name)}"
            )
        known = recorded.get(key)
        spans = known.spans if known else []
        done[key] = Outcome(ended="finished", changes=dict(changes), history=experiment.history, spans=spans)

    def is_kept(key: Key, outcome: Outcome) -> bool:
        number, seed = key
        if outcome.ended == "finished" or seed >= sweep.seeds:
            return False
        if number in planned:
            return outcome.changes == planned[number]
        return is_tpe and candidates.fits(sweep, outcome.changes)

    return {key: reopened(sweep, outcome) for key, outcome in recorded.items() if is_kept(key, outcome)} | done


def reopened(sweep: Sweep, outcome: Outcome) -> Outcome:
    """Let a trial run again that was stopped where the sweep's file now stops none."""
    early = sweep.early_stopping
    goes_on = outcome.ended == "stopped" and (early == "none" or len(outcome.history) < early.grace_period)
    return outcome.model_copy(update={"ended": ""}) if goes_on else outcome


def differences(sweep: Sweep, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Say in which parameters an experiment is not the trial of its name."""
    for each, value in expected.items():
        if value != found.get(each):
            yield f"{each} is {found.get(each)} there, expected {value}"
    for each, domain in sweep.varied.items():
        if not candidates.contains(domain, expected[each]):
            ((kind, values),) = domain.model_dump().items()
            yield f"{each} is {expected[each]} there, expected {kind} {values}"


def waiting_of(sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> list[Trial]:
    """List the trials of known candidates that have not ended."""
    known = dict(enumerate(candidates.known(sweep))) or {
        number: outcome.changes for (number, _), outcome in outcomes.items()
    }
    return [
        trial
        for number, changes in sorted(known.items())
        for trial in trials_of(sweep, number, changes)
        if (number, trial.seed) not in outcomes or not outcomes[number, trial.seed].ended
    ]


def open_of(sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> int:
    """Count the candidates that TPE is still to suggest."""
    suggested = {number for number, _ in outcomes}
    return max(0, (sweep.trials or 0) - len(suggested)) if sweep.search == "tpe" else 0


def is_left(sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> bool:
    """Tell whether a trial is still to run."""
    return bool(waiting_of(sweep, outcomes)) or open_of(sweep, outcomes) > 0


def value_of(sweep: Sweep, outcome: Outcome) -> float | None:
    """Return the metric of a trial at its last epoch; None if it failed."""
    return outcome.history[-1][sweep.metric] if outcome.history and outcome.ended != "failed" else None
