"""Predictions through ONNX Runtime, and the user's cache of ONNX models."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages import archive
from stages.errors import InputError
from stages.model import Predictor
from tests.serve.archives import with_weights
from tools import ROOT
from tools.serve import convert, equal, inference
from tools.serve.inference import BATCH, as_onnx, make_predictor


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [1, BATCH, 3 * BATCH + 1])
def test_any_number_of_images_gives_keras_probabilities(
    content: bytes, tmp_path: Path, count: int, workers: int
) -> None:
    (tmp_path / "lstm.keras").write_bytes(content)
    images = np.random.default_rng(0).random((count, 28, 28), np.float32)
    found = make_predictor(content, "lstm", workers=workers)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Predictor(archive.load(tmp_path / "lstm.keras"))(images), rtol=0, atol=1e-5)


def test_a_model_without_probabilities_is_refused(content: bytes) -> None:
    def damage(weights: h5py.File) -> None:
        weights["layers/dense/vars/0"][...] = np.nan

    predict = make_predictor(with_weights(content, damage), "lstm.keras")
    with pytest.raises(InputError, match=r"lstm\.keras: expected probabilities with a sum of 1"):
        predict(np.zeros((1, 28, 28), np.float32))


def test_the_onnx_model_is_made_once_and_made_again_if_it_is_damaged(
    content: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = as_onnx(content, "lstm")
    (path,) = cache.glob("*.onnx")
    checksum = path.with_name(f"{path.name}.sha256")
    assert path.read_bytes() == made
    assert checksum.read_text() == f"{hashlib.sha256(made).hexdigest()}  {path.name}\n"
    with monkeypatch.context() as patch:
        patch.setattr(convert, "convert", lambda *_: pytest.fail("made again"))
        assert as_onnx(content, "lstm") == made
    for damage in (made[:-1], made[:-1] + b"\xff", b""):
        path.write_bytes(damage)
        assert as_onnx(content, "lstm") == made == path.read_bytes()
    checksum.unlink()
    assert as_onnx(content, "lstm") == made
    assert checksum.exists()


def test_another_archive_or_another_converter_has_another_file(
    content: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_onnx(content, "lstm")
    as_onnx(with_weights(content, lambda weights: weights["layers/dense/vars/1"].write_direct(np.ones(5, "f4"))), "b")
    assert len(list(cache.glob("*.onnx"))) == 2
    monkeypatch.setattr(inference, "CONVERTER", tmp_path / "newer.py")
    (tmp_path / "newer.py").write_text("# a newer converter")
    as_onnx(content, "lstm")
    assert len(list(cache.glob("*.onnx"))) == 3


def test_a_cache_that_cannot_be_written_is_not_needed(content: bytes, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    assert as_onnx(content, "lstm") == convert.convert(content, "lstm")


def test_an_environment_without_the_packages_is_told_what_to_install(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lstm.keras").write_bytes(content)
    program = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[2:]));"  # None makes an import fail
        "from pathlib import Path; from stages.errors import one_line_errors;"
        "from tools.serve.inference import make_predictor\n"
        "with one_line_errors(): make_predictor(Path(sys.argv[1]).read_bytes(), 'lstm')"
    )
    for missing in ("onnxruntime", "onnx", "h5py"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "lstm.keras"), missing],
            cwd=ROOT, env={"XDG_CACHE_HOME": str(tmp_path / missing)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == (
            "error: predicting and serving need the packages of requirements-serve.txt: "
            "pip install --require-hashes -r requirements-serve.txt\n"
        )


def test_a_prediction_leaves_nothing_behind_and_tells_nobody(content: bytes, tmp_path: Path) -> None:
    """ONNX Runtime writes an identifier of the machine, and sends what it is used for, unless it is told not to."""
    (tmp_path / "lstm.keras").write_bytes(content)
    program = (
        "import sys, numpy; from pathlib import Path; from tools.serve.inference import make_predictor;"
        "make_predictor(Path(sys.argv[1]).read_bytes(), 'lstm')(numpy.zeros((1, 28, 28), 'f4'))"
    )
    (tmp_path / "home").mkdir()
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home"), "PATH": os.defpath}
    subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path / "lstm.keras")], cwd=ROOT, env=environment, check=True
    )
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in written) == [".onnx", ".sha256"], written


def test_equal_predictions_are_told_from_others() -> None:
    expected = np.array([[0.5, 0.5 - 1e-6, 1e-6]], np.float32)
    assert equal.compare(expected + np.float32(5e-8), expected).startswith("ONNX and Keras: 0 other digits on 1 test")
    for other in (expected + np.float32(2e-5), expected[:, [1, 0, 2]], expected * np.float32(np.nan)):
        with pytest.raises(InputError, match="expected no other digit, and within 1e-05"):
            equal.compare(other, expected)
