"""What a trial leaves to others, and why it ended."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.clones import FAILED_REPRO, Clone
from tests.parameters import make_params
from tools.sweep import node

pytest.importorskip("ray")  # `make test-sweep` installs it

STAGE = "ERROR: failed to reproduce 'train': failed to run: python -m stages.train, exited with"
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 1, in main\n    train()\n'


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
        (f"error: [Errno 28] No space left\n{STAGE} 1\n", "LostError", "[Errno 28] No space left"),
        (f"{TRACEBACK}tf.Error: a.npz; No space left on device\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}MemoryError\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}numpy._core._exceptions._ArrayMemoryError: 1 GiB\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}ConnectionResetError: [Errno 104] Reset\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}ModuleNotFoundError: No module named 'x'\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}tf.errors.ResourceExhaustedError: OOM\n{STAGE} 1\n", "LostError", f"{STAGE[7:]} 1"),
        (f"{TRACEBACK}KeyboardInterrupt\n{STAGE} 130\n", "LostError", f"{STAGE[7:]} 130"),
        (f"Killed\n{STAGE} 137\n", "LostError", f"{STAGE[7:]} 137"),
        (f"{TRACEBACK}OSError: cut off\nERROR: failed to push\n", "LostError", "failed to push"),
        (
            f"{TRACEBACK}OSError: no\n\nDuring handling\n\n{TRACEBACK}ValueError: two\nlines\n{STAGE} 1\n",
            "FinalError",
            "ValueError: two",
        ),
        (f"> python -m stages.train\nno weights\n{STAGE} 2\n", "FinalError", "no weights"),
        (f"> python -m stages.train\n{STAGE} 2\n", "FinalError", f"{STAGE[7:]} 2"),
    ],
)
def test_why_a_command_failed_and_whether_it_is_tried_again(log: str, kind: str, reason: str, tmp_path: Path) -> None:
    assert fault_of(log, tmp_path) == (kind, reason)


KILLED = "import os; os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("code", "command", "kind", "reason"),
    [
        ("undefined", "python -m stages.train", "FinalError", "NameError: name 'undefined' is not defined"),
        # Some shells run a single command in their own place, others wait for it.
        (KILLED, "exec python -m stages.train", "LostError", "{stage}, exited with -9"),
        (KILLED, "python -m stages.train || exit $?", "LostError", "{stage}, exited with 137"),
    ],
)
def test_a_stage_with_a_bug_is_not_tried_again_but_a_killed_one_is(
    code: str, command: str, kind: str, reason: str, tmp_path: Path
) -> None:
    clone = Clone(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/train.py").write_text(code)
    (tmp_path / "dvc.yaml").write_text(f"stages: {{train: {{cmd: '{command}'}}}}")
    clone.run("dvc", "init", "--quiet", "--no-scm")
    expected = reason.format(stage=f"failed to reproduce 'train': failed to run: {command}")
    assert fault_of(clone.run("dvc", "repro", exit_code=FAILED_REPRO), tmp_path) == (kind, expected)


def fault_of(log: str, folder: Path) -> tuple[str, str]:
    """Return the kind of the error that a trial takes from a log, and its reason."""
    from tools.sweep.trial import DvcTrial  # noqa: PLC0415 - it needs Ray

    trial = DvcTrial.__new__(DvcTrial)
    trial.log = folder / "log"
    trial.log.write_text(log)
    fault = trial.fault(255)
    return type(fault).__name__, str(fault)


def test_a_full_disk_of_a_node_is_tried_again_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.sweep import trial as module  # noqa: PLC0415

    pauses: list[float] = []

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(node, "_top", lambda: tmp_path)
    monkeypatch.setattr(module.DvcTrial, "clone", full)
    monkeypatch.setattr("time.sleep", pauses.append)
    job = module.Job("rate", "git", "a" * 40, make_params(), storage="", author={}, cpus=1, pause=15)
    made = module.DvcTrial.__new__(module.DvcTrial)
    made.setup({"trial": {"number": 0, "seed": 0, "changes": {}}}, job)
    with pytest.raises(OSError, match="No space left"):
        made.step()
    assert pauses == [15]


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
