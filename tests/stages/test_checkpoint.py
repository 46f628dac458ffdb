import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.checkpoint import CODE, FOLDER, Checkpoint, key
from stages.errors import InputError
from stages.history import Epoch
from stages.runtime import keras
from tests.clones import PIPELINE
from tests.images import random_digits
from tests.parameters import make_params
from tools import ROOT

EPOCHS = [Epoch(1, 0.1, 2.3, 1 / 3, 2.2, 0.001), Epoch(2, 0.2, 2.0, 0.3, 1.9, 0.0)]


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.zeros((2, 3), np.float32)), keras.Variable(0, dtype="int64")]


def save(key: str = "inputs") -> Path:
    weight, steps = variables()
    weight.assign(np.arange(6, dtype=np.float32).reshape(2, 3) / 7)
    steps.assign(2**40)
    with Checkpoint(key) as checkpoint:
        checkpoint.save([weight, steps], EPOCHS)
    return checkpoint.path


@pytest.fixture(autouse=True)
def repository(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return in_empty_folder


def test_saved_variables_and_epochs_are_restored_bit_for_bit() -> None:
    save()
    weight, steps = variables()
    with Checkpoint("inputs") as checkpoint:
        assert checkpoint.restore([weight, steps]) == EPOCHS
    np.testing.assert_array_equal(weight, np.arange(6, dtype=np.float32).reshape(2, 3) / 7)
    assert int(steps) == 2**40


def test_without_a_checkpoint_those_of_other_inputs_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with Checkpoint("inputs") as checkpoint:
        assert checkpoint.restore(variables()) == []
    assert capsys.readouterr().out == ""
    save("others")
    with Checkpoint("inputs") as checkpoint:
        assert checkpoint.restore(variables()) == []
    assert capsys.readouterr().out == f"starting at epoch 1: the checkpoints in {FOLDER} have other inputs (1)\n"


def test_the_key_depends_on_parameters_environment_and_data() -> None:
    images, others = random_digits(20), random_digits(21)
    here = {"processor": "this one"}
    unchanged = key(make_params(), images, images, here)
    changed = [
        *(
            key(make_params(**{name: value}), images, images, here)
            for name, value in {"train__seed": 1, "model__dropout": 0.1, "augment__shift": 1}.items()
        ),
        key(make_params(), others, images, here), key(make_params(), images, others, here),
        key(make_params(), images, images, {"processor": "another"}),
    ]  # fmt: skip
    assert len({unchanged, *changed}) == 1 + len(changed)
    assert key(make_params(prepare__seed=1), images, images, here) == unchanged, (
        "prepare's parameters only change the data"
    )


def test_the_key_depends_on_the_code_that_dvc_yaml_names_for_train() -> None:
    deps = PIPELINE["stages"]["train"]["deps"]
    assert [f"stages/{name}.py" for name in CODE] == [dep for dep in deps if dep.endswith(".py")]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_reported_and_not_used(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = save()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[200] ^= 1  # within the values of an array, after its header
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2] if damage == "cut" else b"")
    weight, steps = variables()
    with Checkpoint("inputs") as checkpoint:
        assert checkpoint.restore([weight, steps]) == []
    assert "starting at epoch 1: the checkpoint" in capsys.readouterr().out
    assert not np.asarray(weight).any()


def test_a_finished_training_leaves_nothing_behind(repository: Path) -> None:
    with Checkpoint("inputs") as checkpoint:
        checkpoint.save(variables(), EPOCHS)
        checkpoint.remove()
    assert list((repository / FOLDER).iterdir()) == []


def test_a_checkpoint_lies_in_the_repository_that_dvc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert save().is_relative_to(tmp_path / "repository" / FOLDER)


HOLDER = """
import sys
from stages.checkpoint import Checkpoint
with Checkpoint("inputs"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_training_of_the_same_inputs_is_refused_until_the_first_ends(repository: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=repository, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        found = re.escape(f"{holder.pid} on {os.uname().nodename}: ") + rf".* `kill {holder.pid}`"
        with pytest.raises(InputError, match=rf"the same training already runs in process {found}"):
            Checkpoint("inputs").__enter__()
        with Checkpoint("other"):
            pass
        holder.send_signal(signal.SIGKILL)
    with Checkpoint("inputs") as checkpoint:
        assert checkpoint.restore(variables()) == []


def test_on_a_disk_without_locks_training_starts_with_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert save().exists()
    assert capsys.readouterr().out == (
        f"note: {FOLDER}/inputs.lock cannot be locked (No locks available): start the training only once\n"
    )
