"""Measure the cost of a command, and describe the machine."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from stages.environment import cpuinfo
from tools import ROOT

PACKAGES = ("tensorflow", "keras", "numpy", "torch")


class Cost(NamedTuple):
    """The cost of one process, including its start-up."""

    seconds: float  # wall time
    peak_mib: int  # peak resident memory, at least that of the caller, which the kernel counts too


def run(*arguments: str, folder: Path, **variables: str) -> tuple[str, Cost]:
    """Run this Python in a folder, with this repository's modules. Return the standard output and the cost.

    Ends the program with the command's messages if the command fails.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=printed, stderr=errors
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (printed, errors):
            file.seek(0)
        if process.returncode:
            sys.exit(f"error: `python {' '.join(arguments)}` failed: {printed.read()}{errors.read()}")
        unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of `ru_maxrss`
        return printed.read(), Cost(round(seconds, 2), round(usage.ru_maxrss * unit / 2**20))


def environment() -> Mapping[str, object]:
    """Describe the machine and the packages that affect speed."""
    packages = {name: version(name) for name in PACKAGES if find_spec(name)}
    return {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def _processor() -> str:
    values = cpuinfo()
    known = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
    return ", ".join(f"{name} {values[name]}" for name in known if name in values)
