"""Every tool shows its help, also where Python leaves documentation out."""

import os
import subprocess
import sys

import pytest

from tools import ROOT

OF_PROGRAMS = {  # that git and the benchmarks start, not people
    "tools/bench/plain_keras.py",
    "tools/bench/plain_server.py",
    "tools/clone/merge_lock.py",
    "tools/clone/merge_own.py",
}
IS_RUN = 'if __name__ == "__main__"'
FILES = (path.relative_to(ROOT) for path in (ROOT / "tools").rglob("*.py") if IS_RUN in path.read_text("utf-8"))
TOOLS = sorted(".".join(file.with_suffix("").parts) for file in FILES if file.as_posix() not in OF_PROGRAMS)


def test_the_tools_are_found() -> None:
    assert {"tools.verify", "tools.predict", "tools.pages.compare", "tools.storage.repair"} <= set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_shows_its_help_and_does_nothing_else(tool: str) -> None:
    without_documentation = "-OO"
    if tool.startswith("tools.sweep."):
        pytest.importorskip("ray", reason="Ray is optional, and only for sweeps")
        without_documentation = "-O"  # Ray itself does not start without documentation
    done = subprocess.run(
        [sys.executable, without_documentation, "-m", tool, "--help"],
        cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("tools.serve.server", ["--port=abc"], "argument --port: invalid int value: 'abc'"),
        ("tools.registry.register", ["--bump=huge"], "argument --bump: invalid choice: 'huge'"),
        ("tools.verify", ["--revision"], "unrecognized arguments: --revision"),
        ("tools.collect", [], "the following arguments are required: folder"),
    ],
)
def test_arguments_that_a_tool_does_not_take_are_one_line(tool: str, arguments: list[str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {reason}")
    assert line.endswith(f"; `python -m {tool} --help` says what is allowed")
