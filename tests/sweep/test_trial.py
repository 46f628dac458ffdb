"""Why a trial ended."""

from pathlib import Path

import pytest

pytest.importorskip("ray")  # `make test-sweep` installs it


@pytest.mark.parametrize(
    ("log", "kind", "reason"),
    [
        (
            "ERROR: failed to transfer 'md5: 0123' - not found\nerror: training diverged in epoch 1\n"
            "ERROR: failed to reproduce 'train'\n",
            "FinalError",
            "training diverged in epoch 1",
        ),
        ("WARNING: slow\nERROR: failed to connect\nERROR: failed to push\n", "LostError", "failed to connect"),
    ],
)
def test_the_error_of_a_stage_comes_before_those_of_dvc(log: str, kind: str, reason: str, tmp_path: Path) -> None:
    from tools.sweep.trial import DvcTrial  # noqa: PLC0415 - it needs Ray

    trial = DvcTrial.__new__(DvcTrial)
    trial.log = tmp_path / "log"
    trial.log.write_text(log)
    fault = trial.fault(255)
    assert (type(fault).__name__, str(fault)) == (kind, reason)
