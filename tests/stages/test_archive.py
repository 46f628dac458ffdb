import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import archive, model
from stages.errors import InputError
from stages.runtime import keras
from tests.parameters import make_params
from tools import ROOT

SMALL = make_params(model__lstm_units=[4, 3], model__dense_units=5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "lstm.keras"
    archive.save(model.build(SMALL.model, seed=0), path)
    return path


def rewritten(saved: Path, path: Path, edit: Any) -> Path:
    """Write a copy with an edited configuration."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                edit(config["config"]["layers"])
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return path


def test_a_saved_model_is_loaded_with_the_same_outputs(saved: Path) -> None:
    images = np.random.default_rng(0).random((3, 28, 28), np.float32)
    original = model.build(SMALL.model, seed=0)
    np.testing.assert_array_equal(archive.load(saved).predict(images, verbose=0), original.predict(images, verbose=0))


def test_the_same_model_has_the_same_bytes_in_another_process(saved: Path, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from stages import archive, model; from tests.stages.test_archive import SMALL;"
        f"archive.save(model.build(SMALL.model, seed=0), Path({str(tmp_path / 'again.keras')!r}))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert (tmp_path / "again.keras").read_bytes() == saved.read_bytes()


def test_the_file_has_no_times_and_no_memory_addresses(saved: Path) -> None:
    with zipfile.ZipFile(saved) as content:
        assert {member.date_time for member in content.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert list(json.loads(content.read("metadata.json"))) == ["keras_version"]
        assert b"shared_object_id" not in content.read("config.json")


def test_keras_alone_loads_the_file(saved: Path, tmp_path: Path) -> None:
    program = f"import keras; print(keras.saving.load_model({str(saved)!r}).count_params())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{model.build(SMALL.model, seed=0).count_params()}\n"


def test_a_missing_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.keras: not found; make it with `dvc repro train` or .*`dvc pull`"):
        archive.load(tmp_path / "none.keras")


@pytest.mark.parametrize("keep", [0, 10, 3_000, -1])
def test_a_truncated_model_is_refused(keep: int, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.keras"
    path.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut\.keras: damaged or unsafe"):
        archive.load(path)


def test_a_flipped_bit_is_noticed(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.keras"
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"flipped\.keras: damaged or unsafe"):
        archive.load(path)


def test_a_lambda_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((28, 28)), keras.layers.Lambda(lambda rows: rows[:, 0, :10])]).save(path)
    with pytest.raises(InputError, match=r"lambda\.keras: damaged or unsafe.*[Ll]ambda"):
        archive.load(path)


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("somewhere", "CustomLayer")])
def test_an_object_that_is_no_keras_layer_is_refused(module: str, name: str, saved: Path, tmp_path: Path) -> None:
    def edit(layers: Any) -> None:
        layers[2] |= {"module": module, "class_name": name, "config": {"command": f"touch {tmp_path / 'harm'}"}}

    with pytest.raises(InputError, match=r"custom\.keras: damaged or unsafe"):
        archive.load(rewritten(saved, tmp_path / "custom.keras", edit))
    assert not (tmp_path / "harm").exists()


def test_a_model_without_a_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unbuilt.keras"
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(10)]).save(path)
    with pytest.raises(InputError, match=r"unbuilt\.keras: damaged or unsafe"):
        archive.load(path)


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    archive.save(keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(3)]), path)
    with pytest.raises(InputError, match=r"from \(None, 28, 28\) to \(None, 10\), found .* to \(None, 3\); restore it"):
        archive.load(path)
