import os
import shutil
from pathlib import Path

import pytest

from tests.clones import Clone, error_of
from tools import ROOT
from tools.clone.setup import HOOKS, SETTINGS


@pytest.fixture
def fresh(tmp_path: Path) -> Clone:
    """A repository of the tools alone, as `git clone` leaves one."""
    clone = Clone(tmp_path / "clone")
    for folder in ("tools", "stages"):
        shutil.copytree(ROOT / folder, clone.folder / folder, ignore=shutil.ignore_patterns("__pycache__"))
    clone.run("git", "init", "--quiet")
    return clone


def setup(clone: Clone, exit_code: int = 0) -> str:
    return clone.run("python", "-m", "tools.clone.setup", exit_code=exit_code)


def test_twice_changes_nothing(fresh: Clone) -> None:
    setup(fresh)
    config = (fresh.folder / ".git/config").read_bytes()
    for name, value in SETTINGS.items():
        assert fresh.run("git", "config", "--get-all", name) == f"{value}\n"
    assert setup(fresh) == "nothing to do\n"
    assert (fresh.folder / ".git/config").read_bytes() == config


def test_every_hook_can_be_run_by_git() -> None:
    hooks = list((ROOT / HOOKS).iterdir())
    assert hooks
    assert all(os.access(hook, os.X_OK) for hook in hooks)


def test_every_merge_driver_that_is_named_is_installed() -> None:
    lines = [line.split() for line in (ROOT / ".gitattributes").read_text().splitlines() if not line.startswith("#")]
    assert {f"merge.{attribute.removeprefix('merge=')}.driver" for _, attribute in lines} == {
        name for name in SETTINGS if name.endswith(".driver")
    }


def test_only_what_the_pipeline_makes_stays_ours() -> None:
    shown = Clone(ROOT).run("git", "check-attr", "merge", "reports/metrics.json", "reports/benchmarks/recipes.md")
    assert shown.splitlines() == [
        "reports/metrics.json: merge: ours-until-repro",
        "reports/benchmarks/recipes.md: merge: unspecified",
    ]


def test_other_hooks_are_not_silenced(fresh: Clone) -> None:
    before = (fresh.folder / ".git/config").read_bytes()
    hook = fresh.folder / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")
    assert "would no longer run pre-commit" in error_of(setup(fresh, exit_code=1))
    assert (fresh.folder / ".git/config").read_bytes() == before

    fresh.run("git", "config", "core.hooksPath", ".husky")
    assert "git runs the hooks in .husky" in error_of(setup(fresh, exit_code=1))
    assert fresh.run("git", "config", "core.hooksPath") == ".husky\n"


def test_outside_of_a_repository_it_says_so(tmp_path: Path) -> None:
    outside = Clone(tmp_path)
    printed = outside.run("python", "-m", "tools.clone.setup", exit_code=1, PYTHONPATH=str(ROOT))
    assert "not a git repository" in error_of(printed)
