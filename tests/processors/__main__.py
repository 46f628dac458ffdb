"""Compare the bits of a run's steps on the bare machine, under caps of oneDNN, and under QEMU's processors."""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import zip_longest

from stages.environment import cpuinfo
from stages.errors import InputError, interrupted_at_once, one_line_errors
from tools import ROOT, make_parser, tables

QEMU = "qemu-x86_64"
CAPS = ("AVX2", "AVX512_CORE")  # the second is AVX-512 without AMX
PROCESSORS = ("max", "Haswell", "EPYC")  # of QEMU; none of them has AVX-512

Hashes = Mapping[str, str]  # by the name of a result


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sample", action="store_true", help=f"only {PROCESSORS[0]} of QEMU's processors")
    processors = PROCESSORS[:1] if parser.parse_args().sample else PROCESSORS
    if platform.machine() != "x86_64":
        raise InputError(f"this test compares processors of type x86_64, and this is {platform.machine()}")
    if not shutil.which(QEMU):
        raise InputError(f"{QEMU} not found; install it with `apt-get install qemu-user`")

    here = f"this machine: {cpuinfo().get('model name', 'unknown')}"
    expected = run(here)
    found = {f"oneDNN's {cap}": run(f"oneDNN's {cap}", "--cap", cap) for cap in CAPS}
    for processor in processors:
        name = f"QEMU's {processor}"
        found[name] = run(name, before=(QEMU, "-cpu", processor))
    print()
    print(table(expected, found))
    print(f"expected: {here}, Python {platform.python_version()}")
    firsts = {name: difference(expected, each) for name, each in found.items()}
    others = [f"{name} differs first in {first}" for name, first in firsts.items() if first]
    print("\n".join(others) or f"the same bits on all {1 + len(found)}")
    sys.exit(bool(others))


def run(name: str, *arguments: str, before: tuple[str, ...] = ()) -> Hashes:
    """Compute the steps in a process of their own. What QEMU lacks of a processor, it says on standard error.

    Raises `InputError` if the process fails on the bare machine, with which the others are compared.
    """
    print(f"{name} ...", end=" ", flush=True)
    start = time.monotonic()
    done = subprocess.run(
        [*before, sys.executable, "-m", "tests.processors.steps", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "TCG doesn't support" not in line]
        fault = f"{name} ended with exit code {done.returncode}: {' '.join(lines[-1:]) or 'no message'}"
        if not (arguments or before):
            raise InputError(fault)
        print(fault, flush=True)
    return {name: value for value, _, name in (line.partition(" ") for line in done.stdout.splitlines())}


def table(expected: Hashes, found: Mapping[str, Hashes]) -> str:
    """Lay out the hashes of the bare machine, and where the others have them."""
    rows = [
        [result, value, *("same" if each.get(result) == value else "different" for each in found.values())]
        for result, value in expected.items()
    ]
    verdicts = ["different" if difference(expected, each) else "same" for each in found.values()]
    return tables.text(["result", "MD5", *found], [*rows, ["verdict", "", *verdicts]], left=2 + len(found))


def difference(expected: Hashes, found: Hashes) -> str | None:
    """Name the first result that differs."""
    pairs = zip_longest(expected.items(), found.items())
    return next((str((one or other)[0]) for one, other in pairs if one != other), None)


if __name__ == "__main__":
    with one_line_errors(), interrupted_at_once():
        main()
