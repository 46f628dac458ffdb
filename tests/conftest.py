"""What many tests share."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import gto.log  # noqa: F401 - setting logging up, it closes what pytest captures if TensorFlow came first
import numpy as np
import pandas as pd
import pytest
import yaml
from playwright.sync_api import Browser, Page, Request, sync_playwright

from stages.dataset import Dataset
from stages.params import Params
from stages.prepare import digits_images
from tools.screenshots import find_chromium

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder as the working directory, where a stage finds nothing but what the test put there."""
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
    """Servers on loopback are asked directly, whatever the user's network needs, and no test knows that it is in CI."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ci"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def random_digits(count: int) -> Dataset:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return Dataset(rng.random((count, 28, 28), np.float32), rng.integers(0, 10, count).astype(np.uint8))


# A run of seconds on the embedded digits.
SMALL = {
    "prepare__dataset": "digits",
    "prepare__validation_size": 200,
    "model__lstm_units": [16],
    "train__epochs": 2,
    "train__learning_rate": 0.01,
}

# Parameters with which training soon meets infinity.
DIVERGING = {
    "model__activation": "elu",
    "train__learning_rate": 10,
    "train__warmup": 0,
    "train__decay": 0,
    "train__batch_size": 32,
}


def make_params(**changes: object) -> Params:
    """The committed parameters but for `section__name=value`."""
    return Params.model_validate(changed_params(**changes))


def write_params(folder: Path, **changes: object) -> None:
    """Write a params.yaml like the committed one but for `section__name=value`, valid or not."""
    (folder / "params.yaml").write_text(yaml.safe_dump(changed_params(**changes)), encoding="utf-8")


def changed_params(**changes: object) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split("__")
        assert key in values[section]
        values[section][key] = value
    return values


# The pipeline by the real `dvc`

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
OUTPUTS = sorted(
    next(iter(output))
    for stage in PIPELINE["stages"].values()
    for kind in ("outs", "metrics", "plots")
    for output in stage.get(kind, [])
)


FAILED_REPRO = 255  # DVC's own exit code, whichever a stage's was


class Clone:
    """A working copy and the commands typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing of the developer's own git or DVC settings reaches the clone, nor that it is tested in CI.
        others = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "CI"))}
        self.environment = {
            **others,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }

    def copy(self, folder: Path) -> "Clone":
        """Copy it whole, with its cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder)

    def run(self, *command: str, exit_code: int = 0, **variables: str) -> str:
        """Run a command that must end with this code, and return what it printed, with its errors if it failed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | variables, capture_output=True, text=True, check=False
        )
        printed = done.stdout + done.stderr
        assert done.returncode == exit_code, printed
        return printed if exit_code else done.stdout

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def content(self) -> dict[str, bytes]:
        """What all outputs hold, file for file."""
        files = [
            path
            for output in OUTPUTS
            for path in sorted(
                (self.folder / output).rglob("*") if (self.folder / output).is_dir() else [self.folder / output]
            )
        ]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files if path.is_file()}


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


# Registered runs: the first, a better one, a worse one, and one as good as the first

# By version: how many test images it fixes and how many it breaks of the first run's.
RELEASED = {"v1.0.0": (0, 0), "v1.0.1": (20, 0), "v1.1.0": (0, 20), "v1.1.1": (10, 10)}
BUMPS = {"v1.0.0": "major", "v1.1.0": "minor"}


@pytest.fixture(scope="session")
def released(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The first run and three more commits as if models had been trained, `run-v1.0.0` and so on, each registered."""
    clone = first_run.copy(tmp_path_factory.mktemp("released") / "clone")
    for seed, (version, (fixed, broken)) in enumerate(RELEASED.items()):
        if seed:
            commit_run(clone, seed, fixed, broken)
        clone.run("dvc", "push")
        clone.run("git", "tag", f"run-{version}")
        clone.run("python", "-m", "tools.register", "--bump", BUMPS.get(version, "patch"))
    return clone


def commit_run(clone: Clone, seed: int, fixed: int, broken: int) -> None:
    """Commit what a training with another seed might have given: another file, and other predictions than the first."""
    write_params(clone.folder, **SMALL, train__seed=seed)
    with zipfile.ZipFile(clone.folder / "models/lstm.keras", "a") as archive:
        archive.comment = f"seed {seed}".encode()
    path = clone.folder / "reports/predictions.csv"
    predictions = pd.read_csv(
        io.StringIO(clone.run("git", "show", "first:reports/predictions.csv")), dtype={"confidence": str}
    )
    is_right = predictions["predicted"] == predictions["actual"]
    for rows, by in ((predictions.index[~is_right][:fixed], 0), (predictions.index[is_right][:broken], 1)):
        predictions.loc[rows, "predicted"] = (predictions.loc[rows, "actual"] + by) % 10
    predictions.to_csv(path, index=False, lineterminator="\n")
    clone.run("dvc", "commit", "--force")
    clone.commit(f"Seed {seed}")


@pytest.fixture
def releases(released: Clone, tmp_path: Path) -> Clone:
    """A copy of the registered runs to change, beside a copy of their storage."""
    shutil.copytree(released.folder.parent, tmp_path / "releases", symlinks=True)
    return Clone(tmp_path / "releases" / "clone")


# Pages, by a real browser


class Pages:
    """Opens pages in Chromium, without a network, and notes all that goes wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.faults: list[str] = []

    def open(self, path: Path, width: int = 1366, color_scheme: Literal["light", "dark"] = "light") -> Page:
        page = self.browser.new_page(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=color_scheme, reduced_motion="reduce"
        )
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self.note_request)
        page.goto(path.absolute().as_uri())
        return page

    def note_request(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"request: {request.url}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if not chromium:
        pytest.skip("no Chromium to open the pages in: install it (Debian: apt-get install chromium), or Chrome")
    with sync_playwright() as playwright:
        # Whatever tries to leave in spite of all meets a closed port.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--proxy-server=127.0.0.1:9"])
        yield browser
        browser.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages in which nothing may go wrong."""
    pages = Pages(browser)
    yield pages
    assert pages.faults == []


def error_of(printed: str) -> str:
    assert "Traceback" not in printed
    (line,) = re.findall(r"^error: .*$", printed, re.MULTILINE)
    return line


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
