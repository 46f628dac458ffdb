"""Working copies in which the real `dvc`, `git` and tools are run."""

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


FAILED_REPRO = 255  # DVC's own exit code, whichever a stage's was


class Clone:
    """A working copy and the commands typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing of the developer's own git or DVC settings reaches the clone, nor that it is tested in CI.
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
        """Copy it whole, with its cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder)

    def run(self, *command: str, exit_code: int = 0, **variables: str) -> str:
        """Run a command that must end with this code, and return what it printed, with its errors if it failed."""
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
        """What all outputs hold, file for file."""
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

# By version: how many test images it fixes and how many it breaks of the first run's.
RELEASED = {"v1.0.0": (0, 0), "v1.0.1": (20, 0), "v1.1.0": (0, 20), "v1.1.1": (10, 10)}
BUMPS = {"v1.0.0": "major", "v1.1.0": "minor"}


def commit_run(clone: Clone, seed: int, fixed: int, broken: int) -> None:
    """Commit what a training with another seed might have given: another file, and other predictions than the first."""
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
