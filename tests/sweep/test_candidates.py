"""The candidates of grid and random searches, and their trials."""

import pytest
from pydantic import ValidationError

from tests.parameters import make_params
from tools.sweep.candidates import Trial, known, trials_of, with_changes
from tools.sweep.record import ending_of
from tools.sweep.specification import Choice, Grid, Integers, LogUniform, Sweep, Uniform

BY_ACCURACY = {"metric": "validation_accuracy", "direction": "maximize"}
VARIED = {
    "train.learning_rate": LogUniform(log_uniform=[1e-4, 1e-2]),
    "train.decay": Uniform(uniform=[0.2, 0.8]),
    "model.dense_units": Integers(integers=[16, 18]),
    "model.lstm_units": Choice(choice=[[16], [32, 32]]),
}


def make_sweep(**values: object) -> Sweep:
    return Sweep.model_validate(BY_ACCURACY | values)


def test_a_grid_has_every_combination_in_the_order_of_the_file() -> None:
    change = {"train.epochs": Grid(grid=[2, 3]), "prepare.dataset": "digits", "train.decay": Grid(grid=[0.1, 0.5])}
    assert list(known(make_sweep(change=change, search="grid"))) == [
        {"prepare.dataset": "digits", "train.epochs": epochs, "train.decay": decay}
        for epochs in (2, 3)
        for decay in (0.1, 0.5)
    ]


def test_a_grid_of_nothing_is_the_committed_parameters() -> None:
    assert list(known(make_sweep(change={}, search="grid"))) == [{}]


def test_random_candidates_are_in_their_domains_and_repeat() -> None:
    found = list(known(make_sweep(change=VARIED, search="random", trials=200)))
    for candidate in found:
        assert 1e-4 <= candidate["train.learning_rate"] <= 1e-2
        assert 0.2 <= candidate["train.decay"] <= 0.8
        assert float(f"{candidate['train.decay']:.4g}") == candidate["train.decay"]
        with_changes(make_params(), candidate)
    assert {candidate["model.dense_units"] for candidate in found} == {16, 17, 18}
    assert {len(candidate["model.lstm_units"]) for candidate in found} == {1, 2}
    # A logarithmic range has as many below its geometric mean as above.
    assert 70 <= sum(candidate["train.learning_rate"] < 1e-3 for candidate in found) <= 130
    # With more trials, the first ones stay what they were.
    assert list(known(make_sweep(change=VARIED, search="random", trials=300)))[:200] == found
    assert list(known(make_sweep(change=VARIED, search="random", trials=200, search_seed=1))) != found


def test_nothing_is_known_before_tpe_suggests_it() -> None:
    assert list(known(make_sweep(change=VARIED, search="tpe", trials=5))) == []


def test_a_candidate_has_a_trial_for_each_seed() -> None:
    trials = trials_of(make_sweep(change={}, search="grid", seeds=2), 7, {"train.epochs": 3})
    assert trials == [Trial(7, 0, {"train.epochs": 3}), Trial(7, 1, {"train.epochs": 3})]
    assert [ending_of(trial.key) for trial in trials] == ["7-s0", "7-s1"]
    assert trials[1].overrides == {"train.epochs": 3, "train.seed": 1}


def test_parameters_that_are_not_valid_together_are_refused() -> None:
    assert with_changes(make_params(), {"train.epochs": 3, "train.seed": 4}) == make_params(
        train__epochs=3, train__seed=4
    )
    with pytest.raises(ValidationError, match="warmup and decay must be at most 1 together"):
        with_changes(make_params(), {"train.warmup": 0.6, "train.decay": 0.6})
