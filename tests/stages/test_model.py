import numpy as np
import pytest

from stages import model
from tests.parameters import make_params


def test_the_default_is_the_documented_network() -> None:
    network = model.build(make_params().model, seed=0)
    assert network.count_params() == 216_426
    assert [layer.count_params() for layer in network.layers] == [80_384, 0, 131_584, 0, 4_128, 330]
    assert (network.input_shape, network.output_shape) == ((None, 28, 28), (None, 10))
    first, first_dropout, second, second_dropout, dense, digit = (layer.get_config() for layer in network.layers)
    for lstm in (first, second):
        assert (lstm["units"], lstm["activation"], lstm["recurrent_activation"]) == (128, "relu", "sigmoid")
    assert (first["return_sequences"], second["return_sequences"]) == (True, False)
    assert (first_dropout["rate"], second_dropout["rate"]) == (0.2, 0.2)
    assert (dense["units"], dense["activation"]) == (32, "relu")
    assert (digit["units"], digit["activation"]) == (10, "softmax")


def test_only_stock_layers() -> None:
    network = model.build(make_params().model, seed=0)
    assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}
    assert [type(layer).__name__ for layer in network.layers] == [
        "LSTM", "Dropout", "LSTM", "Dropout", "Dense", "Dense",
    ]  # fmt: skip


@pytest.mark.parametrize("units", [[3], [4, 3], [5, 4, 3]])
def test_any_number_of_lstm_layers(units: list[int]) -> None:
    params = make_params(model__lstm_units=units, model__activation="tanh", model__dropout=0.5, model__dense_units=7)
    network = model.build(params.model, seed=0)
    lstms = [layer for layer in network.layers if "lstm" in layer.name]
    assert [layer.units for layer in lstms] == units
    assert [layer.return_sequences for layer in lstms] == [True] * (len(units) - 1) + [False]
    assert {layer.activation.__name__ for layer in lstms} == {"tanh"}
    assert [layer.rate for layer in network.layers if "dropout" in layer.name] == [0.5] * len(units)
    probabilities = network.predict(np.random.default_rng(0).random((2, 28, 28), np.float32), verbose=0)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_the_seed_decides_the_weights() -> None:
    first, same, other = (
        np.concatenate([weight.ravel() for weight in model.build(make_params().model, seed=seed).get_weights()])
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("count", [1, model.PREDICTION_BATCH, model.PREDICTION_BATCH + 3])
def test_a_predictor_gives_the_networks_outputs_for_any_number_of_images(count: int) -> None:
    network = model.build(make_params(model__lstm_units=[5, 4]).model, seed=0)
    images = np.random.default_rng(0).random((count, 28, 28), np.float32)
    probabilities = model.Predictor(network)(images)
    assert probabilities.shape == (count, 10)
    np.testing.assert_allclose(probabilities, network.predict(images, verbose=0), atol=1e-6)


def test_the_parts_of_a_batch_have_one_shape() -> None:
    assert model.PREDICTION_BATCH % model.PREDICTION_PARTS == 0
