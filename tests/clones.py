"""Working copies in which tests run the real `dvc`, `git` and tools."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages import archive, confusion, dataset, predictions, report
from stages.report import Size
from tests.parameters import SMALL, write_params
from tools import ROOT
from tools.runs.revision import read_bytes, resolve

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
OUTPUTS = sorted(
    next(iter(output))
    for stage in PIPELINE["stages"].values()
    for kind in ("outs", "metrics", "plots")
    for output in stage.get(kind, [])
)


# Messages in English, and no settings of DVC beside those of the repository.
OF_NO_USER = {
    "DVC_GLOBAL_CONFIG_DIR": "/nonexistent",
    "DVC_SYSTEM_CONFIG_DIR": "/nonexistent",
    "LANGUAGE": "",
    "LC_ALL": "C.UTF-8",
}
FAILED_REPRO = 255  # DVC's exit code if a stage fails, whatever the stage's exit code


class Clone:
    """A working copy, and methods that run commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Leave out the developer's settings of git and DVC, and the variables that CI sets.
        others = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "CI"))}
        self.environment = {
            **others,
            **OF_NO_USER,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }

    def copy(self, folder: Path) -> "Clone":
        """Copy the whole folder, with its cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder)

    def run(self, *command: str, exit_code: int = 0, **variables: str) -> str:
        """Run a command that must end with this code. Return its output, with errors for a code other than 0."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | variables, capture_output=True, text=True, check=False
        )
        printed = done.stdout + done.stderr
        assert done.returncode == exit_code, printed
        return printed if exit_code else done.stdout

    def start_queue(self, jobs: int = 1) -> None:
        """Start DVC's workers. They keep the output of `dvc queue start` open until they end, so discard it."""
        subprocess.run(
            ["dvc", "queue", "start", f"--jobs={jobs}"],
            cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def content(self) -> dict[str, bytes]:
        """Return the content of every file of all outputs."""
        files = [
            path
            for output in OUTPUTS
            for path in sorted(
                (self.folder / output).rglob("*") if (self.folder / output).is_dir() else [self.folder / output]
            )
        ]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files if path.is_file()}


def error_of(printed: str) -> str:
    assert "Traceback" not in printed
    (line,) = re.findall(r"^error: .*$", printed, re.MULTILINE)
    return line


# Registered runs: the first, a better one, a worse one, and one as good as the first

# By version: what was done to the first run's model, with a margin that no processor's rounding reaches.
RELEASED = {"v1.0.0": "nothing", "v1.0.1": "refit", "v1.1.0": "five digits never", "v1.1.1": "one digit more often"}
BUMPS = {"v1.0.0": "major", "v1.1.0": "minor"}


def commit_run(clone: Clone, seed: int, change: str) -> None:
    """Commit a run as if from another seed: the first one's model with another last layer, and its real evaluation."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as TensorFlow, only here

    from stages.evaluate import evaluate  # noqa: PLC0415
    from stages.model import Predictor  # noqa: PLC0415
    from stages.runtime import keras  # noqa: PLC0415

    train, validation, test = (
        dataset.load(clone.folder / path) for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST)
    )
    own_test = dataset.load_named(clone.folder / dataset.OWN_TEST)
    path = clone.folder / archive.PATH
    path.unlink()  # it may be a link into the cache
    path.write_bytes(read_bytes(resolve("first", clone.folder), archive.PATH))
    model = archive.load(path)
    last = model.layers[-1]
    weights, bias = last.get_weights()
    match change:
        case "refit":
            features = keras.Model(model.inputs, model.layers[-2].output)
            fitted = LogisticRegression(max_iter=2000).fit(Predictor(features)(train.images), train.labels)
            weights, bias = fitted.coef_.T, fitted.intercept_
        case "five digits never":
            bias -= 100 * (np.arange(10) < 5)
        case "one digit more often":
            bias[5] += 0.1
    last.set_weights([weights.astype(np.float32), bias])
    archive.save(model, path)
    size = Size(parameters=model.count_params(), bytes=path.stat().st_size)
    result = evaluate(Predictor(model), train, validation, test, own_test, size=size)
    report.save(result.report, clone.folder / report.PATH)
    predictions.save(result.predictions, clone.folder / predictions.PATH)
    predictions.save(result.own_predictions, clone.folder / predictions.OWN_PATH)
    confusion.save(result.counts, clone.folder / confusion.PATH)
    write_params(clone.folder, **SMALL, train__seed=seed)
    clone.run("dvc", "commit", "--force")
    clone.commit(f"Seed {seed}")
