import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from stages.errors import INTERRUPTED, InputError, interrupted_at_once, one_line_errors, remedied
from tools import ROOT


@pytest.mark.parametrize(
    "error",
    [
        InputError("a.npz: expected this,\n found that"),
        OSError(28, "No space left on device", "a.npz"),
        MemoryError(),
        ImportError("a long text\n\nOriginal error was: a.so: failed to map segment from shared object"),
        ImportError("a.so: cannot allocate memory in static TLS block"),
    ],
)
def test_a_foreseen_error_ends_with_one_line(error: Exception) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    # sys.exit prints a text and ends with exit code 1.
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    assert len(end.value.code) > len("error: ")
    assert "\n" not in end.value.code


def test_lack_of_memory_for_a_library_is_named() -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise ImportError("Advice:\n  read it\n\nOriginal error was: a.so: failed to map segment from shared object\n")
    assert end.value.code == (
        "error: out of memory, or a file system mounted noexec: "
        "Original error was: a.so: failed to map segment from shared object"
    )


@pytest.mark.parametrize(
    ("raised", "printed"),
    [
        ("MemoryError", "error: out of memory\n"),
        (
            "OSError(28, 'No space left on device')",
            "error: [Errno 28] No space left on device; make room and run",
        ),
        ("IsADirectoryError(21, 'Is a directory', 'a')", "error: [Errno 21] Is a directory: 'a'; expected a file\n"),
        ("ImportError('a.so: failed to map segment from shared object')", "error: out of memory, or"),
        ("ConnectionResetError", "error: ConnectionResetError\n"),
        ("type('ResourceExhaustedError', (Exception,), {})('OOM when allocating')", "error: out of memory\n"),
        ("KeyboardInterrupt", f"{INTERRUPTED}\n"),
    ],
)
def test_an_error_that_ends_an_import_is_one_line(raised: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import stages.errors\nraise {raised}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith(printed)
    assert done.stderr.count("\n") == 1


def test_a_missing_package_keeps_its_traceback() -> None:
    with pytest.raises(ImportError), one_line_errors():
        raise ImportError("no module named a")


@pytest.mark.parametrize("module", ["stages.train", "tools.pages.report"])
def test_a_missing_package_names_the_environment(module: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")

    def error(python: Path) -> str:
        done = subprocess.run(
            [python, "-I", "-c", f"import sys, runpy; sys.path.insert(0, '.'); runpy.run_module('{module}')"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    bare = tmp_path / "bare"
    venv.create(bare)
    python = bare / "bin/python"
    assert re.fullmatch(
        rf"error: the packages are not installed for {python}; `make setup` in {tmp_path} installs the environment, "
        rf"then `export PATH={tmp_path}/\.venv/bin:\$PATH`\n",
        error(python)
    )  # fmt: skip
    venv.create(tmp_path / ".venv")
    assert error(python).endswith(f"; `export PATH={tmp_path}/.venv/bin:$PATH` finds the environment's Python\n")
    assert f"`make -B .venv/installed-dev` in {tmp_path} installs all packages" in error(tmp_path / ".venv/bin/python")


def test_a_remedy_is_appended() -> None:
    with pytest.raises(InputError, match=r"^a\.npz: damaged; remove it$") as error, remedied("remove it"):
        raise InputError("a.npz: damaged")
    assert error.value.__suppress_context__
    with pytest.raises(ValueError, match=r"^other$"), remedied("remove it"):
        raise ValueError("other")


def test_ctrl_c_ends_without_traceback() -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130


def test_ctrl_c_ends_at_once_where_an_exception_would_be_lost() -> None:
    program = """
import signal
from stages.errors import interrupted_at_once

class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

with interrupted_at_once():
    Lost()
    print("continued")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{INTERRUPTED}\n")


def test_ctrl_c_is_an_exception_again_afterwards() -> None:
    with interrupted_at_once():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


def test_a_message_reaches_the_terminal_without_control_characters() -> None:
    with pytest.raises(SystemExit, match=r"^error: a\\x1b\[2Jb\\u202ec: not found$"), one_line_errors():
        raise InputError("a\x1b[2Jb\u202ec: not found")


@pytest.mark.parametrize("module", ["stages.prepare", "stages.train", "stages.evaluate", "tools.pages.compare"])
def test_memory_that_runs_out_while_a_module_is_imported_is_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise MemoryError")
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: out of memory\n")
