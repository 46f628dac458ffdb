"""Working copies in which tests run the real `dvc`, `git` and tools."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages import archive, predictions
from tests.parameters import SMALL, write_params
from tools import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
OUTPUTS = sorted(
    next(iter(output))
    for stage in PIPELINE["stages"].values()
    for kind in ("outs", "metrics", "plots")
    for output in stage.get(kind, [])
)


FAILED_REPRO = 255  # DVC's exit code if a stage fails, whatever the stage's exit code


class Clone:
    """A working copy, and methods that run commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Leave out the developer's settings of git and DVC, and the variables that CI sets.
        others = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "CI"))}
        self.environment = {
            **others,
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

# By version: how many test images the run fixes and how many it breaks, compared with the first run.
RELEASED = {"v1.0.0": (0, 0), "v1.0.1": (20, 0), "v1.1.0": (0, 20), "v1.1.1": (10, 10)}
BUMPS = {"v1.0.0": "major", "v1.1.0": "minor"}


def commit_run(clone: Clone, seed: int, fixed: int, broken: int) -> None:
    """Commit an imitated training with another seed: another model file, and other predictions than the first run's."""
    write_params(clone.folder, **SMALL, train__seed=seed)
    with zipfile.ZipFile(clone.folder / archive.PATH, "a") as file:
        file.comment = f"seed {seed}".encode()
    path = clone.folder / predictions.PATH
    table = pd.read_csv(io.StringIO(clone.run("git", "show", f"first:{predictions.PATH}")), dtype={"confidence": str})
    is_right = table["predicted"] == table["actual"]
    for rows, by in ((table.index[~is_right][:fixed], 0), (table.index[is_right][:broken], 1)):
        table.loc[rows, "predicted"] = (table.loc[rows, "actual"] + by) % 10
    table.to_csv(path, index=False, lineterminator="\n")
    clone.run("dvc", "commit", "--force")
    clone.commit(f"Seed {seed}")
