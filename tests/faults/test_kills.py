"""Stages that are killed at random moments and started again end with the same bytes."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stages.errors import INTERRUPTED
from tests.clones import FAILED_REPRO, Clone, error_of
from tests.faults.conftest import Undisturbed, fill
from tests.faults.pipeline import PARAMS, SAMPLE, content, run, start
from tests.parameters import write_params

COUNTS = {"prepare": 6, "train": 18, "evaluate": 6}


@pytest.mark.fault("kills survived")
@pytest.mark.parametrize(
    ("stage", "number"),
    [(stage, number) for stage, count in COUNTS.items() for number in range(2 if SAMPLE else count)],
)
def test_a_stage_killed_at_a_random_moment_ends_with_the_same_bytes(
    stage: str, number: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    fill(tmp_path, undisturbed.before[stage])
    moments = random.Random(f"{stage} {number}")  # noqa: S311 - no secret
    killed = False
    while not killed:  # start again if the stage ended before the kill
        process = start(stage, tmp_path)
        time.sleep(moments.uniform(0, undisturbed.seconds[stage]))
        process.kill()
        process.communicate()
        killed = process.returncode == -signal.SIGKILL
    for path, whole in undisturbed.after[stage].items():
        if (tmp_path / path).exists() and path != "reports/history.csv":  # which gets one row in each epoch
            assert (tmp_path / path).read_bytes() == whole, "a truncated file has the final name"
    run(stage, tmp_path)
    assert content(tmp_path) == undisturbed.after[stage]


@pytest.mark.fault("interruptions by Ctrl-C survived")
@pytest.mark.parametrize("moment", [1.0, 2.0, 4.0, "epoch 2/8"])
def test_ctrl_c_ends_training_with_one_word(moment: float | str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    fill(tmp_path, undisturbed.before["train"])
    process = start("train", tmp_path)
    assert process.stdout
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        while not (line := process.stdout.readline()).startswith(moment):
            assert line
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode in {130, -signal.SIGINT}
    assert printed.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in printed
    run("train", tmp_path)
    assert content(tmp_path) == undisturbed.after["train"]


# With DVC


@contextmanager
def once_it_prints(line: str, clone: Clone, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command as the leader of a process group. Yield it once a line starts with `line`. Finally, kill all."""
    log = clone.folder.parent / "printed"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=clone.folder,
            env=clone.environment,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    try:
        while not any(text.startswith(line) for text in log.read_text().splitlines()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def longer_run(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, bytes]]:
    """A clone before a longer training, and the outputs of this training without a fault."""
    clone = first_run.copy(tmp_path_factory.mktemp("longer") / "clone")
    write_params(clone.folder, **PARAMS)
    clone.run("dvc", "repro")
    expected = clone.content()
    clone.run("git", "restore", "dvc.lock", "reports")
    clone.run("dvc", "checkout", "--force")
    clone.run("rm", "-rf", ".dvc/cache/runs")  # else DVC restores the result
    return clone, expected


@pytest.fixture
def longer(longer_run: tuple[Clone, dict[str, bytes]], tmp_path: Path) -> tuple[Clone, dict[str, bytes]]:
    clone, expected = longer_run
    return clone.copy(tmp_path / "clone"), expected


@pytest.mark.fault("kills survived")
def test_dvc_repro_killed_with_its_stage_continues_after_the_last_epoch(longer: tuple[Clone, dict[str, bytes]]) -> None:
    clone, expected = longer
    with once_it_prints("epoch 3/8", clone, "dvc", "repro"):
        pass
    assert epochs_kept(clone.run("dvc", "repro")) >= 3
    assert clone.content() == expected
    assert list((clone.folder / ".dvc/tmp/checkpoints").iterdir()) == []


