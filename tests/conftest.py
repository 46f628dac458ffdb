"""Fixtures of all tests, and what `make test-faults` counts."""

import os
import shutil
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.clones import BUMPS, RELEASED, Clone, commit_run
from tests.parameters import SMALL, write_params
from tools import ROOT

with suppress(ImportError):
    # It sets logging up anew when it is imported, which closes what pytest captures if TensorFlow came first.
    import gto.log  # noqa: F401


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder as the working directory, where a stage finds nothing but what the test put there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def of_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked directly, whatever the user's network needs, and no test knows that it is in CI."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ci"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository of these files, run on small parameters and committed, as `first`; tests copy it."""
    clone = Clone(tmp_path_factory.mktemp("team") / "first")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = clone.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # The committed run is of the real images: this one starts without.
        if (ROOT / name).exists() and not name.startswith("reports/") and name != "dvc.lock":
            shutil.copy2(ROOT / name, target)
    write_params(clone.folder, **SMALL)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    clone.run("dvc", "repro")
    clone.commit("First run")
    clone.run("git", "tag", "first")
    return clone


@pytest.fixture
def clone(first_run: Clone, tmp_path: Path) -> Clone:
    """A copy of the first run to change, with its cache and beside an empty storage."""
    return first_run.copy(tmp_path / "clone")


@pytest.fixture(scope="session")
def released(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The first run and three more commits as if models had been trained, `run-v1.0.0` and so on, each registered."""
    clone = first_run.copy(tmp_path_factory.mktemp("released") / "clone")
    for seed, (version, (fixed, broken)) in enumerate(RELEASED.items()):
        if seed:
            commit_run(clone, seed, fixed, broken)
        clone.run("dvc", "push")
        clone.run("git", "tag", f"run-{version}")
        clone.run("python", "-m", "tools.registry.register", "--bump", BUMPS.get(version, "patch"))
    return clone


@pytest.fixture
def releases(released: Clone, tmp_path: Path) -> Clone:
    """A copy of the registered runs to change, beside a copy of their storage."""
    shutil.copytree(released.folder.parent, tmp_path / "releases", symlinks=True)
    return Clone(tmp_path / "releases" / "clone")


# What `make test-faults` counts


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the slow ones to `make test-team`, and to `make test-faults`, which sets FAULTS to all, or to sample."""
    needed = {"faults": "FAULTS", "team": "TEAM"}.get(collection_path.name)
    return True if needed and collection_path.is_dir() and needed not in os.environ else None


def pytest_runtest_call(item: pytest.Item) -> None:
    item.user_properties += [("fault", marker.args) for marker in item.iter_markers("fault")]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    made: Counter[str] = Counter()
    withstood: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for kind, *number in (value for name, value in report.user_properties if name == "fault"):
                if report.when == "call":
                    made[kind] += (number or [1])[0]
                    withstood[kind] += (number or [1])[0] * report.passed
    if made and "FAULTS" in os.environ:
        terminalreporter.section("faults withstood")
        for kind, count in sorted(made.items()):
            terminalreporter.write_line(f"{kind}: {withstood[kind]:,} of {count:,}")
