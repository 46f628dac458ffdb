"""Measure the recipes: one run with `python -m tools.bench.recipes fast --seed 3`, all missing runs with `--all`.

Each run is the whole pipeline in its own folder, with one process for each stage. Its result is saved in
reports/benchmarks/recipes/NAME-SEED.json. A run is not repeated while this file exists. Without arguments, only the
table of the existing results is made. `default --sweep seeds` takes the accuracies of all seeds from the experiments
of `make sweep SWEEP=sweeps/seeds.yaml`, and leaves times that were measured here with the same parameters. The trials
of a sweep run side by side, so they have no times.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages import history, report
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from stages.params import PATH as PARAMS
from stages.params import load_params
from tools import make_parser, tables
from tools.bench.measure import environment, run
from tools.runs.revision import read, read_lock, resolve
from tools.runs.seeds import interval_of_mean

RUNS = Path("reports/benchmarks/recipes")
TABLE = Path("reports/benchmarks/recipes.md")

# Parameters in the form of `dvc exp run -S`; docs/recipes.md has the commands.
RECIPES: Mapping[str, Sequence[str]] = {
    "reference": ("prepare.validation_size=0", "train.warmup=0", "train.decay=0"),
    "default": (),
    "fast": (
        "train.epochs=2",
        "train.batch_size=64",
        "train.optimizer=muon",
        "train.learning_rate=0.004043",
        "train.warmup=0.02",
        "train.decay=0.7625",
        "train.precision=bfloat16",
    ),
    "best": (
        "prepare.validation_size=0",
        "train.epochs=40",
        "train.batch_size=128",
        "train.optimizer=muon",
        "train.learning_rate=0.002",
        "train.decay=0.9",
        "train.ema=0.9995",
        "train.precision=bfloat16",
        "augment.shift=2",
        "augment.rotation=12",
        "augment.shear=12",
        "augment.scale=0.12",
        "augment.elastic=1",
    ),
}
PLAIN_KERAS = "plain Keras"  # the reference's recipe without this project
PLAIN_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull, "CUDA_VISIBLE_DEVICES": ""}
SEEDS = {PLAIN_KERAS: 1, "reference": 1, "default": 5, "fast": 5, "best": 3}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("recipe", nargs="?", choices=SEEDS, help="train this recipe; without one, only make the table")
    parser.add_argument("--seed", type=int, default=0, help="for weights, order, dropout and augmentation (default: 0)")
    parser.add_argument("--sweep", metavar="NAME", help="take the accuracies from this sweep's experiments")
    parser.add_argument("--all", action="store_true", help="train every run whose result is missing; takes hours")
    arguments = parser.parse_args()
    if arguments.recipe and arguments.sweep:
        take(arguments.recipe, arguments.sweep)
    elif arguments.recipe:
        measure(arguments.recipe, arguments.seed)
    if arguments.all:
        for seed in range(max(SEEDS.values())):
            for recipe, count in SEEDS.items():
                if seed < count:
                    measure(recipe, seed)
    written = table([json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob("*.json"))])
    with replacing(TABLE) as temporary:
        temporary.write_text(written, encoding="utf-8")
    print(written, end="")


def measure(recipe: str, seed: int) -> None:
    """Train and evaluate a recipe with one seed, unless its result exists."""
    path = path_of(recipe, seed)
    if path.exists():
        return
    result = train_plain_keras(seed) if recipe == PLAIN_KERAS else train_recipe(RECIPES[recipe], seed)
    save({"recipe": recipe, "seed": seed, **result, "environment": environment()}, path)


def take(recipe: str, sweep: str) -> None:
    """Take the accuracies of all seeds of a recipe from the experiments of a sweep's only candidate.

    A time that was measured here stays if it is of the same parameters.

    Raises `InputError` if an experiment is not here or has other parameters than the recipe.
    """
    for seed in range(SEEDS[recipe]):
        experiment = resolve(f"{sweep}-0-s{seed}")
        params = changed(load_params().model_dump(), (*RECIPES[recipe], f"train.seed={seed}"))
        if read_lock(experiment).params != params:
            raise InputError(f"{experiment} has other parameters than the recipe {recipe} with seed {seed}")
        metrics = read(experiment, report.PATH, report.parse)
        epochs = read(experiment, history.PATH, history.parse)
        path = path_of(recipe, seed)
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        timed = earlier if earlier.get("params") == params else {"recipe": recipe, "seed": seed, "params": params}
        save(timed | results(metrics, epochs) | {"sweep": sweep}, path)


def path_of(recipe: str, seed: int) -> Path:
    return RUNS / f"{recipe.replace(' ', '-').lower()}-{seed}.json"


def save(result: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def train_recipe(changes: Sequence[str], seed: int) -> dict[str, Any]:
    """Run the three stages with the parameters of params.yaml and these changes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = write_params(folder, (*changes, f"train.seed={seed}"))
        costs = {stage: run("-m", f"stages.{stage}", folder=folder)[1] for stage in ("prepare", "train", "evaluate")}
        found = results(report.load(folder / report.PATH), history.load(folder / history.PATH))
    return {"params": params, **found, "costs": {stage: cost._asdict() for stage, cost in costs.items()}}