@pytest.mark.fault("kills survived")
def test_an_experiment_in_a_temporary_folder_continues_after_the_last_epoch(
    longer: tuple[Clone, dict[str, bytes]],
) -> None:
    clone, expected = longer
    experiment = ("dvc", "exp", "run", "--temp", "--force", "--name", "e")
    with once_it_prints("epoch 3/8", clone, *experiment):
        pass
    assert epochs_kept(clone.run(*experiment)) >= 3
    clone.run("dvc", "exp", "apply", "e")
    clone.run("dvc", "checkout", "--force")
    assert clone.content() == expected


@pytest.mark.fault("kills survived")
def test_an_experiment_queued_again_continues_after_the_last_epoch(longer: tuple[Clone, dict[str, bytes]]) -> None:
    clone, expected = longer
    checkpoints = clone.folder / ".dvc/tmp/checkpoints"
    clone.run("dvc", "exp", "run", "--queue", "--name", "killed")
    clone.start_queue()
    while not list(checkpoints.glob("[!.]*.npz")):
        time.sleep(0.02)
    (lock,) = checkpoints.glob("*.lock")
    os.kill(int(lock.read_text().partition(" ")[0]), signal.SIGKILL)
    wait_until_queued_is("Failed", "killed", clone)
    clone.run("dvc", "exp", "run", "--queue", "--name", "again")
    clone.start_queue()
    wait_until_queued_is("Success", "again", clone)
    assert epochs_kept(clone.run("dvc", "queue", "logs", "again")) >= 1
    clone.run("dvc", "exp", "apply", "again")
    clone.run("dvc", "checkout", "--force")
    assert clone.content() == expected


def wait_until_queued_is(status: str, name: str, clone: Clone) -> None:
    while not re.search(rf"\b{name}\b.*\b{status}\b", clone.run("dvc", "queue", "status")):
        time.sleep(0.5)


@pytest.mark.fault("kills survived")
def test_a_second_training_is_refused_while_one_outlives_its_dvc(longer: tuple[Clone, dict[str, bytes]]) -> None:
    clone, expected = longer
    write_params(clone.folder, **(PARAMS | {"train__epochs": 2_000}))
    with once_it_prints("epoch 3/2000", clone, "dvc", "repro") as process:
        process.kill()  # but not the stage that it started
        process.wait()
        refused = error_of(clone.run("dvc", "repro", exit_code=FAILED_REPRO))
        assert re.search(r"the same training already runs in process \d+ on \S+: .* `kill \d+`", refused)
    write_params(clone.folder, **PARAMS)
    clone.run("dvc", "repro")
    assert clone.content() == expected


def epochs_kept(printed: str) -> int:
    found = re.search(r"continuing after epoch (\d+)", printed)
    assert found, printed
    return int(found[1])


# Two at once


@pytest.mark.fault("two at once survived")
def test_a_second_repro_in_one_workspace_waits_or_is_refused(
    longer: tuple[Clone, dict[str, bytes]],
) -> None:
    clone, expected = longer
    with once_it_prints("epoch 1/8", clone, "dvc", "repro") as first:
        second = subprocess.run(
            ["dvc", "repro"], cwd=clone.folder, env=clone.environment, capture_output=True, text=True, check=False
        )
        assert second.returncode == 0 or "lock" in second.stderr
        assert first.wait() == 0
    clone.run("dvc", "repro")
    assert clone.content() == expected


@pytest.mark.fault("two at once survived")
def test_two_clones_that_share_a_cache_make_the_same_outputs(
    longer: tuple[Clone, dict[str, bytes]], tmp_path: Path
) -> None:
    clone, expected = longer
    other = clone.copy(tmp_path / "other")
    for one in (clone, other):
        one.run("dvc", "cache", "dir", "--local", str(tmp_path / "shared cache"))
        one.run("rm", "-rf", "data/raw", "data/processed", "models")
    with once_it_prints("Running stage", clone, "dvc", "repro") as process:
        other.run("dvc", "repro")
        assert process.wait() == 0
    assert clone.content() == other.content() == expected
    assert clone.json("dvc", "status", "--json") == other.json("dvc", "status", "--json") == {}
