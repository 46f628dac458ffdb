"""Run a commit's whole pipeline again in a clone, and compare its outputs with the record: `make verify`.

Nothing is installed and no cache is shared. Only MNIST's files and the data that `dvc add` tracks, such as own
pictures, are not made again. Exit codes of `python -m tools.verify`: 0 if every output has the bytes that dvc.lock
names, 3 if outputs differ and the metrics agree within `TOLERANCE`, 4 if the metrics differ more, and 1 if the pipeline
could not be run.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dvc.api import DVCFileSystem

from stages import environment, report
from stages.environment import Environment
from stages.errors import InputError, one_line_errors
from stages.files import read_text
from stages.report import Report
from stages.terminal import printable
from tools import ROOT, make_parser, tables
from tools.runs import lock
from tools.runs.lock import Lock
from tools.runs.revision import read, resolve
from tools.runs.run import flat

RECORD = environment.PATH.as_posix()
SHARE = "`dvc push` in a clone that has it shares it"  # the remedy for what neither cache nor storage has

TOLERANCE = {"accuracy": 0.003, "loss": 0.01}  # a few times what another seed changes
SAME, OTHER_BITS, OTHER_RESULT = 0, 3, 4


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rev", default="HEAD", help="the commit, branch or tag to verify (default: HEAD)")
    rev = parser.parse_args().rev
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        clone_of(rev, clone)
        get_added(rev, clone)
        expected, before = lock.load(clone / lock.PATH), report.load(clone / report.PATH)
        run_pipeline(clone)
        found, after = lock.load(clone / lock.PATH), report.load(clone / report.PATH)
        differing = expected.differing(found)
        here = record_of(clone)
        print(table(expected.hashes, found.hashes))
        print(f"bits of this run: {printable(here['bits']) if here and 'bits' in here else 'not recorded'}")
        if not differing:
            print(f"{rev}: all {len(expected.hashes)} outputs have the bytes that dvc.lock names")
            sys.exit(SAME)
        disagreeing = disagreements(before, after)
        for line in (first_difference(expected, found), *reasons(recorded(rev), here), *disagreeing):
            print(line)
        if disagreeing:
            print(f"{rev}: another result: {len(differing)} outputs differ, the metrics beyond the tolerance")
            sys.exit(OTHER_RESULT)
        print(f"{rev}: the same result with other bits: {len(differing)} outputs differ, the metrics agree")
        sys.exit(OTHER_BITS)


def clone_of(rev: str, folder: Path) -> None:
    """Clone this repository at a revision, without its cache."""
    commit = resolve(rev).commit
    if commit != git("rev-parse", "HEAD"):
        print(f"{rev} is an older commit: it is run with the packages that are installed now")
    elif git("status", "--porcelain", "--untracked-files=no"):
        print("what is not committed is left out")
    git("clone", "--quiet", "--no-checkout", "--config", "core.autocrlf=false", str(ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    if not (folder / lock.PATH).exists():
        raise InputError(f"{rev} has no {lock.PATH}: there is no run to compare with")


def get_added(rev: str, clone: Path) -> None:
    """Copy the data that `dvc add` tracks, which no stage makes, from the cache or else the storage."""
    files = DVCFileSystem(str(ROOT), rev=resolve(rev).commit)
    for file in git("-C", str(clone), "ls-files", "-z", "*.dvc").split("\0")[:-1]:
        name = file.removesuffix(".dvc")
        try:
            files.get(name, str(clone / name), recursive=True)
        except Exception as error:  # noqa: BLE001 - each kind of storage has its own way to say that it cannot
            raise InputError(f"{name} at {rev}: not readable: {error}; {SHARE}") from None


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


def run_pipeline(clone: Path) -> None:
    """Run every stage of a clone, with a cache of its own whatever the user's DVC settings say."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment = own | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_GLOBAL_CONFIG_DIR": str(clone.parent),
        "DVC_SYSTEM_CONFIG_DIR": str(clone.parent),
    }
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "--force"], cwd=clone, env=environment, check=False)
    if done.returncode:
        raise InputError("the pipeline of the clone failed, as its last lines say")


def table(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    rows = []
    for path, hash_ in expected.items():
        verdict = "same" if found.get(path) == hash_ else "DIFFERENT"
        rows.append((printable(path), hash_[:12], found.get(path, "none")[:12], verdict))
    return tables.text(("output", "expected", "found", "verdict"), rows, left=4)


def first_difference(expected: Lock, found: Lock) -> str:
    """Name the stage that made another output from the same inputs, and its first such output."""
    for name, stage in expected.stages.items():
        again = found.stages.get(name)
        if again and {dep.path: dep.md5 for dep in stage.deps} == {dep.path: dep.md5 for dep in again.deps}:
            for out in stage.outs:
                if out.md5 != found.hashes.get(out.path):
                    return printable(f"first difference: stage {name} made another {out.path} from the same inputs")
    return "first difference: not in an output of a stage with the same inputs"


def recorded(rev: str) -> Environment | None:
    """Read the record of the environment of a run; None if neither the cache nor the storage has it."""
    try:
        return read(resolve(rev), environment.PATH, environment.parse)
    except InputError:
        return None


def record_of(clone: Path) -> Environment | None:
    """Read the record of the environment of a clone's run; None at a commit whose stages write none."""
    path = clone / environment.PATH
    return environment.parse(read_text(path), str(path)) if path.exists() else None


def reasons(recorded: Mapping[str, str] | None, here: Mapping[str, str] | None) -> list[str]:
    """Say why bits differ, as far as the records of both runs tell it."""
    if recorded is None or here is None:
        return [f"the reason is not known: {RECORD} of one run is missing; {SHARE}"]
    names = {**recorded, **here}
    different = [name for name in names if recorded.get(name) != here.get(name)]
    if not different:
        return ["processor and packages are those of the recorded run: they do not explain the difference"]
    return [printable(f"{name}: {recorded.get(name)} in the recorded run, {here.get(name)} here") for name in different]


def disagreements(expected: Report, found: Report) -> list[str]:
    """Compare accuracy and loss of each set, as far as both are recorded."""
    values = [flat(each.model_dump(exclude_none=True)) for each in (expected, found)]
    return [
        f"{name}: {values[0][name]} recorded, {values[1].get(name)} found, tolerance {tolerance}"
        for part in ("train", "validation", "test", "own_test")
        for quantity, tolerance in TOLERANCE.items()
        if (name := f"{part}.{quantity}") in values[0]
        and not math.isclose(values[0][name], values[1].get(name, math.nan), rel_tol=0, abs_tol=tolerance)
    ]


if __name__ == "__main__":
    with one_line_errors():
        main()
