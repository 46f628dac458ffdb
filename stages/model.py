"""The network, from its parameters."""

from stages import dataset
from stages.params import Model
from stages.runtime import keras


def build(params: Model, *, seed: int) -> keras.Model:
    """Build the untrained network: (n, 28, 28) pixels, a row a time step -> (n, 10) probabilities.

    LSTM layers that hand on their whole sequence, but for the last, each followed by dropout;
    then a dense relu layer and a softmax over the classes. Stock Keras layers only.
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
