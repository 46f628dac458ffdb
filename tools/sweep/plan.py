"""What of a sweep is done and what is to run, from the record here and the experiments on the remote."""

from collections.abc import Mapping

from stages.errors import InputError
from stages.params import Params
from tools.runs.run import flat
from tools.sweep import candidates, remote
from tools.sweep.candidates import Trial, trials_of, with_changes
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
    outcomes = {
        key: outcome
        for key, outcome in recorded.items()
        if outcome.ended != "finished" and outcome.changes == planned.get(key[0], outcome.changes)
    }
    for key, experiment in finished.items():
        number, seed = key
        if seed >= sweep.seeds or (planned and number not in planned):
            continue  # of a larger sweep of this name
        changes = planned.get(number) or {each: experiment.params[each] for each in sweep.change}
        expected = flat(with_changes(base, {**changes, SEED: seed}).model_dump())
        if expected != experiment.params:
            experiment_name = name_of(name, key)
            differing = ", ".join(
                f"{each} is {experiment.params.get(each)} there, expected {value}"
                for each, value in expected.items()
                if value != experiment.params.get(each)
            )
            raise InputError(
                f"{remote.NAME} has an experiment {experiment_name} with other parameters: {differing}; rename the "
                f"sweep's file, or remove it with `dvc exp remove --git-remote {remote.NAME} {experiment_name}`"
            )
        known = recorded.get(key)
        outcomes[key] = Outcome(
            ended="finished", changes=dict(changes), history=experiment.history,
            spans=known.spans if known else [], node=known.node if known else "",
        )  # fmt: skip
    return outcomes


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


def is_open(sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> bool:
    """Tell whether TPE is to suggest more candidates."""
    return sweep.search == "tpe" and len({number for number, _ in outcomes}) < (sweep.trials or 0)


def value_of(sweep: Sweep, outcome: Outcome) -> float | None:
    """Return the metric of a trial at its last epoch; None if it failed."""
    return outcome.history[-1][sweep.metric] if outcome.history and outcome.ended != "failed" else None
