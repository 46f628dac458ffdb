import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.pipeline import PARAMS, STAGES, content, run
from tests.parameters import write_params


class Undisturbed(NamedTuple):
    """The files of stages that ran without a fault."""

    before: dict[str, dict[str, bytes]]  # by stage: every file before the stage started
    after: dict[str, dict[str, bytes]]
    seconds: dict[str, float]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_params(folder, **PARAMS)
    found = Undisturbed({}, {}, {})
    for stage in STAGES:
        found.before[stage] = content(folder)
        started = time.monotonic()
        run(stage, folder)
        found.seconds[stage] = time.monotonic() - started
        found.after[stage] = content(folder)
    return found


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
