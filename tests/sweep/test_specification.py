"""The file of a sweep: what is read, and what is refused with one line."""

import re
from pathlib import Path

import pytest
import yaml

from stages.errors import InputError
from tests.parameters import make_params
from tools import ROOT
from tools.sweep.specification import EarlyStopping, Integers, LogUniform, Sweep, load, name_of

GRID = {"change": {"train.epochs": {"grid": [2, 3]}}, "search": "grid"}
BY_ACCURACY = {"metric": "validation_accuracy", "direction": "maximize"}
RANDOM = {"search": "random", "trials": 2}
RATE = {"train.learning_rate": {"uniform": [0.1, 0.2]}}


def read(folder: Path, text: str) -> Sweep:
    path = folder / "some.yaml"
    path.write_text(text)
    return load(path, make_params())


def fault(folder: Path, **values: object) -> str:
    """Return what is said of a sweep, between the file's name and the remedy."""
    with pytest.raises(InputError) as refused:
        read(folder, yaml.safe_dump(BY_ACCURACY | values))
    found = re.fullmatch(r"\S*/some\.yaml: (.*); correct the file and run the command again", str(refused.value))
    assert found, refused.value
    return found[1]


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_here_are_valid(path: Path) -> None:
    assert name_of(path) == path.stem
    assert load(path, make_params()).metric == "validation_accuracy"


def test_domains_values_and_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    sweep = read(
        tmp_path,
        "change:\n  train.learning_rate: {log_uniform: [1e-4, 1e-2]}\n  model.dense_units: {integers: [16, 64]}\n"
        "  prepare.dataset: digits\nsearch: tpe\ntrials: 3\nseeds: 2\nmetric: validation_loss\ndirection: minimize\n"
        "early_stopping: {grace_period: 2, reduction_factor: 3}\n",
    )
    assert sweep.varied == {
        "train.learning_rate": LogUniform(log_uniform=[1e-4, 1e-2]),
        "model.dense_units": Integers(integers=[16, 64]),
    }
    assert sweep.fixed == {"prepare.dataset": "digits"}
    assert (sweep.trials, sweep.seeds, sweep.cpus) == (3, 2, 1)
    assert sweep.early_stopping == EarlyStopping(grace_period=2, reduction_factor=3)


@pytest.mark.parametrize("metric", ["test.accuracy", "test_accuracy", "test.loss"])
def test_the_test_set_is_refused_by_name(metric: str, tmp_path: Path) -> None:
    assert fault(tmp_path, **GRID | {"metric": metric}) == (
        f"metric: {metric} is of the test set, which chooses nothing; expected validation_accuracy or validation_loss"
    )


