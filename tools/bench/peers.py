"""The peers that `make bench` compares: training steps of this project, plain Keras and PyTorch, and their limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import dataset
from stages.params import Model, load_params

Images = NDArray[np.float32]  # (n, 28, 28)
Labels = NDArray[np.uint8]  # (n,)
Epoch = Callable[[Images, Labels], object]  # trains once on all images


SIDE = 1_024  # of the large matrices whose products measure the limit


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    peer: str
    batch: int = 128
    units: tuple[int, ...] = (128, 128)  # of the LSTM layers
    precision: str = "float32"
    images: int = 2_560  # in an epoch


def this_project(case: Case) -> Epoch:
    """Train as stages/train.py does, without loading images and without validation."""
    from stages import model, train  # noqa: PLC0415 - each peer is imported in its own process only
    from stages.runtime import keras, tf  # noqa: PLC0415

    params = load_params()
    network = model.build(params.model.model_copy(update={"lstm_units": list(case.units)}), seed=0)
    settings = params.train.model_copy(update={"precision": case.precision})
    learn = train.make_learner(network, keras.optimizers.Adam(0.001), settings)

    def epoch(images: Images, labels: Labels) -> None:
        for start in range(0, len(images), case.batch):
            part = slice(start, start + case.batch)
            loss, *_ = learn(tf.constant(images[part]), tf.constant(labels[part]), tf.ones(case.batch))
            float(loss)

    return epoch


def keras_fit(case: Case) -> Epoch:
    """Train the reference's network in the usual way: Keras's `fit` on NumPy arrays, with default settings."""
    from tools.bench.plain_keras import network  # noqa: PLC0415

    fit = network().fit
    return lambda images, labels: fit(images, labels, batch_size=case.batch, verbose=0)


def pytorch(case: Case) -> Epoch:
    """Train PyTorch's `nn.LSTM` of the same sizes. `nn.LSTM` supports only tanh."""
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

    def epoch(images: Images, labels: Labels) -> None:
        x, y = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
        for start in range(0, len(x), case.batch):
            optimizer.zero_grad()
            loss(network(x[start : start + case.batch]), y[start : start + case.batch]).backward()
            optimizer.step()

    return epoch


def matrix_products(case: Case) -> Epoch:
    """Do as many operations as the network's matrix products need for the images, in large float32 products."""
    large = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    params = load_params().model.model_copy(update={"lstm_units": list(case.units)})

    def epoch(images: Images, _: Labels) -> None:
        for _product in range(round(len(images) * operations(params) / (2 * SIDE**3))):
            large @ large

    return epoch


THIS, KERAS, PYTORCH, LIMIT = "this project", "Keras `fit`", "PyTorch `nn.LSTM`", "matrix products alone"
PEERS: Mapping[str, Callable[[Case], Epoch]] = {
    THIS: this_project,
    KERAS: keras_fit,
    PYTORCH: pytorch,
    LIMIT: matrix_products,
}


def operations(params: Model) -> int:
    """Count the floating-point operations of the matrix products of one image, forward and backward.

    A product needs two more of its size in the backward pass. The gradient of the pixels is not computed.
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
