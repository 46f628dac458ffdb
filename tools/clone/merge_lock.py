"""Git's merge driver for dvc.lock, installed by `make setup`: stage by stage.

A stage changed on one side is taken from there. One changed on both in different ways is left out, since no run made
what a mixture would say: `dvc repro` then restores it from the cache or runs it. A file that is no dvc.lock on some
side is left to people, with the conflict marked.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.utils.serialize import ParseError, dump_yaml, parse_yaml

from stages.errors import one_line_errors

Lock = Mapping[str, Any]


def main() -> None:
    base, ours, theirs = (Path(path) for path in sys.argv[1:])
    try:
        locks = [load(path) for path in (base, ours, theirs)]
        merged, left_out = merge(*locks)
    except (ParseError, ValueError):
        labels = [option for label in ("ours", "base", "theirs") for option in ("-L", label)]
        subprocess.run(["git", "merge-file", *labels, ours, base, theirs], check=False)
        print("dvc.lock: cannot be merged stage by stage; resolve its conflict, then run `dvc repro`", file=sys.stderr)
        sys.exit(1)
    dump_yaml(ours, merged)
    changed = f", but {', '.join(left_out)} changed on both sides" if left_out else ""
    print(f"dvc.lock: merged stage by stage{changed}; now run `dvc repro --pull`", file=sys.stderr)


def load(path: Path) -> Lock:
    """Read a dvc.lock; the base of two that were added independently is empty.

    Raises `ParseError` or `ValueError` if it is none.
    """
    text = path.read_text(encoding="utf-8")
    lock = parse_yaml(text, path) if text else {"stages": {}}
    match lock:
        case {"stages": dict()}:
            return lock
        case _:
            raise ValueError(f"{path} is no dvc.lock")


def merge(base: Lock, ours: Lock, theirs: Lock) -> tuple[Lock, list[str]]:
    """Merge two successors of `base`, and name the stages that are left out.

    Raises `ValueError` if they differ in more than their stages.
    """
    if {**ours, "stages": None} != {**theirs, "stages": None}:
        raise ValueError("the schema differs")
    of_base, of_ours, of_theirs = (lock["stages"] for lock in (base, ours, theirs))
    stages, left_out = {}, []
    for name in {**of_ours, **of_theirs}:
        was, mine, other = (of.get(name) for of in (of_base, of_ours, of_theirs))
        if mine != other and was not in (mine, other):
            left_out.append(name)
        elif kept := other if was == mine else mine:
            stages[name] = kept
    return {**ours, "stages": stages}, left_out


if __name__ == "__main__":
    with one_line_errors():
        main()
