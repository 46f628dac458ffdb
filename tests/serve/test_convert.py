"""The ONNX model of a .keras archive: equal to Keras, the same bytes each time, and of known layers alone."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest

from stages import archive, model
from stages.errors import InputError
from stages.params import Model
from tests.parameters import make_params
from tests.serve.archives import rewritten, with_config, with_weights
from tools import ROOT
from tools.serve.convert import CONFIG, LIMIT, WEIGHTS, convert
from tools.serve.inference import open_model

ACTIVATIONS = get_args(Model.model_fields["activation"].annotation)


@pytest.mark.parametrize("units", [[5], [6, 4], [3, 4, 5]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_network_of_params_yaml_gives_keras_probabilities(
    activation: str, units: list[int], tmp_path: Path
) -> None:
    params = make_params(model__lstm_units=units, model__activation=activation, model__dense_units=7)
    network = model.build(params.model, seed=1)
    rng = np.random.default_rng(0)
    # Other biases than 0 and 1, so that gates in a wrong order would show.
    network.set_weights([weights + rng.normal(0, 0.1, weights.shape) for weights in network.get_weights()])
    archive.save(network, tmp_path / "lstm.keras")
    images = rng.random((5, 28, 28), np.float32)
    expected = network.predict(images, verbose=0)
    assert np.ptp(expected, axis=0).max() > 1e-4, "the images make no difference"
    found = open_model(convert((tmp_path / "lstm.keras").read_bytes(), "lstm"))(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_large_state_of_softplus_is_finite(tmp_path: Path) -> None:
    params = make_params(model__lstm_units=[6, 4], model__activation="softplus", model__dense_units=7)
    network = model.build(params.model, seed=1)
    kernel, recurrent, bias, *others = network.get_weights()
    network.set_weights([kernel, recurrent, bias + np.repeat([5, 5, 50, 5], 6), *others])  # a state of 28 x 50
    archive.save(network, tmp_path / "lstm.keras")
    images = np.random.default_rng(0).random((5, 28, 28), np.float32)
    found = open_model(convert((tmp_path / "lstm.keras").read_bytes(), "lstm"))(images)
    np.testing.assert_allclose(found, network.predict(images, verbose=0), rtol=0, atol=1e-5)


def test_the_same_archive_has_the_same_bytes_in_another_process_without_tensorflow(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "lstm.keras").write_bytes(content)
    program = (
        "import sys; from pathlib import Path; from tools.serve.convert import convert;"
        "sys.stdout.buffer.write(convert(Path(sys.argv[1]).read_bytes(), 'lstm'));"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lstm.keras")], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == convert(content, "lstm")


def refusal(content: bytes) -> str:
    with pytest.raises(InputError) as refused:
        convert(content, "lstm.keras")
    message = str(refused.value)
    assert message.startswith("lstm.keras: expected a .keras archive of LSTM, Dropout and Dense layers as this project")
    assert "\n" not in message
    return message


def layer_of(config: Any, kind: str) -> Any:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == kind)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("LSTM", "activation", "gelu"),
        ("LSTM", "activation", {"module": "builtins", "class_name": "function", "config": "x", "registered_name": "x"}),
        ("LSTM", "recurrent_activation", "hard_sigmoid"),
        ("LSTM", "go_backwards", True),
        ("LSTM", "stateful", True),
        ("LSTM", "return_state", True),
        ("LSTM", "zero_output_for_mask", True),
        ("LSTM", "use_bias", False),
        ("LSTM", "units", 2_000),
        ("LSTM", "units", "4"),
        ("LSTM", "dtype", "float16"),
        ("LSTM", "a_new_option", 1),
        ("Dense", "activation", "gelu"),
        ("Dense", "lora_rank", 4),
        ("Dense", "quantization_config", {"mode": "int8"}),
        ("InputLayer", "sparse", True),
        ("InputLayer", "batch_shape", [None, 28, 14]),
        ("Dropout", "dtype", "bfloat16"),
    ],
)
def test_an_option_that_changes_the_result_is_refused(content: bytes, kind: str, name: str, value: object) -> None:
    changed = with_config(content, lambda config: layer_of(config, kind)["config"].update({name: value}))
    assert name in refusal(changed) or "no input of (n, 28, 28)" in refusal(changed)


@pytest.mark.parametrize("kind", ["GRU", "Lambda", "Bidirectional", "TFSMLayer", "BatchNormalization"])
def test_another_layer_is_refused(content: bytes, kind: str) -> None:
    changed = with_config(content, lambda config: layer_of(config, "Dropout").update(class_name=kind))
    assert f"found at config.layers.2 {{'class_name': '{kind}'".split(" {")[0] in refusal(changed)
    assert "Input tag" in refusal(changed)
    assert "; if the file is damaged, restore it with" in refusal(changed)


@pytest.mark.parametrize(
    "change",
    [
        {"module": "somebody.layers"},
        {"registered_name": "somebody>Dropout"},
        {"another": 1},
    ],
)  # fmt: skip
def test_a_layer_that_is_not_stock_is_refused(content: bytes, change: dict[str, object]) -> None:
    refusal(with_config(content, lambda config: layer_of(config, "Dropout").update(change)))


def test_another_kind_of_network_is_refused(content: bytes) -> None:
    refusal(with_config(content, lambda config: config.update(class_name="Functional")))


def reordered(config: Any) -> None:
    config["config"]["layers"].reverse()


def without_softmax(config: Any) -> None:
    del config["config"]["layers"][-1]


def as_sequence(config: Any) -> None:
    config["config"]["layers"][3]["config"]["return_sequences"] = True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (reordered, "no input of (n, 28, 28)"),
        (without_softmax, "no softmax over 10 classes"),
        (as_sequence, "the layer dense after one that returns a sequence"),
    ],
)
def test_layers_that_do_not_fit_are_refused(content: bytes, change: Any, reason: str) -> None:
    assert reason in refusal(with_config(content, change))


KERNEL = "layers/lstm/cell/vars/0"


def linked_outside(weights: h5py.File) -> None:
    del weights[KERNEL]
    weights[KERNEL] = h5py.ExternalLink("/etc/passwd", "x")


def linked_group(weights: h5py.File) -> None:
    weights.move("layers/lstm", "layers/real")
    weights["layers/lstm"] = h5py.SoftLink("/layers/real")


def stored_outside(weights: h5py.File) -> None:
    del weights[KERNEL]
    weights.create_dataset(KERNEL, (28, 24), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def compressed(weights: h5py.File) -> None:
    del weights[KERNEL]
    weights.create_dataset(KERNEL, data=np.zeros((28, 24), np.float32), chunks=(28, 24), compression="gzip")


def of_other_shape(weights: h5py.File) -> None:
    del weights[KERNEL]
    weights[KERNEL] = np.zeros((28, 20), np.float32)


def of_other_type(weights: h5py.File) -> None:
    del weights[KERNEL]
    weights[KERNEL] = np.zeros((28, 24), np.float64)


def exchanged(weights: h5py.File) -> None:
    weights["layers/lstm/vars"].attrs["name"] = "lstm_2"


def with_more(weights: h5py.File) -> None:
    weights.create_group("layers/gru")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (linked_outside, "a link in"),
        (linked_group, "a link in"),
        (stored_outside, "no plain array at"),
        (compressed, "no plain array at"),
        (of_other_shape, "expected float32 and (28, 24)"),
        (of_other_type, "of float64"),
        (exchanged, "weights of lstm_2 where those of lstm_1 are expected"),
        (with_more, "weights of other layers: gru"),
    ],
)
def test_weights_that_are_not_plainly_there_are_refused(content: bytes, change: Any, reason: str) -> None:
    assert reason in refusal(with_weights(content, change))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_or_damaged_file_is_refused(content: bytes, name: str) -> None:
    refusal(rewritten(content, lambda members: members.__delitem__(name)))
    refusal(rewritten(content, lambda members: members.update({name: b"\0" + members[name][:-9]})))


@pytest.mark.parametrize("damaged", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_archive_is_refused(damaged: bytes) -> None:
    refusal(damaged)


def test_a_file_that_ends_before_its_size_is_refused_with_the_reason() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(CONFIG, "{}")
    damaged = bytearray(file.getvalue())
    at = damaged.index(b"PK\x01\x02")  # the archive's list of its files
    damaged[at + 20 : at + 28] = 2 * (10_000).to_bytes(4, "little")  # the sizes of the first one
    assert "as this project trains them, found EOFError; if the file is damaged, restore it" in refusal(bytes(damaged))


def test_a_size_that_an_archive_claims_is_checked_before_memory_is_taken(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = zipfile.ZipFile.getinfo

    def getinfo(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
        info = real(archive, name)
        info.file_size = LIMIT + 1
        return info

    monkeypatch.setattr(zipfile.ZipFile, "getinfo", getinfo)
    assert f"{CONFIG} of {LIMIT + 1:,} bytes" in refusal(content)
