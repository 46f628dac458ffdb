import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.errors import INTERRUPTED
from tools import ROOT


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        '{"floatx": "float16", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first"}',
        '{"floatx": "float8"}',
        "[]",
    ],
)
def test_tensorflow_starts_without_noise_files_and_the_users_settings(settings: str, tmp_path: Path) -> None:
    home, temporary = tmp_path / ".keras", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    (home / "keras.json").write_text(settings)
    done = run(
        "from stages.runtime import keras, tf\n"
        "print(keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(),\n"
        "      keras.config.image_data_format(), keras.config.max_epochs(),\n"
        "      tf.config.threading.get_intra_op_parallelism_threads(), tf.config.get_visible_devices('GPU'))",
        HOME=str(tmp_path),
        TMPDIR=str(temporary),
        KERAS_HOME=str(home),
        KERAS_BACKEND="torch",
        KERAS_MAX_EPOCHS="many",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
    )
    assert (done.stdout, done.stderr) == ("tensorflow float32 1e-07 channels_last None 1 []\n", "")
    assert sorted(tmp_path.rglob("*")) == [home, home / "keras.json", temporary]


def test_the_error_of_a_failed_import_is_shown() -> None:
    done = run("import os, sys; sys.modules['tensorflow'] = None; import stages.runtime")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def import_of(tensorflow: str, folder: Path) -> tuple[int, str]:
    """Import a fake TensorFlow that prints two words and runs this code. Return exit code and standard error."""
    (folder / "tensorflow.py").write_text(f"import os, signal\nos.write(2, b'last words\\n')\n{tensorflow}\n")
    done = run("import stages.runtime", PYTHONPATH=str(folder))
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGILL, signal.SIGKILL])
def test_messages_of_tensorflow_are_shown_if_a_signal_ends_the_process(number: signal.Signals, tmp_path: Path) -> None:
    code = "os.abort()" if number == signal.SIGABRT else f"os.kill(os.getpid(), {number:d})"
    assert import_of(code, tmp_path) == (-number, "last words\n")


def test_messages_of_tensorflow_come_before_the_traceback(tmp_path: Path) -> None:
    code, printed = import_of("raise ValueError('odd')", tmp_path)
    assert code == 1
    assert printed.startswith("last words\nTraceback")
    assert printed.endswith("ValueError: odd\n")


def test_ctrl_c_during_the_import_ends_with_one_word(tmp_path: Path) -> None:
    assert import_of("signal.raise_signal(signal.SIGINT)", tmp_path) == (130, f"{INTERRUPTED}\n")


def test_lack_of_memory_or_disk_during_the_import_ends_with_one_line(tmp_path: Path) -> None:
    assert import_of("raise MemoryError", tmp_path) == (1, "error: out of memory\n")
    assert import_of("raise OSError('no room')", tmp_path) == (1, "error: no room\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit holds for nothing")
def test_lack_of_memory_for_a_library_ends_with_one_line() -> None:
    done = run("import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2); import stages.runtime")
    assert done.returncode == 1
    assert done.stderr.startswith("error: out of memory, ")
    assert done.stderr.endswith(".so.2: failed to map segment from shared object\n")
    assert done.stderr.count("\n") == 1
