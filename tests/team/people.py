"""Ann and Ben, each with a clone. They share a git repository and a storage, which is a folder or a server."""

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.clones import Clone
from tests.parameters import SMALL, write_params
from tests.team.storages import Storage


class Team(NamedTuple):
    folder: Path  # where the clones lie side by side
    git: Path
    storage: Storage
    ann: Clone
    ben: Clone

    def join(self, name: str) -> Clone:
        """Clone the repository as a new team member does."""
        clone = Clone(self.folder / name)
        without_settings_of_others(clone)
        clone.folder.mkdir()
        clone.run("git", "clone", "--quiet", str(self.git), ".")
        self.storage.credentials(clone)
        clone.run("python", "-m", "tools.clone.setup")
        return clone


def without_settings_of_others(clone: Clone) -> None:
    """Remove the proxies and keys of the developer who runs the tests."""
    for name in [name for name in clone.environment if "proxy" in name.lower() or name.startswith("AWS_")]:
        del clone.environment[name]
    clone.environment["AWS_EC2_METADATA_DISABLED"] = "true"


EXPERIMENTS: dict[str, dict[str, object]] = {"ann": {"train__seed": 1}, "ben": {"model__dropout": 0.5}}


def experiment(clone: Clone, name: str, runs: dict[str, Path]) -> None:
    """Run an experiment in a clone and commit it."""
    shutil.copytree(runs[name], clone.folder / ".dvc/cache", dirs_exist_ok=True)
    write_params(clone.folder, **(SMALL | EXPERIMENTS[name]))
    clone.run("dvc", "repro")
    clone.commit(f"{name}'s experiment")


def md5_of(clone: Clone, path: str) -> str:
    """Read a file's MD5 from dvc.lock, which is the file's name in the storage."""
    text = (clone.folder / "dvc.lock").read_text()
    return text.split(f"- path: {path}\n")[-1].split("md5: ")[1].split("\n")[0]
