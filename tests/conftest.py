"""Fixtures of all tests, and the summary of `make test-faults` and `make test-sweep`."""

import os
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stages import archive
from stages.dataset import Dataset
from stages.prepare import digits_images
from tests.clones import BUMPS, OF_NO_USER, RELEASED, Clone, commit_run
from tests.pages.fixtures import browser, pages  # noqa: F401 - fixtures of pages/ and serve/
from tests.parameters import SMALL, write_params
from tools import ROOT

# A command that a shell starts in the background ignores Ctrl-C, and so does every process that it starts. Tests send
# Ctrl-C to such processes, so this restores Python's default.
signal.signal(signal.SIGINT, signal.default_int_handler)

with suppress(ImportError):
    # Import it before TensorFlow: its import resets logging, which would close the streams that pytest captures.
    import gto.log  # noqa: F401


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new, empty folder as the working directory. A stage finds only the files that the test puts there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def digits(in_empty_folder: Path) -> Dataset:
    """The training part of scikit-learn's digits."""
    assert in_empty_folder  # where prepare puts its raw files
    training, _ = digits_images()
    return training


@pytest.fixture(autouse=True)
def of_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies, so that tests reach servers on loopback directly, CI's variable and a user's settings."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ci"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in OF_NO_USER.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository of these files with a committed run on small parameters, tagged `first`. Tests copy it."""
    clone = Clone(tmp_path_factory.mktemp("team") / "first")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = clone.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Leave out the committed run, which is of the real images.
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
    """A copy of the first run that a test may change, with its cache and an empty storage beside it."""
    return first_run.copy(tmp_path / "clone")


@pytest.fixture(scope="session")
def released(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The first run and three imitated runs, each committed, tagged `run-v1.0.0` and so on, and registered."""
    clone = first_run.copy(tmp_path_factory.mktemp("released") / "clone")
    for seed, (version, change) in enumerate(RELEASED.items()):
        if seed:
            commit_run(clone, seed, change)
        clone.run("dvc", "push")
        clone.run("git", "tag", f"run-{version}")
    # One process for all, since each would import TensorFlow.
    (clone.folder / archive.PATH).unlink()  # not pulled, at any of them
    clone.run("python", "-c", REGISTER_ALL, *(f"{version}:{BUMPS.get(version, 'patch')}" for version in RELEASED))
    clone.run("git", "checkout", "--quiet", "main")
    clone.run("dvc", "checkout", str(archive.PATH))
    return clone


REGISTER_ALL = """
import runpy, subprocess, sys
for version, bump in (each.split(":") for each in sys.argv[1:]):
    subprocess.run(["git", "checkout", "--quiet", f"run-{version}"], check=True)
    sys.argv = ["register", "--bump", bump]
    runpy.run_module("tools.registry.register", run_name="__main__")
"""


@pytest.fixture
def releases(released: Clone, tmp_path: Path) -> Clone:
    """A copy of the registered runs that a test may change, beside a copy of their storage."""
    shutil.copytree(released.folder.parent, tmp_path / "releases", symlinks=True)
    return Clone(tmp_path / "releases" / "clone")


# The summary of `make test-faults` and `make test-sweep`


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Skip the slow tests unless their task sets FAULTS, SWEEPS or TEAM to all or sample."""
    needed = {"cluster": "SWEEPS", "faults": "FAULTS", "team": "TEAM"}.get(collection_path.name)
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
    if made and {"FAULTS", "SWEEPS"} & os.environ.keys():
        terminalreporter.section("faults survived")
        for kind, count in sorted(made.items()):
            terminalreporter.write_line(f"{kind}: {withstood[kind]:,} of {count:,}")
