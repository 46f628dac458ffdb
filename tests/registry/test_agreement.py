"""The models are predicted again before a decision."""

import os
import subprocess
import sys
from pathlib import Path

from tools import ROOT

INTERRUPTED = """
import os, signal
import numpy as np
from stages.dataset import Dataset
from tools.registry import agreement
agreement.archive.load = lambda _: os.kill(os.getpid(), signal.SIGINT)
agreement.predict(b"a model", Dataset(np.zeros((1, 28, 28), np.float32), np.zeros(1, np.uint8)), "HEAD")
"""


def test_ctrl_c_leaves_no_model_in_the_temporary_folder(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 130, ended.stderr
    assert "interrupted" in ended.stderr
    assert list(tmp_path.iterdir()) == []
