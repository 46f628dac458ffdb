"""The three stages as processes in a folder, which can be killed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.parameters import SMALL
from tools import ROOT

SAMPLE = os.environ.get("FAULTS") == "sample"
STAGES = ("prepare", "train", "evaluate")
PARAMS = SMALL | {"train__epochs": 8, "augment__shift": 1}


def start(stage: str, folder: Path) -> subprocess.Popen[str]:
    """Start a stage as the leader of a process group of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(stage: str, folder: Path) -> str:
    """Run a stage, which must succeed."""
    process = start(stage, folder)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def content(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder, including hidden files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
