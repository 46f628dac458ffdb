"""Build the network from its parameters, and predict with a network."""

import functools

import numpy as np
from numpy.typing import NDArray

from stages import dataset, fast
from stages.errors import InputError
from stages.params import Model
from stages.runtime import keras, tf

PREDICTION_BATCH = 512  # images
PREDICTION_PARTS = 2  # parts of a batch that run side by side; training uses `fast.SHARDS` instead


def build(params: Model, *, seed: int) -> keras.Model:
    """Build the untrained network: (n, 28, 28) pixels, one row in each time step -> (n, 10) probabilities.

    The LSTM layers come first, each followed by dropout. All but the last return their whole sequence. Then come a
    dense relu layer and a softmax over the classes. All layers are stock Keras layers.
    """
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((dataset.SIDE, dataset.SIDE), name="rows")]
    depth = len(params.lstm_units)
    for level, units in enumerate(params.lstm_units, start=1):
        layers += [
            keras.layers.LSTM(
                units, activation=params.activation, return_sequences=level < depth, name=f"lstm_{level}"
            ),
            keras.layers.Dropout(params.dropout, name=f"dropout_{level}"),
        ]
    layers += [
        keras.layers.Dense(params.dense_units, activation="relu", name="dense"),
        keras.layers.Dense(dataset.CLASSES, activation="softmax", name="digit"),
    ]
    network = keras.Sequential(layers, name="lstm")
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.LSTM):
            layer.cell.recurrent_kernel.assign(orthogonal(rng, layer.units))
    return network


def orthogonal(rng: np.random.Generator, units: int) -> NDArray[np.float32]:
    """Draw the recurrent weights of an LSTM layer, (units, 4 units): a random matrix with orthonormal rows.

    The weights are rounded to a multiple of 2**-12, so that the last bits of the library's decomposition do not matter.
    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014. Keras's own initializer draws the same distribution, with other last bits on each processor.
    """
    q, r = np.linalg.qr(rng.standard_normal((4 * units, units)))
    return (np.round(2**12 * q * np.sign(np.diag(r))).T / 2**12).astype(np.float32)


class Predictor:
    """Computes a network's probabilities (n, 10) for images (n, 28, 28), with any n."""

    def __init__(self, network: keras.Model) -> None:
        try:
            fast.check(network)
            outputs = functools.partial(fast.probabilities, network)
        except InputError:  # a network that this code cannot train, such as one of another commit
            outputs = functools.partial(network, training=False)
        part = tf.function(outputs, autograph=False)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec((PREDICTION_BATCH, dataset.SIDE, dataset.SIDE))])
        def batch(images: tf.Tensor) -> tf.Tensor:
            return tf.concat([part(each) for each in tf.split(images, PREDICTION_PARTS)], axis=0)

        self.traced = batch.get_concrete_function()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        # Fill up the last batch. Then all batches have the same shape.
        missing = -len(images) % PREDICTION_BATCH
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
        batches = [self.traced(tf.constant(part)) for part in np.split(filled, len(filled) // PREDICTION_BATCH)]
        return np.concatenate(batches)[: len(images)]
