"""Every tool starts, also where Python leaves documentation out."""

import os
import subprocess
import sys

import pytest

from tools import ROOT

TOOLS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "tools").rglob("*.py")
    if "make_parser(__doc__)" in path.read_text(encoding="utf-8")
)


def test_the_tools_are_found() -> None:
    assert {"tools.verify", "tools.predict", "tools.pages.compare", "tools.bench.recipes"} <= set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_shows_its_help_without_documentation(tool: str) -> None:
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
