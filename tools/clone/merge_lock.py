"""Git's merge driver for dvc.lock: stage by stage. `make setup` installs a copy of this file in the git directory.

The copy runs by itself, with the standard library alone: to merge a branch must not run code of that branch.

A stage that changed on one side is taken from that side. A stage that changed on both sides in different ways is left
out, since no run made such a mixture: `dvc repro` then restores the stage from the cache or runs it. In a file that
does not look as DVC writes it, the conflict is marked for people.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# As DVC writes it: two spaces before the name of a stage, more before what belongs to the stage.
LOCK = re.compile(rb"(?P<head>(?:schema: .*\n)?stages:)(?: \{\}\n|\n(?P<stages>(?:  [^ \n].*\n(?:   .*\n|\n)*)*))")
STAGE = re.compile(rb"  (?P<name>[^ \n].*?):(?: .*)?\n(?:   .*\n|\n)*")


class Lock(NamedTuple):
    """The text of a dvc.lock, cut at its stages."""

    head: bytes
    stages: dict[bytes, bytes]  # by name

    def __bytes__(self) -> bytes:
        return self.head + (b"\n" + b"".join(self.stages.values()) if self.stages else b" {}\n")


def main() -> None:
    base, ours, theirs = (Path(path) for path in sys.argv[1:])
    try:
        locks = [parse(path.read_bytes()) for path in (base, ours, theirs)]
        merged, left_out = merge(*locks)
    except ValueError:
        labels = [option for label in ("ours", "base", "theirs") for option in ("-L", label)]
        subprocess.run(["git", "merge-file", *labels, ours, base, theirs], check=False)
        print("dvc.lock: cannot be merged stage by stage; resolve its conflict, then run `dvc repro`", file=sys.stderr)
        sys.exit(1)
    ours.write_bytes(bytes(merged))
    names = ", ".join(ascii(name.decode(errors="replace"))[1:-1] for name in left_out)
    changed = f", but {names} changed on both sides" if left_out else ""
    print(f"dvc.lock: merged stage by stage{changed}; now run `dvc repro --pull`", file=sys.stderr)


def parse(text: bytes) -> Lock | None:
    """Cut a dvc.lock at its stages; None for an empty text, which git gives as the base of two added independently.

    Raises `ValueError` if the text is no dvc.lock, or names a stage twice.
    """
    if not text:
        return None
    lock = LOCK.fullmatch(text)
    if not lock:
        raise ValueError("not a dvc.lock")
    found = [(stage["name"], stage[0]) for stage in STAGE.finditer(lock["stages"] or b"")]
    stages = dict(found)
    if len(stages) < len(found) or sum(map(len, stages.values())) != len(lock["stages"] or b""):
        raise ValueError("not a dvc.lock")
    return Lock(lock["head"], stages)


def merge(base: Lock | None, ours: Lock | None, theirs: Lock | None) -> tuple[Lock, list[bytes]]:
    """Merge two successors of `base`, and name the stages that are left out.

    Raises `ValueError` if they differ in more than their stages.
    """
    if not ours or not theirs or ours.head != theirs.head or (base and base.head != ours.head):
        raise ValueError("the schema differs")
    of_base = base.stages if base else {}
    stages, left_out = {}, []
    for name in {**ours.stages, **theirs.stages}:
        was, mine, other = (of.get(name) for of in (of_base, ours.stages, theirs.stages))
        if mine != other and was not in (mine, other):
            left_out.append(name)
        elif kept := other if was == mine else mine:
            stages[name] = kept
    return Lock(ours.head, stages), left_out


if __name__ == "__main__":
    main()