def results(metrics: report.Report, epochs: pd.DataFrame) -> dict[str, Any]:
    """Return a run's number of epochs and its accuracies."""
    *_, last = epochs.itertuples()
    return {
        "epochs": last.epoch,
        "training_accuracy": last.training_accuracy,
        "validation_accuracy": metrics.validation and metrics.validation.accuracy,
        "test_accuracy": metrics.test.accuracy,
    }


def train_plain_keras(seed: int) -> dict[str, Any]:
    """Train the reference's recipe in plain Keras, on the data that `prepare` makes for the recipe."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_params(folder, RECIPES["reference"])
        run("-m", "stages.prepare", folder=folder)
        printed, cost = run("-m", "tools.bench.plain_keras", str(seed), folder=folder, **PLAIN_ENVIRONMENT)
    return {"epochs": 10, **json.loads(printed.splitlines()[-1]), "costs": {"train": cost._asdict()}}


def write_params(folder: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Write the params.yaml of the current folder with these changes to another folder, and return its parameters."""
    params = changed(load_params().model_dump(), changes)
    (folder / PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")
    return params


def changed(params: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Set parameters, each given as `section.name=value`."""
    for change in changes:
        name, _, value = change.partition("=")
        section, parameter = name.split(".")
        if parameter not in params[section]:
            raise InputError(f"{name} is not in {PARAMS}")
        params[section][parameter] = yaml.safe_load(value)
    return params


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Make the Markdown table of the runs: mean, deviation and interval of accuracies, and the median of times.

    Runs that shared the machine, such as those of a sweep, have no times.
    """
    of_recipe = {name: [run for run in runs if run["recipe"] == name] for name in SEEDS}
    timed = {name: [run["costs"]["train"]["seconds"] for run in of if "costs" in run] for name, of in of_recipe.items()}
    seconds = {name: statistics.median(of) for name, of in timed.items() if of}
    rows: list[tuple[object, ...]] = []
    for name, of in of_recipe.items():
        if not of:
            rows.append((name, "", f"0 of {SEEDS[name]}", "not measured", "", "", ""))
            continue
        took, base = seconds.get(name), seconds.get(PLAIN_KERAS)
        ratio = f" ({took / base:.2f})" if took and base else ""
        time = f"{took:,.0f} s{ratio}" if took else "not measured"
        test, training = ([run[f"{part}_accuracy"] for run in of] for part in ("test", "training"))
        rows.append((name, of[0]["epochs"], len(of), spread(test), interval(test), spread(training), time))
    head = (
        "recipe", "epochs", "seeds", "test accuracy", "95% interval of its mean", "running training accuracy",
        "time (of plain Keras's)",
    )  # fmt: skip
    return tables.markdown(head, rows) + "\n"


def spread(accuracies: Sequence[float]) -> str:
    """Format the mean and, for several values, the sample standard deviation."""
    mean = f"{statistics.mean(accuracies):.3%}"
    return f"{mean} ± {statistics.stdev(accuracies):.3%}" if len(accuracies) > 1 else mean


def interval(accuracies: Sequence[float]) -> str:
    """Format the interval of the mean over seeds; nothing for a single value."""
    found = interval_of_mean(accuracies)
    return f"{found[0]:.3%} to {found[1]:.3%}" if found else ""


if __name__ == "__main__":
    with one_line_errors():
        main()
