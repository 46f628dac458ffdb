"""The whole pipeline, run by the real `dvc` in a clone, on small embedded digits."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stages import evaluate, mnist, train
from stages.errors import InputError
from stages.params import LAST_RUN
from tests.clones import FAILED_REPRO, OUTPUTS, PIPELINE, Clone, error_of
from tests.parameters import DIVERGING, SMALL, changed_params, write_params
from tools import ROOT


@pytest.fixture(scope="session")
def experiment(first_run: Clone) -> tuple[Clone, str]:
    """A copy of the first run with an experiment with more dropout, and the output of the experiment."""
    clone = first_run.copy(first_run.folder.parent / "second")
    return clone, clone.run("dvc", "exp", "run", "--name", "more-dropout", "--set-param", "model.dropout=0.5")


@pytest.fixture(scope="session")
def second_run(experiment: tuple[Clone, str]) -> Clone:
    """The first run and, as a second commit, the experiment."""
    clone, _ = experiment
    clone.commit("More dropout")
    return clone


# Which stages run


def test_every_output_is_made_and_nothing_is_left_to_do(first_run: Clone) -> None:
    assert all((first_run.folder / output).exists() for output in OUTPUTS)
    assert first_run.json("dvc", "status", "--json") == {}
    assert "Data and pipelines are up to date." in first_run.run("dvc", "repro")
    assert first_run.run("git", "status", "--porcelain") == ""


def stale_stages(clone: Clone) -> set[str]:
    return set(clone.json("dvc", "status", "--json"))


READERS = {"prepare": {"prepare"}, "model": {"train"}, "train": {"train"}, "augment": {"train"}}
OTHER_VALUES: dict[str, dict[str, Any]] = {
    "prepare": {"dataset": "mnist", "validation_size": 100, "own_repeats": 0, "seed": 1},
    "model": {"lstm_units": [16, 16], "activation": "tanh", "dropout": 0.3, "dense_units": 16},
    "train": {
        "epochs": 3, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.02, "warmup": 0.1,
        "decay": 0.3, "ema": 0.9, "precision": "bfloat16", "seed": 1,
    },
    "augment": {"shift": 1, "rotation": 5, "shear": 5, "scale": 0.1, "elastic": 1},
}  # fmt: skip


def test_a_changed_parameter_makes_the_stage_that_reads_it_stale(clone: Clone) -> None:
    assert {section: set(values) for section, values in OTHER_VALUES.items()} == {
        section: set(values) for section, values in changed_params().items()
    }
    for section, values in OTHER_VALUES.items():
        for name, value in values.items():
            write_params(clone.folder, **(SMALL | {f"{section}__{name}": value}))
            assert stale_stages(clone) == READERS[section], name


def test_a_changed_file_makes_the_stages_that_depend_on_it_stale(clone: Clone) -> None:
    files = [
        *sorted(clone.folder.glob("stages/*.py")),
        *clone.folder.glob("requirements*.txt"),
        clone.folder / "README.md",
    ]
    for file in files:
        name = str(file.relative_to(clone.folder))
        before = file.read_bytes()
        file.write_bytes(before + b"\n# changed\n")
        readers = {stage for stage, described in PIPELINE["stages"].items() if name in described["deps"]}
        assert stale_stages(clone) == readers, name
        assert bool(readers) == (name.startswith("stages/") or name == "requirements.txt"), name
        file.write_bytes(before)
    assert stale_stages(clone) == set()


def test_an_experiment_reruns_only_the_stages_that_its_parameter_affects(experiment: tuple[Clone, str]) -> None:
    clone, printed = experiment
    assert "Stage 'prepare' didn't change, skipping" in printed
    assert "Running stage 'train'" in printed
    assert "Running stage 'evaluate'" in printed
    shown = json.dumps(clone.json("dvc", "exp", "show", "--rev", "first", "--json"))
    assert '"more-dropout"' in shown
    assert '"dropout": 0.5' in shown


def test_earlier_parameters_restore_their_models_without_training_after_a_failed_run(clone: Clone) -> None:
    first = clone.content()
    write_params(clone.folder, **SMALL, train__seed=1)
    clone.run("dvc", "repro")
    second = clone.content()  # never committed
    assert second["models/lstm.keras"] != first["models/lstm.keras"]
    assert second["data/processed/train.npz"] == first["data/processed/train.npz"]
    write_params(clone.folder, **(SMALL | DIVERGING))
    assert "diverged in epoch 1" in error_of(clone.run("dvc", "repro", exit_code=FAILED_REPRO))
    assert not (clone.folder / "models/lstm.keras").exists()
    for parameters, expected in (({}, first), ({"train__seed": 1}, second)):
        write_params(clone.folder, **SMALL, **parameters)
        printed = clone.run("dvc", "repro")
        assert "Stage 'train' is cached - skipping run" in printed
        assert "Stage 'evaluate' is cached - skipping run" in printed
        assert clone.content() == expected


def test_the_same_inputs_give_the_same_bytes(clone: Clone) -> None:
    clone.run("dvc", "repro", "--force")
    assert clone.run("git", "status", "--porcelain") == ""


# Metrics and plots


def test_metrics_are_shown_and_compared(second_run: Clone) -> None:
    recorded = json.loads((second_run.folder / "reports/metrics.json").read_text())
    shown = second_run.json("dvc", "metrics", "show", "--json")[""]["data"]["reports/metrics.json"]["data"]
    assert shown["test"]["accuracy"] == recorded["test"]["accuracy"]
    assert "per_class" not in shown["test"]
    first = json.loads(second_run.run("git", "show", "first:reports/metrics.json"))
    diff = second_run.json("dvc", "metrics", "diff", "first", "HEAD", "--json")["reports/metrics.json"]
    assert diff["test.loss"]["old"] == first["test"]["loss"]
    assert diff["test.loss"]["new"] == recorded["test"]["loss"]
    assert second_run.json("dvc", "params", "diff", "first", "HEAD", "--json") == {
        "params.yaml": {"model.dropout": {"old": 0.2, "new": 0.5, "diff": pytest.approx(0.3)}}
    }


def data_of(plot: Any) -> list[dict[str, Any]]:
    """Return the rows that a plot draws, of all revisions."""
    rows: list[dict[str, Any]] = plot[0]["anchor_definitions"]["<DVC_METRIC_DATA>"]
    return rows


def test_plots_are_shown_with_what_was_measured(second_run: Clone) -> None:
    shown = second_run.json("dvc", "plots", "show", "--json", "--split")["data"]
    assert shown.pop("reports/own_predictions.csv") == [], "there are no pictures of our own, so nothing is drawn"
    assert set(shown) == {
        "accuracy",
        "loss",
        "reports/history.csv",
        "reports/predictions.csv",
        "reports/confusion_matrix.csv",
        "reports/confusion_matrix.png",
        "reports/learning_curves.png",
        "reports/mistakes.png",
    }
    with (second_run.folder / "reports/history.csv").open() as file:
        history = list(csv.DictReader(file))
    for quantity in ("accuracy", "loss"):
        rows = data_of(shown[quantity])
        drawn = {(row["field"], row["epoch"]): row[row["field"]] for row in rows}
        assert drawn == {
            (f"{part}_{quantity}", epoch["epoch"]): epoch[f"{part}_{quantity}"]
            for part in ("training", "validation")
            for epoch in history
        }
    with (second_run.folder / "reports/predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert [(row["actual"], row["predicted"]) for row in data_of(shown["reports/predictions.csv"])] == [
        (row["actual"], row["predicted"]) for row in predictions
    ]
    assert len(predictions) == 359


def test_plots_of_two_commits_are_drawn_together(second_run: Clone) -> None:
    diff = second_run.json("dvc", "plots", "diff", "first", "HEAD", "--json", "--split")["data"]
    for plot in ("accuracy", "loss", "reports/predictions.csv", "reports/confusion_matrix.csv"):
        assert diff[plot][0]["revisions"] == ["first", "HEAD"]
        assert {row["rev"] for row in data_of(diff[plot])} == {"first", "HEAD"}
    for revision in ("first", "HEAD"):
        history = list(csv.DictReader(second_run.run("git", "show", f"{revision}:reports/history.csv").splitlines()))
        rows = [row for row in data_of(diff["loss"]) if row["rev"] == revision and row["field"] == "validation_loss"]
        assert [row["validation_loss"] for row in rows] == [epoch["validation_loss"] for epoch in history]
        predictions = second_run.run("git", "show", f"{revision}:reports/predictions.csv").splitlines()
        rows = [row for row in data_of(diff["reports/predictions.csv"]) if row["rev"] == revision]
        assert [row["predicted"] for row in rows] == [row["predicted"] for row in csv.DictReader(predictions)]
    assert {picture["revisions"][0] for picture in diff["reports/mistakes.png"]} == {"first", "HEAD"}


# Sharing


def test_another_clone_gets_everything_by_pull(clone: Clone, tmp_path: Path) -> None:
    clone.run("dvc", "push")
    clone.run("git", "clone", "--quiet", str(clone.folder), str(tmp_path / "other"))
    other = Clone(tmp_path / "other")
    # The metrics are available before anything is pulled.
    assert other.json("dvc", "metrics", "show", "--json") == clone.json("dvc", "metrics", "show", "--json")
    assert not (other.folder / "models/lstm.keras").exists()
    other.run("dvc", "pull")
    assert other.json("dvc", "status", "--json") == {}
    assert other.content() == clone.content()
    assert "Data and pipelines are up to date." in other.run("dvc", "repro")


def test_dvc_sends_no_analytics() -> None:
    config = Clone(ROOT).run("dvc", "config", "--list")
    assert "core.analytics=false" in config


# Bad input


@pytest.fixture
def spoiled(clone: Clone) -> Iterator[Clone]:
    """A clone that a test damages, and that the documented commands must then restore."""
    before = clone.content()
    yield clone
    clone.run("git", "restore", "dvc.lock", "params.yaml", "reports")
    clone.run("dvc", "checkout")
    assert clone.content() == before
    assert clone.json("dvc", "status", "--json") == {}


def test_a_bad_parameter_stops_the_stage_that_runs_and_nothing_is_lost(spoiled: Clone) -> None:
    # The bad parameter is not in a section that prepare reads, but prepare checks the whole file.
    write_params(spoiled.folder, **(SMALL | {"prepare__seed": 1, "train__epochs": 0}))
    printed = spoiled.run("dvc", "repro", exit_code=FAILED_REPRO)
    assert error_of(printed) == (
        f"error: params.yaml: train.epochs: Input should be greater than or equal to 1, found 0; {LAST_RUN}"
    )


def test_a_misspelt_parameter_is_named(spoiled: Clone) -> None:
    text = (spoiled.folder / "params.yaml").read_text()
    (spoiled.folder / "params.yaml").write_text(text.replace("dropout:", "drop_out:"))
    printed = spoiled.run("dvc", "repro", exit_code=FAILED_REPRO)
    assert error_of(printed) == (
        "error: params.yaml: model.dropout is missing; "
        f"model.drop_out is unknown, expected lstm_units, activation, dropout, dense_units; {LAST_RUN}"
    )


@pytest.mark.parametrize(
    ("stage", "damaged", "message"),
    [
        (train, "data/processed/train.npz", r"data/processed/train\.npz: damaged"),
        (train, "data/processed/validation.npz", r"data/processed/validation\.npz: damaged"),
        (evaluate, "data/processed/test.npz", r"data/processed/test\.npz: damaged"),
        (evaluate, "models/lstm.keras", r"models/lstm\.keras: damaged or unsafe"),
        (evaluate, "reports/history.csv", r"reports/history\.csv: (not a table|expected)"),
    ],
)
def test_a_damaged_or_missing_input_is_named(
    stage: ModuleType, damaged: str, message: str, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.folder)
    path = Path(damaged)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=message):
        stage.main()
    path.unlink()
    with pytest.raises(InputError, match=f"{damaged}: not found"):
        stage.main()
    # The commands that the errors name restore the files.
    clone.run("git", "restore", "reports")
    clone.run("dvc", "checkout", "--force")
    assert clone.json("dvc", "status", "--json") == {}


def test_a_full_disk_under_the_download_cache_is_not_blamed_on_the_mirrors(clone: Clone, tmp_path: Path) -> None:
    write_params(clone.folder, **(SMALL | {"prepare__dataset": "mnist"}))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(bytes(1_000_000))
    printed = clone.run(
        "bash", "-c", "ulimit -f 100; exec python -m stages.prepare",
        exit_code=1, MNIST_MIRROR=str(mirror), XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert "make room" in error_of(printed)
    assert "no source has it" not in printed


def test_a_swapped_file_is_named_with_both_checksums(spoiled: Clone, tmp_path: Path) -> None:
    write_params(spoiled.folder, **(SMALL | {"prepare__dataset": "mnist"}))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"of another kind")
    nowhere = "http://127.0.0.1:1"
    printed = spoiled.run(
        "dvc", "repro",
        exit_code=FAILED_REPRO, MNIST_MIRROR=str(mirror), XDG_CACHE_HOME=str(tmp_path / "cache"),
        https_proxy=nowhere, HTTPS_PROXY=nowhere,
    )  # fmt: skip
    expected, found = mnist.TRAIN_IMAGES.sha256, hashlib.sha256(b"of another kind").hexdigest()
    assert f"expected sha256:{expected} but got {found}" in error_of(printed)


def test_the_last_epoch_and_the_finished_model_have_the_same_validation_figures(first_run: Clone) -> None:
    with (first_run.folder / "reports/history.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    metrics = json.loads((first_run.folder / "reports/metrics.json").read_text())
    for quantity in ("accuracy", "loss"):
        assert float(last[f"validation_{quantity}"]) == pytest.approx(metrics["validation"][quantity], rel=1e-5)


def test_predictions_and_matrix_agree(first_run: Clone) -> None:
    with (first_run.folder / "reports/predictions.csv").open() as file:
        predictions = [(int(row["actual"]), int(row["predicted"])) for row in csv.DictReader(file)]
    with (first_run.folder / "reports/confusion_matrix.csv").open() as file:
        matrix = np.array([[int(count) for count in row[1:]] for row in list(csv.reader(file))[1:]])
    counted = np.zeros((10, 10), int)
    for pair in predictions:
        counted[pair] += 1
    np.testing.assert_array_equal(matrix, counted)
