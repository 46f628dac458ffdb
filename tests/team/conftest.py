import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clones import Clone
from tests.parameters import SMALL, write_params
from tests.team.people import EXPERIMENTS, Team, without_settings_of_others
from tests.team.s3 import Server, serving
from tests.team.storages import Bucket, Folder, Storage

SAMPLE = os.environ.get("TEAM") == "sample"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def keys(server: Server) -> tuple[str, str]:
    return server.make_user()


@pytest.fixture(params=["s3"] if SAMPLE else ["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Folder(tmp_path / "mnist-lstm-storage")
    return Bucket(request.getfixturevalue("server"), request.getfixturevalue("keys"))


@pytest.fixture
def team(first_run: Clone, storage: Storage, tmp_path: Path) -> Team:
    """Ann has pushed the first run, and Ben has pulled it."""
    ann = first_run.copy(tmp_path / "ann")
    without_settings_of_others(ann)
    ann.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "git"))
    ann.run("git", "remote", "add", "origin", str(tmp_path / "git"))
    ann.run("python", "-m", "tools.clone.setup")
    storage.configure(ann)
    ann.run("dvc", "push")
    ann.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    team = Team(tmp_path, tmp_path / "git", storage, ann, ben=ann)
    ben = team.join("ben")
    ben.run("dvc", "pull")
    return team._replace(ben=ben)


@pytest.fixture(scope="session")
def runs(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The DVC caches of both experiments, which run once. With its cache, an experiment's `dvc repro` takes seconds."""
    caches = {}
    for name, changes in EXPERIMENTS.items():
        clone = first_run.copy(tmp_path_factory.mktemp("experiment") / name)
        write_params(clone.folder, **(SMALL | changes))
        clone.run("dvc", "repro")
        caches[name] = clone.folder / ".dvc/cache"
    return caches
