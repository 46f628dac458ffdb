import re
from pathlib import Path

import pytest

from tools.bench.measure import environment, run


def test_a_cost_covers_the_whole_process(tmp_path: Path) -> None:
    program = "import time; memory = bytearray(200 * 2**20); time.sleep(0.5); print('done')"
    # Measure from a small process: a new process counts the memory of its parent until it runs its own program.
    measuring = (
        f"from pathlib import Path; from tools.bench.measure import run; print(*run('-c', {program!r}, folder=Path()))"
    )
    printed, _ = run("-c", measuring, folder=tmp_path)
    found = re.fullmatch(r"done\n Cost\(seconds=(.*), peak_mib=(.*)\)\n", printed)
    assert found
    assert float(found[1]) >= 0.5
    assert 200 <= int(found[2]) < 300


def test_a_command_runs_in_its_folder_and_imports_this_repository(tmp_path: Path) -> None:
    printed, _ = run("-c", "import os, stages.files; print(os.getcwd())", folder=tmp_path)
    assert Path(printed.strip()).samefile(tmp_path)


def test_a_failure_ends_with_the_messages_of_the_process(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the reason"):
        run("-c", "import sys; sys.exit('the reason')", folder=tmp_path)


def test_the_environment_names_machine_and_packages() -> None:
    described = environment()
    assert described["processor"]
    assert {"cores", "python", "tensorflow", "keras", "numpy"} <= set(described)
