import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stages import report
from stages.errors import InputError
from stages.params import Params, load_params
from tests.clones import Clone
from tests.parameters import SMALL, changed_params, write_params
from tests.tables import cells
from tools import ROOT
from tools.bench import recipes
from tools.bench.recipes import PLAIN_KERAS, RECIPES, SEEDS, changed, measure, spread, table
from tools.runs.revision import resolve


def run_of(recipe: str, seed: int, accuracy: float, seconds: float) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "seed": seed,
        "epochs": 4,
        "test_accuracy": accuracy,
        "training_accuracy": 0.99,
        "costs": {"train": {"seconds": seconds, "peak_mib": 1_000}},
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_valid_parameters_and_the_same_network(recipe: str) -> None:
    params = Params.model_validate(changed(load_params(ROOT / "params.yaml").model_dump(), RECIPES[recipe]))
    assert params.model == load_params(ROOT / "params.yaml").model


@pytest.mark.parametrize("recipe", [name for name, changes in RECIPES.items() if changes])
def test_the_page_about_recipes_has_the_command_of_each(recipe: str) -> None:
    page = " ".join((ROOT / "docs/recipes.md").read_text(encoding="utf-8").replace("\\\n", " ").split())
    assert " ".join(["dvc exp run --temp -f -n", recipe, *(f"-S {change}" for change in RECIPES[recipe])]) in page


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.epoch is not in params\.yaml"):
        changed(changed_params(), ["train.epoch=3"])


def test_a_run_is_measured_once_and_saved(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(in_empty_folder, **SMALL)
    monkeypatch.setitem(recipes.RECIPES, "fast", ("train.epochs=1",))
    measure("fast", 3)
    (path,) = recipes.RUNS.iterdir()
    kept = path.read_text(encoding="utf-8")
    result = json.loads(kept)
    assert path.name == "fast-3.json"
    assert result["params"] == changed_params(**(SMALL | {"train__epochs": 1, "train__seed": 3}))
    assert result["epochs"] == 1
    assert 0 < result["test_accuracy"] < 1
    assert set(result["costs"]) == {"prepare", "train", "evaluate"}
    monkeypatch.setattr(recipes, "train_recipe", None)
    measure("fast", 3)
    assert path.read_text(encoding="utf-8") == kept


def test_the_table_has_mean_deviation_seeds_and_the_median_time() -> None:
    runs = [
        run_of(PLAIN_KERAS, 0, 0.985, 480), run_of("fast", 0, 0.988, 60), run_of("fast", 1, 0.990, 40),
    ]  # fmt: skip
    rows = dict(zip(SEEDS, cells(table(runs))[2:], strict=True))
    assert rows["fast"] == [
        "fast", "4", "2", "98.900% ± 0.141%", "97.629% to 100.171%", "99.000% ± 0.000%", "50 s (0.10)",
    ]  # fmt: skip
    assert rows[PLAIN_KERAS] == [PLAIN_KERAS, "4", "1", "98.500%", "", "99.000%", "480 s (1.00)"]
    assert "not measured" in rows["best"]


def test_runs_of_a_sweep_count_for_the_accuracy_and_not_for_the_time() -> None:
    timed, swept = run_of("fast", 0, 0.988, 60), run_of("fast", 1, 0.990, 40)
    del swept["costs"]
    assert dict(zip(SEEDS, cells(table([timed, swept]))[2:], strict=True))["fast"][3::3] == ["98.900% ± 0.141%", "60 s"]
    assert dict(zip(SEEDS, cells(table([swept]))[2:], strict=True))["fast"][-1] == "not measured"


def test_the_committed_table_has_all_runs_with_the_current_parameters() -> None:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / recipes.RUNS).iterdir())]
    assert (ROOT / recipes.TABLE).read_text(encoding="utf-8") == table(runs)
    for page in ("README.md", "docs/recipes.md"):
        assert table(runs) in (ROOT / page).read_text(encoding="utf-8")
    assert {(run["recipe"], run["seed"]) for run in runs} == {
        (name, seed) for name, count in SEEDS.items() for seed in range(count)
    }
    for run in runs:
        if run["recipe"] != PLAIN_KERAS:
            now = load_params(ROOT / "params.yaml").model_dump()
            assert run["params"] == changed(now, (*RECIPES[run["recipe"]], f"train.seed={run['seed']}"))


def test_the_experiments_of_a_sweep_give_accuracies_and_leave_times(
    first_run: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = first_run.copy(tmp_path / "clone")
    for seed in range(2):
        clone.run("git", "tag", f"seeds-0-s{seed}", "first")
    monkeypatch.chdir(clone.folder)
    monkeypatch.setattr(recipes, "resolve", partial(resolve, repo=clone.folder))
    monkeypatch.setitem(SEEDS, "default", 1)
    timed = run_of("default", 0, 0.1, 60) | {"params": load_params().model_dump()}
    recipes.save(timed, recipes.path_of("default", 0))
    recipes.take("default", "seeds")
    taken = json.loads(recipes.path_of("default", 0).read_text(encoding="utf-8"))
    assert taken["costs"] == timed["costs"]
    assert taken["test_accuracy"] == report.load().test.accuracy != 0.1
    assert (taken["seed"], taken["sweep"], taken["epochs"]) == (0, "seeds", load_params().train.epochs)
    other = changed(load_params().model_dump(), ["train.epochs=99"])
    recipes.save(timed | {"params": other}, recipes.path_of("default", 0))
    recipes.take("default", "seeds")
    again = json.loads(recipes.path_of("default", 0).read_text(encoding="utf-8"))
    assert again == {name: value for name, value in taken.items() if name != "costs"}, "a time of other parameters"
    monkeypatch.setitem(SEEDS, "default", 2)
    with pytest.raises(InputError, match="seeds-0-s1 has other parameters than the recipe default with seed 1"):
        recipes.take("default", "seeds")


def test_the_spread_of_one_value_is_the_value() -> None:
    assert spread([0.5]) == "50.000%"
