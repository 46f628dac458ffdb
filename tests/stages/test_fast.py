import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from stages import archive, fast, model
from stages.errors import InputError
from stages.params import Model
from stages.runtime import keras, tf
from stages.train import make_learner, make_optimizer
from tests import reference
from tests.parameters import make_params
from tools import ROOT

SEED = tf.constant([3, 4], tf.int64)


def some(count: int) -> tuple[Any, Any, Any]:
    """Random images, labels, and the weight 1 of each."""
    rng = np.random.default_rng(0)
    return (
        tf.constant(rng.random((count, 28, 28), np.float32)),
        tf.constant(rng.integers(0, 10, count).astype(np.uint8)),
        tf.ones(count),
    )


def network_of(units: list[int], activation: str = "relu", dropout: float = 0.0) -> Any:
    params = make_params(
        model__lstm_units=units, model__activation=activation, model__dropout=dropout, model__dense_units=7
    )
    return model.build(params.model, seed=0)


def stock(network: Any, images: Any, labels: Any) -> tuple[Any, Any, list[Any]]:
    """Compute outputs, sum of losses and gradients with stock Keras layers and the dropout of `fast`."""
    count = images.shape[0]
    with tf.GradientTape() as tape:
        halves = []
        for shard, part in enumerate(tf.split(images, fast.SHARDS)):
            seed = tf.random.fold_in(SEED, shard)
            x = part
            for number, layer in enumerate(network.layers):
                if isinstance(layer, keras.layers.Dropout):
                    masks = fast.dropout_masks(
                        x.shape[1] if len(x.shape) == 3 else 1,
                        (x.shape[-1], count // fast.SHARDS),
                        layer.rate,
                        tf.random.fold_in(seed, number),
                    )
                    x *= tf.transpose(tf.stack(masks), (2, 0, 1)) if len(x.shape) == 3 else tf.transpose(masks[0])
                else:
                    x = layer(x)
            halves.append(x)
        outputs = tf.concat(halves, axis=0)
        losses = keras.losses.sparse_categorical_crossentropy(labels, outputs)
        mean = tf.reduce_mean(losses)
    return outputs, tf.reduce_sum(losses), tape.gradient(mean, network.trainable_weights)


def outputs_of(network: Any, images: Any, seed: Any) -> Any:
    """Compute the outputs of training."""
    return tf.nn.softmax(tf.transpose(fast.logits(network, images, seed=seed, precision="float32")))


def assert_equal_to_rounding(actual: Any, expected: Any) -> None:
    """Compare with the tolerance of float32 sums in another order, relative to the largest value of the tensor."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * max(np.abs(expected).max(), 1e-3))


def random_network(number: int) -> Any:
    """A network of one to three small layers of random sizes, every second one with dropout."""
    rng = np.random.default_rng(number)
    units = rng.integers(1, 20, size=rng.integers(1, 4)).tolist()
    activation = ("relu", "tanh", "sigmoid", "elu", "softplus", "softsign")[number % 6]
    return network_of(units, activation, dropout=number % 2 * rng.uniform(0.1, 0.6))


@pytest.mark.parametrize("number", range(12))
def test_outputs_and_gradients_are_those_of_the_stock_layers(number: int) -> None:
    network = network_of([128, 128], "relu", dropout=0.2) if number == 0 else random_network(number)
    images, labels, weights = some(12)
    loss, correct, gradients = fast.make_gradients(network, precision="float32")(images, labels, weights, SEED)
    outputs = [
        outputs_of(network, part, tf.random.fold_in(SEED, shard))
        for shard, part in enumerate(tf.split(images, fast.SHARDS))
    ]
    expected_outputs, expected_loss, expected = stock(network, images, labels)
    assert_equal_to_rounding(tf.concat(outputs, axis=0), expected_outputs)
    assert_equal_to_rounding(loss, expected_loss)
    assert float(correct) == (np.asarray(expected_outputs).argmax(axis=1) == np.asarray(labels)).sum()
    assert len(gradients) == len(expected)
    for gradient, by_keras in zip(gradients, expected, strict=True):
        assert_equal_to_rounding(gradient, by_keras)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("activation", get_args(Model.model_fields["activation"].annotation))
def test_training_computes_the_same_outputs_as_the_saved_model(layers: int, activation: str, tmp_path: Path) -> None:
    network = network_of([6, 5, 4][:layers], activation)
    images, _, _ = some(3)
    archive.save(network, tmp_path / "lstm.keras")
    saved = archive.load(tmp_path / "lstm.keras")
    assert len([layer for layer in saved.layers if isinstance(layer, keras.layers.LSTM)]) == layers
    assert_equal_to_rounding(outputs_of(network, images, SEED), saved(images))
    assert_equal_to_rounding(fast.probabilities(network, images), saved(images))


def layer(kind: str, **options: Any) -> Any:
    return getattr(keras.layers, kind)(3, **options)


SEQUENCE = {"return_sequences": True}


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        # Training would ignore these layers before or between LSTM layers, and all time steps but one.
        *(
            ([layer("LSTM", **SEQUENCE), unknown, layer("LSTM")], "up to the last LSTM, training supports only LSTM")
            for unknown in (
                keras.layers.LayerNormalization(),
                keras.layers.BatchNormalization(),
                keras.layers.SpatialDropout1D(0.1),
                layer("GRU", **SEQUENCE),
                keras.layers.Bidirectional(layer("LSTM", **SEQUENCE)),
            )
        ),
        ([layer("LSTM", **SEQUENCE), keras.layers.GlobalMaxPooling1D()], "up to the last LSTM, training supports only"),
        ([layer("LSTM", go_backwards=True)], "only go_backwards=False, found True"),
        ([layer("LSTM", use_bias=False)], "only use_bias=True, found False"),
        ([layer("LSTM", dropout=0.1)], "only dropout=0, found 0.1"),
        ([layer("LSTM", recurrent_dropout=0.1)], "only recurrent_dropout=0, found 0.1"),
        ([layer("LSTM", stateful=True)], "only stateful=False, found True"),
        ([layer("LSTM", implementation=1)], "only implementation=2, found 1"),
        ([layer("LSTM", trainable=False)], "only trainable=True, found False"),
        ([layer("LSTM", dtype="mixed_bfloat16")], "only compute_dtype='float32', found 'bfloat16'"),
        ([layer("LSTM"), keras.layers.Dropout(0.1, noise_shape=(1, 3))], "only noise_shape=None, found (1, 3)"),
        ([layer("LSTM", activation="softmax")], "only element-wise activations, found softmax"),
        ([layer("LSTM", recurrent_activation="softmax")], "only element-wise activations, found softmax"),
        ([layer("LSTM"), layer("Dense", activation="log_softmax")], "only element-wise activations, found log_softmax"),
        ([layer("LSTM", kernel_regularizer="l2")], "does not support regularizers"),
        ([layer("LSTM"), layer("Dense", bias_regularizer="l2")], "does not support regularizers"),
        ([layer("LSTM"), layer("Dense", activity_regularizer="l2")], "does not support regularizers"),
        ([layer("LSTM"), keras.layers.BatchNormalization()], "a state of their own (moving_mean, moving_variance)"),
        ([layer("LSTM"), keras.layers.GaussianNoise(0.1)], "a state of their own (seed_generator_state)"),
    ],
)
def test_layers_and_options_that_training_would_ignore_are_refused(refused: list[Any], message: str) -> None:
    network = keras.Sequential([keras.Input((28, 28), batch_size=4), *refused, layer("Dense", activation="softmax")])
    with pytest.raises(InputError, match=re.escape(message)) as error:
        fast.make_gradients(network, precision="float32")(*some(8), SEED)
    assert re.match(r"stages/model\.py: layer \w+ \(\w+\): ", str(error.value))
    assert str(error.value).endswith("; change the layer, or add it to `logits` in stages/fast.py")


@pytest.mark.parametrize(
    "layers",
    [
        [layer("LSTM", recurrent_activation="hard_sigmoid", unroll=True)],
        [layer("LSTM"), keras.layers.LayerNormalization(), layer("Dense")],
        [layer("LSTM"), keras.layers.Activation("softmax")],
    ],
)
def test_layers_and_options_that_training_computes_are_accepted(layers: list[Any]) -> None:
    network = keras.Sequential([keras.Input((28, 28)), *layers, layer("Dense", activation="softmax")])
    images, _, _ = some(3)
    assert_equal_to_rounding(outputs_of(network, images, SEED), network(images))


def test_bfloat16_gives_the_gradients_of_float32_to_a_few_percent() -> None:
    network = network_of([32, 16], dropout=0.2)
    batch = some(12)
    (_, _, exact), (_, _, rounded) = (
        fast.make_gradients(network, precision=precision)(*batch, SEED) for precision in ("float32", "bfloat16")
    )
    for full, half in zip(exact, rounded, strict=True):
        assert half.dtype == tf.float32
        assert 2**-16 < float(tf.norm(half - full) / tf.norm(full)) < 2**-5


def test_an_image_of_weight_0_only_fills_the_batch() -> None:
    network = network_of([6, 5])
    images, labels, weights = some(6)
    gradients = fast.make_gradients(network, precision="float32")
    # Shards are halves of the batch, so the same six images are split in another way.
    more_images, more_labels = (tf.concat([part, part[3:5]], axis=0) for part in (images, labels))
    more_weights = tf.concat([weights, tf.zeros(2)], axis=0)
    loss, correct, by_variable = gradients(more_images, more_labels, more_weights, SEED)
    expected_loss, expected_correct, expected = gradients(images, labels, weights, SEED)
    assert_equal_to_rounding(loss, expected_loss)
    assert float(correct) == float(expected_correct)
    for gradient, without in zip(by_variable, expected, strict=True):
        assert_equal_to_rounding(gradient, without)


def test_the_bits_do_not_depend_on_the_number_of_cores() -> None:
    program = (
        "import os, hashlib; os.cpu_count = lambda: {cores}\n"
        "from tests.stages.test_fast import *\n"
        "assert tf.config.threading.get_inter_op_parallelism_threads() == {cores}\n"
        "network = network_of([128, 128], dropout=0.2)\n"
        "_, _, gradients = tf.function(fast.make_gradients(network, precision='float32'))(*some(64), SEED)\n"
        "probabilities = model.Predictor(network)(np.asarray(some(64)[0]))\n"
        "print(hashlib.sha256(b''.join(np.asarray(g).tobytes() for g in [*gradients, probabilities])).hexdigest())\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program.format(cores=cores)], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for cores in (1, 3)
    }
    assert len(hashes) == 1
    assert len(hashes.pop()) == 65


def test_dropout_masks_keep_the_mean() -> None:
    masks = np.asarray(fast.dropout_masks(7, (501, 3), 0.2, SEED))
    assert masks.shape == (7, 501, 3)
    np.testing.assert_array_equal(np.unique(masks), [0, np.float32(1) / np.float32(0.8)])
    assert (masks == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert masks.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(masks, fast.dropout_masks(7, (501, 3), 0.2, SEED))
    assert (masks != np.asarray(fast.dropout_masks(7, (501, 3), 0.2, SEED + 1))).any()


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_training_has_the_bits_of_the_definition(activation: str) -> None:
    params = make_params(
        model__lstm_units=[6, 5], model__dense_units=7, model__dropout=0.3, model__activation=activation,
        train__batch_size=64, train__epochs=1, train__warmup=0.5,
    )  # fmt: skip
    network = model.build(params.model, seed=1)
    optimizer = make_optimizer(network, params.train, images=192)
    rng = np.random.default_rng(0)
    weights = [np.asarray(variable) for variable in network.trainable_variables]
    moments = [[np.zeros_like(weight)] * 2 for weight in weights]
    learn = make_learner(network, optimizer, params.train)
    for step in range(1, 4):
        images = rng.random((64, 28, 28), np.float32)
        labels = rng.integers(0, 10, 64).astype(np.uint8)
        shards = []
        for shard in range(fast.SHARDS):
            seed = tf.random.fold_in(tf.constant([params.train.seed, step - 1], tf.int64), shard)
            masks = [
                [
                    np.asarray(mask)
                    for mask in fast.dropout_masks(count, (units, 32), 0.3, tf.random.fold_in(seed, layer))
                ]
                for layer, units, count in ((1, 6, 28), (3, 5, 1))
            ]
            part = slice(32 * shard, 32 * shard + 32)
            shards.append(reference.gradients(weights, activation, masks, images[part], labels[part]))
        loss, _, rate = learn(tf.constant(images), tf.constant(labels), tf.ones(64))
        assert float(loss) == shards[0][0] + shards[1][0]
        by_weight = [
            (first + second) / np.float32(64) for first, second in zip(shards[0][1], shards[1][1], strict=True)
        ]
        weights = reference.adam(weights, moments, by_weight, step=step, rate=np.float32(rate))
        for variable, expected in zip(network.trainable_variables, weights, strict=True):
            np.testing.assert_array_equal(np.asarray(variable), expected, err_msg=variable.path)
    logits = fast.logits(network, tf.constant(images[:32]), seed=None, precision="float32")
    np.testing.assert_array_equal(np.asarray(fast.log_softmax(logits)), reference.log_softmax(np.asarray(logits)))
