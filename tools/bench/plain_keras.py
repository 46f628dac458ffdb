"""The reference's recipe in plain Keras, written in the usual way. This project is compared with it.

`python -m tools.bench.plain_keras SEED` trains on data/processed/train.npz, evaluates test.npz after each of the 10
epochs, and prints both accuracies. It uses nothing of stages/.
"""

import json
import sys

import numpy as np
from tensorflow import keras


def network() -> keras.Model:
    """Build and compile the reference's network."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.LSTM(128, activation="relu", return_sequences=True),
            layers.Dropout(0.2),
            layers.LSTM(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def main() -> None:
    keras.utils.set_random_seed(int(sys.argv[1]))
    train, test = (np.load(f"data/processed/{name}.npz", allow_pickle=False) for name in ("train", "test"))
    history = (
        network()
        .fit(
            train["images"],
            train["labels"],
            batch_size=32,
            epochs=10,
            validation_data=(test["images"], test["labels"]),
            verbose=0,
        )
        .history
    )
    print(json.dumps({"training_accuracy": history["accuracy"][-1], "test_accuracy": history["val_accuracy"][-1]}))


if __name__ == "__main__":
    main()
