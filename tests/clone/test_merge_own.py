"""Two people add pictures of the same digit at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clones import Clone
from tools import ROOT

OWN = "data/own"


class Pair:
    """Two clones that share a git repository and a storage, each set up."""

    def __init__(self, folder: Path, project: str = ".") -> None:
        self.git, self.project = folder / "git", project
        seed = Clone(folder / "seed")
        own = seed.folder / project / OWN
        own.mkdir(parents=True)
        shutil.copy(ROOT / OWN / ".gitignore", own)
        shutil.copy(ROOT / ".gitattributes", seed.folder / project)
        seed.run("git", "init", "--quiet", "--initial-branch=main")
        inside = Clone(seed.folder / project)
        inside.run("dvc", "init", "--quiet", *(["--subdir"] if project != "." else []))
        inside.run("dvc", "remote", "add", "--quiet", "--default", "storage", str(folder / "storage"))
        seed.commit("Nothing yet")
        seed.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.git))
        seed.run("git", "push", "--quiet", str(self.git), "main")
        self.ann, self.ben = (self.join(folder / name) for name in ("ann", "ben"))

    def join(self, folder: Path) -> Clone:
        Clone(self.git.parent).run("git", "clone", "--quiet", str(self.git), str(folder))
        clone = Clone(folder / self.project)
        clone.run("python", "-m", "tools.clone.setup", PYTHONPATH=str(ROOT))
        return clone


def commit(clone: Clone, digit: int, *pictures: str) -> None:
    """Let exactly these be the pictures of a digit."""
    folder = clone.folder / OWN / str(digit)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for picture in pictures:
        (folder / picture).write_text(picture)
    clone.run("dvc", "add", "--quiet", f"{OWN}/{digit}")
    clone.commit(f"{digit}: {pictures}")


def push(clone: Clone) -> None:
    clone.run("dvc", "push", "--quiet")
    clone.run("git", "push", "--quiet", "--no-verify", "origin", "main")


def pull(clone: Clone, exit_code: int = 0) -> str:
    done = subprocess.run(
        ["git", "pull", "--no-rebase", "--no-edit"],
        cwd=clone.folder, env=clone.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stderr


def pictures(clone: Clone, digit: int) -> list[str]:
    return sorted(path.name for path in (clone.folder / OWN / str(digit)).iterdir())


@pytest.mark.parametrize("project", [".", "models/it's a digit"])
def test_both_add_the_first_pictures_of_a_digit(project: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, project)
    commit(pair.ann, 3, "of ann", "of both")
    commit(pair.ben, 3, "of ben", "of both")
    push(pair.ann)
    printed = pull(pair.ben)
    prefix = "" if project == "." else f"{project}/"
    assert f"{OWN}/3.dvc: has the pictures of both sides; now run `dvc repro --pull`" in printed.replace(prefix, "")
    pair.ben.run("dvc", "pull")
    assert pictures(pair.ben, 3) == ["of ann", "of ben", "of both"]
    assert pair.ben.json("dvc", "status", "--json") == {}
    push(pair.ben)
    third = pair.join(tmp_path / "third")
    third.run("dvc", "pull")
    assert pictures(third, 3) == ["of ann", "of ben", "of both"]


def test_what_one_removed_or_moved_stays_so_and_what_the_other_added_comes(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    commit(pair.ann, 3, "a", "dropped", "moved", "dropped by both")
    commit(pair.ann, 5, "b")
    push(pair.ann)
    pull(pair.ben)
    pair.ben.run("dvc", "pull")
    commit(pair.ann, 3, "a", "of ann")
    commit(pair.ann, 5, "b", "moved")
    push(pair.ann)
    commit(pair.ben, 3, "a", "dropped", "moved", "of ben")
    commit(pair.ben, 8, "of ben")
    pull(pair.ben)
    pair.ben.run("dvc", "pull")
    assert [pictures(pair.ben, digit) for digit in (3, 5, 8)] == [["a", "of ann", "of ben"], ["b", "moved"], ["of ben"]]


def test_a_list_that_nobody_pushed_is_left_to_people(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    for clone, name in ((pair.ann, "of ann"), (pair.ben, "of ben")):
        commit(clone, 3, name)
    pair.ann.run("git", "push", "--quiet", "--no-verify", "origin", "main")
    printed = pull(pair.ben, exit_code=1)
    assert (
        f"{OWN}/3.dvc: the pictures of both sides cannot be merged: neither the cache nor the storage has the list of "
        "one side; `git merge --abort` undoes all; merge again after `dvc push` in the clone of the others\n"
    ) in printed
    assert "<<<<<<< ours" in (pair.ben.folder / OWN / "3.dvc").read_text()
    pair.ben.run("git", "merge", "--abort")
    pair.ann.run("dvc", "push", "--quiet")
    pull(pair.ben)


def test_git_runs_no_environment_that_a_branch_brings(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    # An environment in the work tree, as `make` makes one, with the packages of the one that runs this test.
    pair.ben.run(sys.executable, "-m", "venv", "--without-pip", ".venv")
    (packages,) = (pair.ben.folder / ".venv/lib").glob("python*/site-packages")
    shared = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "shared.pth").write_text(shared)
    (pair.ben.folder / ".git/info/exclude").write_text("/.venv/\n")
    pair.ben.run(f"{pair.ben.folder}/.venv/bin/python", "-m", "tools.clone.setup", PYTHONPATH=str(ROOT))
    mark = tmp_path / "mark"
    commit(pair.ann, 3, "of ann")
    program = pair.ann.folder / ".venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    pair.ann.run("git", "add", "--all", "--force")
    pair.ann.run("git", "commit", "--quiet", "--message", "Hostile")
    push(pair.ann)
    commit(pair.ben, 3, "of ben")

    pair.ben.run("git", "fetch", "--quiet")
    printed = pair.ben.run("git", "rebase", "origin/main", exit_code=1)
    assert f"{OWN}/3.dvc: not merged, since git has files in .venv, whose programs would run" in printed
    assert not mark.exists()
    pair.ben.run("git", "rebase", "--abort")
    # A merge runs the driver before it changes the work tree.
    pair.ben.run(sys.executable, "-m", "venv", "--without-pip", ".venv")
    (packages / "shared.pth").write_text(shared)
    pair.ben.run("git", "merge", "--quiet", "--no-edit", "origin/main")
    assert not mark.exists()
