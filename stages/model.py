"""Build the network from its parameters, and predict with a network."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages import dataset
from stages.params import Model
from stages.runtime import keras, tf

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # images (n, 28, 28) -> probabilities (n, 10)

PREDICTION_BATCH = 1_000  # images
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
    return keras.Sequential(layers, name="lstm")


def make_predictor(network: keras.Model) -> Predictor:
    """Make the function that computes a network's probabilities (n, 10) for images (n, 28, 28), with any n."""

    @tf.function(autograph=False)
    def outputs(images: tf.Tensor) -> tf.Tensor:
        return network(images, training=False)

    @tf.function(autograph=False)
    def batch(images: tf.Tensor) -> tf.Tensor:
        return tf.concat([outputs(part) for part in tf.split(images, PREDICTION_PARTS)], axis=0)

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # Fill up the last batch. Then all batches have the same shape, and the function is traced once.
        missing = -len(images) % PREDICTION_BATCH
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
        batches = [batch(part) for part in np.split(filled, len(filled) // PREDICTION_BATCH)]
        return np.concatenate(batches)[: len(images)]

    return predict
