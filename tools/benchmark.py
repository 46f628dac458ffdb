"""Training throughput of this project and its peers: `make bench` -> reports/benchmarks/throughput.{md,json}.

Every measurement trains on random images in a process of its own. The rounds are interleaved, so that ratios hold on a
machine whose speed changes, and the fastest round of each counts. No part of `dvc repro`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import dataset
from stages.files import replacing
from stages.params import Model, load_params

RESULTS = Path("reports/benchmarks")
BATCHES = (32, 64, 128)
IMAGES = 3_200  # in one repetition
REPETITIONS = 4

Images = NDArray[np.float32]  # (n, 28, 28)
Labels = NDArray[np.uint8]  # (n,)
Epoch = Callable[[], object]  # trains once on all images


def this_project(images: Images, labels: Labels, batch: int) -> Epoch:
    """Train as stages/train.py does, without the reading of images and the measuring after an epoch."""
    from stages import model, train  # noqa: PLC0415 - each peer is imported in its own process only
    from stages.runtime import keras, tf  # noqa: PLC0415

    params = load_params()
    network = model.build(params.model, seed=0)
    learn = train.make_learner(network, keras.optimizers.Adam(0.001), seed=0)
    batches = [
        (tf.constant(images[start : start + batch]), tf.constant(labels[start : start + batch]), tf.ones(batch))
        for start in range(0, len(images), batch)
    ]
    return lambda: [float(learn(*each)[0]) for each in batches]


def keras_fit(images: Images, labels: Labels, batch: int) -> Epoch:
    """Train the reference's network as anyone would write it: Keras' `fit` on NumPy arrays, its default settings."""
    import keras  # noqa: PLC0415

    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.LSTM(128, activation="relu", return_sequences=True),
            keras.layers.Dropout(0.2),
            keras.layers.LSTM(128, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return lambda: network.fit(images, labels, batch_size=batch, verbose=0)


def pytorch(images: Images, labels: Labels, batch: int) -> Epoch:
    """Train PyTorch's `nn.LSTM` of the same sizes, which knows tanh alone."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LSTM(28, 128, batch_first=True)
            self.second = nn.LSTM(128, 128, batch_first=True)
            self.dropout = nn.Dropout(0.2)
            self.head = nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))

        def forward(self, rows: Any) -> Any:
            hidden, _ = self.first(rows)
            hidden, _ = self.second(self.dropout(hidden))
            return self.head(self.dropout(hidden[:, -1]))

    network, loss = Network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), 0.001)
    x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))

    def epoch() -> None:
        for start in range(0, len(x), batch):
            optimizer.zero_grad()
            loss(network(x[start : start + batch]), y[start : start + batch]).backward()
            optimizer.step()

    return epoch


def matrix_products(images: Images) -> Epoch:
    """Do as many operations as the network's matrix products on the images take, in large products."""
    side = 2_048
    large = np.random.default_rng(0).random((side, side), np.float32)
    count = round(len(images) * operations(load_params().model) / (2 * side**3))

    def epoch() -> None:
        for _ in range(count):
            large @ large

    return epoch


PEERS: dict[str, Callable[[Images, Labels, int], Epoch]] = {
    "this project": this_project,
    "Keras `fit`": keras_fit,
    "PyTorch `nn.LSTM`": pytorch,
}
LIMIT = "matrix products alone"


def operations(params: Model) -> int:
    """Count the floating-point operations of the matrix products of one image, forward and backward.

    Forward is one product, backward two of its size, but for the gradient of the pixels, which nobody needs.
    """
    forward = unneeded = 0
    features = dataset.SIDE
    for level, units in enumerate(params.lstm_units):
        forward += dataset.SIDE * (features + units) * 4 * units
        if level == 0:
            unneeded = dataset.SIDE * features * 4 * units
        features = units
    forward += features * params.dense_units + params.dense_units * dataset.CLASSES
    return 2 * (3 * forward - unneeded)


def measure(name: str, batch: int) -> float:
    """Measure in this process the images trained on in a second, the fastest repetition after a first."""
    rng = np.random.default_rng(0)
    images = rng.random((IMAGES, dataset.SIDE, dataset.SIDE), np.float32)
    labels = rng.integers(0, dataset.CLASSES, IMAGES).astype(np.uint8)
    epoch = matrix_products(images) if name == LIMIT else PEERS[name](images, labels, batch)
    epoch()
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - started)
    return IMAGES / min(seconds)


def run(rounds: int) -> dict[str, dict[int, float]]:
    """Measure every peer at every batch size, `rounds` times in turn, and keep the fastest."""
    best: dict[str, dict[int, float]] = {name: {} for name in (LIMIT, *PEERS)}
    cases = [(LIMIT, max(BATCHES)), *((name, batch) for batch in BATCHES for name in PEERS)]
    for _ in range(rounds):
        for name, batch in cases:
            if name == "PyTorch `nn.LSTM`" and not find_spec("torch"):
                continue
            command = [sys.executable, "-m", "tools.benchmark", "--one", name, str(batch)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"error: {name} failed: {done.stderr}")
            speed = float(done.stdout.splitlines()[-1])
            print(f"{name}, batch {batch}: {speed:,.0f} images/s", flush=True)
            best[name][batch] = max(speed, best[name].get(batch, 0))
    return best


def table(best: Mapping[str, Mapping[int, float]]) -> str:
    """Lay the speeds out in Markdown, each beside its ratio to plain Keras at batch 32."""
    base = best["Keras `fit`"][32]
    lines = ["| images/s (ratio) | " + " | ".join(f"batch {batch}" for batch in BATCHES) + " |"]
    lines.append("|---|" + "---:|" * len(BATCHES))
    for name in PEERS:
        cells = (best[name].get(batch) for batch in BATCHES)
        shown = (f"{speed:,.0f} ({speed / base:.1f}x)" if speed else "not measured" for speed in cells)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines.append("")
    (limit,) = best[LIMIT].values()
    lines.append(f"Limit, the network's matrix products alone as large ones: {limit:,.0f} ({limit / base:.1f}x).")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured (default: 2)")
    parser.add_argument(
        "--one", nargs=2, metavar=("NAME", "BATCH"), help="measure one in this process and print images/s"
    )
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.one[0], int(arguments.one[1])))
        return
    best = run(arguments.rounds)
    packages = {name: version(name) for name in ("tensorflow", "keras", "numpy", "torch") if find_spec(name)}
    result = {"cores": os.cpu_count(), "python": platform.python_version(), **packages, "images_per_second": best}
    with replacing(RESULTS / "throughput.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    with replacing(RESULTS / "throughput.md") as temporary:
        temporary.write_text(table(best), encoding="utf-8")
    print(table(best), end="")


if __name__ == "__main__":
    main()