@pytest.mark.parametrize("base", [0, 200])
def test_validation_on_the_test_set_is_refused(base: int, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    change = {"prepare.validation_size": 0} if base else {}
    path.write_text(yaml.safe_dump(BY_ACCURACY | {"change": change, "search": "grid"}))
    with pytest.raises(InputError, match=r"prepare\.validation_size: expected at least 1, found 0, which validates on"):
        load(path, make_params(prepare__validation_size=base))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train.rate": 1}, "change.train.rate is unknown in params.yaml, expected one of prepare.dataset, "),
        ({"train.seed": 1}, "change.train.seed: expected the number of seeds at `seeds:`, found the parameter"),
        ({"train.epochs": {"grid": [2, "x"]}}, "change.train.epochs: Input should be a valid integer, found 'x'"),
        ({"train.decay": {"grid": [2.0]}}, "change.train.decay: Input should be less than or equal to 1, found 2.0"),
        ({"train.decay": {"linear": [0, 1]}},
         "change.train.decay: expected a value or one of uniform, log_uniform, integers, choice, grid, found"),
        ({"train.decay": {"grid": []}}, "change.train.decay.grid: List should have at least 1 item after validation"),
        (RATE, "change.train.learning_rate: expected grid with search: grid, found uniform"),
        ({"prepare.seed": {"grid": [1, 2]}},
         "change.prepare.seed: expected one value, since candidates are compared on the same validation images"),
    ],
)  # fmt: skip
def test_a_change_that_params_yaml_would_not_take_is_refused(
    change: dict[str, object], told: str, tmp_path: Path
) -> None:
    assert fault(tmp_path, change=change, search="grid").startswith(told)


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        ({"uniform": [0.2, 0.1]}, "expected two numbers, the lower first, found 0.2 and 0.1"),
        ({"log_uniform": [0, 1]}, "expected two numbers above 0, the lower first, found 0 and 1"),
        ({"uniform": [0.0, 1]}, "Input should be greater than 0, found 0.0"),
        ({"uniform": [0.5, 100]}, "Input should be less than or equal to 10, found 100.0"),
    ],
)
def test_both_ends_of_a_range_must_be_valid(domain: object, told: str, tmp_path: Path) -> None:
    found = fault(tmp_path, change={"train.learning_rate": domain}, **RANDOM)
    assert found == f"change.train.learning_rate: {told}"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"search": "tpe", "change": RATE}, "trials is missing"),
        ({"search": "grid", "change": {}, "trials": 3}, "trials: expected none with search: grid, which tries all"),
        ({"change": {}, **RANDOM}, "change: expected a parameter with a domain, since search is random, found none"),
        ({**GRID, "direction": "minimize"}, "direction: expected maximize for validation_accuracy, found minimize"),
        ({**GRID, "searches": 1}, "searches is unknown, expected change, search, trials,"),
        ({"change": {}}, "search is missing"),
        ({**GRID, "seeds": 0}, "seeds: Input should be greater than or equal to 1, found 0"),
        ({**GRID, "seeds": "5"}, "seeds: Input should be a valid integer, found '5'"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], told: str, tmp_path: Path) -> None:
    assert fault(tmp_path, **values).startswith(told)


@pytest.mark.parametrize("name", ["train.epochs", "seeds"])
def test_a_number_of_thousands_of_digits_is_refused(name: str, tmp_path: Path) -> None:
    changed, seeds = (f"0x{'f' * 5_000}" if name == each else "1" for each in ("train.epochs", "seeds"))
    with pytest.raises(
        InputError, match=r"some\.yaml: it has a number of thousands of digits; correct the file and run"
    ):
        read(
            tmp_path,
            f"change: {{train.epochs: {changed}}}\nsearch: grid\nseeds: {seeds}\n"
            "metric: validation_accuracy\ndirection: maximize\n",
        )


def test_a_number_that_no_float_can_have_is_refused(tmp_path: Path) -> None:
    told = fault(tmp_path, change={"train.learning_rate": {"uniform": [1, 10**400]}}, **RANDOM)
    expected = (
        "change.train.learning_rate.uniform.1: Input should be less than or equal to 1000000000000000, found 1000"
    )
    assert told.startswith(expected)


def test_a_grid_of_too_many_combinations_is_refused(tmp_path: Path) -> None:
    names = ("train.epochs", "train.batch_size", "model.dense_units")
    change: dict[str, object] = {name: {"grid": list(range(1, 101))} for name in names}
    told = fault(tmp_path, change=change, search="grid")
    assert told == "change: expected at most 100,000 combinations of values, found 1,000,000"


def test_ten_faults_are_named_and_the_others_counted(tmp_path: Path) -> None:
    told = fault(tmp_path, change={f"train.x{number}": 1 for number in range(12)}, search="grid")
    assert told.count("is unknown in params.yaml") == 10
    assert told.endswith("; and 2 more faults")


@pytest.mark.parametrize("text", ["", "[1, 2]", "a", "a: *b", "{"])
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"some\.yaml: "):
        read(tmp_path, text)


def test_a_file_that_is_missing_or_has_no_name_for_experiments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found; `ls sweeps` lists the sweeps here"):
        load(tmp_path / "none.yaml", make_params())
    for name in ("My sweep", "_rate", "x" * 41):
        told = f"expected at most 40 small letters, digits, - and _, the first a letter or digit, found '{name}'"
        with pytest.raises(InputError, match=told):
            name_of(Path(f"sweeps/{name}.yaml"))
