import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import ROOT


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_tensorflow_starts_without_noise_and_the_users_keras_settings(tmp_path: Path) -> None:
    settings = tmp_path / "keras.json"
    settings.write_text('{"floatx": "float16", "backend": "jax", "image_data_format": "channels_first"}')
    done = run(
        "from stages.runtime import keras, tf\n"
        "print(keras.backend.backend(), keras.config.floatx(), keras.config.image_data_format(),\n"
        "      tf.config.threading.get_intra_op_parallelism_threads(), tf.config.get_visible_devices('GPU'))",
        KERAS_HOME=str(tmp_path),
        KERAS_BACKEND="torch",
    )
    assert (done.stdout, done.stderr) == ("tensorflow float32 channels_last 1 []\n", "")


@pytest.mark.parametrize("missing", ["tensorflow"])
def test_what_a_failed_import_said_is_shown(missing: str) -> None:
    done = run(f"import os, sys; sys.modules[{missing!r}] = None; import stages.runtime")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
