"""Optuna's search over several seeds of each candidate."""

import pytest

from tools.sweep.candidates import trials_of
from tools.sweep.specification import Choice, Integers, LogUniform, Sweep, Uniform

pytest.importorskip("ray")  # `make test-sweep` installs it

SWEEP = Sweep.model_validate(
    {
        "change": {
            "train.learning_rate": LogUniform(log_uniform=[1e-4, 1e-2]),
            "train.decay": Uniform(uniform=[0.2, 0.8]),
            "model.dense_units": Integers(integers=[16, 64]),
            "model.lstm_units": Choice(choice=[[16], [32, 32]]),
            "train.epochs": 3,
        },
        "search": "tpe", "trials": 5, "seeds": 2, "metric": "validation_accuracy", "direction": "maximize",
    }
)  # fmt: skip
CHANGES = {
    "train.epochs": 3, "train.learning_rate": 0.001, "train.decay": 0.5,
    "model.dense_units": 32, "model.lstm_units": [16],
}  # fmt: skip


def test_every_seed_of_a_candidate_is_given_out_before_the_next_candidate() -> None:
    from tools.sweep.search import Tpe  # noqa: PLC0415 - it needs Ray

    search = Tpe(SWEEP, [], next_number=0)
    suggested = [search.suggest(str(number))["trial"] for number in range(6)]
    assert [(trial["number"], trial["seed"]) for trial in suggested] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert suggested[0]["changes"] == suggested[1]["changes"] != suggested[2]["changes"]
    for trial in suggested:
        changes = trial["changes"]
        assert changes["train.epochs"] == 3
        assert 1e-4 <= changes["train.learning_rate"] <= 1e-2
        assert changes["model.lstm_units"] in ([16], [32, 32])
        assert isinstance(changes["model.dense_units"], int)


def test_optuna_learns_the_mean_over_the_seeds_and_nothing_of_a_candidate_that_failed() -> None:
    from tools.sweep.search import Tpe  # noqa: PLC0415

    search = Tpe(SWEEP, [], next_number=0)
    for trial_id in "abcd":
        search.suggest(trial_id)
    search.on_trial_complete("a", {"validation_accuracy": 0.8})
    search.on_trial_complete("b", {"validation_accuracy": 0.9})
    search.on_trial_complete("c", {"validation_accuracy": 0.7})
    search.on_trial_complete("d", {"ended": "failed"})
    told = search.optuna._ot_study.trials
    assert [trial.state.name for trial in told] == ["COMPLETE", "FAIL"]
    assert told[0].value == pytest.approx(0.85)


def test_a_search_goes_on_from_what_ended_before() -> None:
    from tools.sweep.search import Tpe  # noqa: PLC0415

    missing = trials_of(SWEEP, 1, CHANGES)[1:]
    search = Tpe(SWEEP, missing, next_number=2)
    search.learn(0, 0, CHANGES, 0.5)
    search.learn(0, 1, CHANGES, 0.7)
    search.learn(1, 0, CHANGES, 0.9)
    first, second = (search.suggest(trial_id)["trial"] for trial_id in "ab")
    assert (first["number"], first["seed"], first["changes"]) == (1, 1, CHANGES)
    assert (second["number"], second["seed"]) == (2, 0)
    search.on_trial_complete("a", {"validation_accuracy": 0.7})
    values = [trial.value for trial in search.optuna._ot_study.trials if trial.value is not None]
    assert values == pytest.approx([0.6, 0.8])


def test_a_search_goes_on_with_the_highest_seed() -> None:
    from tools.sweep.search import Tpe  # noqa: PLC0415

    def first(seed: int, number: int) -> object:
        sweep = SWEEP.model_copy(update={"search_seed": seed})
        return Tpe(sweep, [], next_number=number).suggest("a")["trial"]["changes"]

    assert first(2**32 - 1, 1) == first(0, 0) != first(0, 1)
