"""A full disk.

With a limit on the size of files, a write fails as on a full disk, and tests need no right to mount a disk.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed, fill
from tests.faults.pipeline import SAMPLE, content, run
from tools import ROOT

# The largest file that can be written, in kilobytes, by stage.
LIMITS = {"prepare": (0, 20, 500, 2_000), "train": (0, 4, 10, 20), "evaluate": (0, 2, 20, 40)}


@pytest.mark.fault("full disks survived")
@pytest.mark.parametrize(
    ("stage", "kilobytes"),
    [(stage, limit) for stage, limits in LIMITS.items() for limit in (limits[1:2] if SAMPLE else limits)],
)
def test_a_stage_names_a_full_disk_and_succeeds_once_there_is_room(
    stage: str, kilobytes: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    fill(tmp_path, undisturbed.before[stage])
    program = (
        f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024},) * 2);"
        f"runpy.run_module('stages.{stage}', run_name='__main__')"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.defpath, "JOBLIB_MULTIPROCESSING": "0"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert "make room" in line or "No usable temporary directory" in line
    for path, whole in undisturbed.after[stage].items():
        if (tmp_path / path).exists() and path != "reports/history.csv":
            assert (tmp_path / path).read_bytes() == whole, "a truncated file has the final name"
    run(stage, tmp_path)
    assert content(tmp_path) == undisturbed.after[stage]
