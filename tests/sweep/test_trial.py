"""What a trial leaves to others, and why it ended."""

import fcntl
from pathlib import Path

import pytest

from tests.parameters import make_params
from tools.sweep import node

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


def test_of_two_sweeps_with_trials_of_one_name_the_second_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.sweep.trial import DvcTrial, Job  # noqa: PLC0415

    def trial(commit: str) -> DvcTrial:
        job = Job(
            name="rate", url="git", commit=commit, params=make_params(), storage="", author={}, cpus=1, pause=0
        )  # fmt: skip
        made = DvcTrial.__new__(DvcTrial)
        made.setup({"trial": {"number": 0, "seed": 0, "changes": {}}}, job)
        return made

    monkeypatch.setattr(node, "_top", lambda: tmp_path)
    monkeypatch.setattr(DvcTrial, "clone", lambda self: self.copy.mkdir(parents=True))
    monkeypatch.setattr(DvcTrial, "fetched", lambda _: True)
    first, second = trial("a" * 40), trial("b" * 40)
    first.start()
    second.cleanup()
    assert first.copy.exists()
    with (first.node / "locks/rate-0-s0").open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first.cleanup()
        assert not first.copy.exists()
    second.start()
    assert second.copy.exists()
    second.cleanup()
