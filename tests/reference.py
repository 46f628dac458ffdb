"""A slow reference of a training step, in NumPy: independent of stages/fast.py and of TensorFlow's products and sums.

It follows the definition in stages/arithmetic.py element by element. Only the values of sigmoid, tanh, exp and log are
TensorFlow's. Matrices have features as rows and images as columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.runtime import tf

Matrix = NDArray[np.float32]
BLOCK = 256
ONE = np.float32(1)


def product(left: Matrix, right: Matrix) -> Matrix:
    """Compute each element as one chain of fused multiply-adds in each block, and add the blocks in order."""
    blocks = []
    for start in range(0, left.shape[1], BLOCK):
        chain = np.zeros((left.shape[0], right.shape[1]), np.float32)
        for k in range(start, min(start + BLOCK, left.shape[1])):
            chain = fused(left[:, k : k + 1], right[k : k + 1], chain)
        blocks.append(chain)
    return added(blocks)


def fused(left: Matrix, right: Matrix, addend: Matrix) -> Matrix:
    """Round left * right + addend once.

    Rounding the sum to float64 and then to float32 differs only where float64 is halfway between two float32. These few
    elements are computed as fractions.
    """
    exact = left.astype(np.float64) * right.astype(np.float64)  # 48 bits at most
    sums = exact + addend
    rounded = sums.astype(np.float32)
    halfway = sums.view(np.int64) % 2**29 == 2**28
    for place in zip(*np.nonzero(halfway), strict=True):
        fraction = Fraction(float(exact[place])) + Fraction(float(addend[place]))
        rounded[place] = nearest(fraction, rounded[place])
    return rounded


def nearest(fraction: Fraction, guess: np.float32) -> np.float32:
    """Find the float32 that is nearest to a fraction, ties to even, next to a guess."""
    candidates = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(candidates, key=lambda value: (abs(Fraction(float(value)) - fraction), int(value.view(np.int32)) % 2))


def added(terms: Sequence[Matrix]) -> Matrix:
    """Add in order."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def row_sums(matrix: Matrix) -> Matrix:
    """Add the columns of a matrix in order."""
    return added(list(matrix.T))


def of_tensorflow(function: Callable[[Any], Any], values: Matrix) -> Matrix:
    return np.asarray(function(tf.constant(values)))


def sigmoid(values: Matrix) -> Matrix:
    return of_tensorflow(tf.sigmoid, values)


def sigmoid_gradient(result: Matrix, upstream: Matrix) -> Matrix:
    return upstream * (result * (ONE - result))


# By activation: the function, and its gradient from its result and the gradient of the result.
ACTIVATIONS: dict[str, tuple[Callable[[Matrix], Matrix], Callable[[Matrix, Matrix], Matrix]]] = {
    "relu": (lambda values: np.maximum(values, np.float32(0)), lambda result, upstream: upstream * (result > 0)),
    "tanh": (
        lambda values: of_tensorflow(tf.tanh, values),
        lambda result, upstream: upstream * (ONE - result * result),
    ),
    "sigmoid": (sigmoid, sigmoid_gradient),
}


@dataclass
class Lstm:
    """An LSTM layer: its weights as Keras has them, and what the backward pass needs."""

    activation: str
    kernel: Matrix  # (features, 4 units), in the order i, f, g, o
    recurrent: Matrix  # (units, 4 units)
    bias: Matrix  # (4 units,)

    def forward(self, steps: Sequence[Matrix]) -> list[Matrix]:
        act, _ = ACTIVATIONS[self.activation]
        weights = np.concatenate([self.kernel, self.recurrent])
        units, count = len(self.recurrent), steps[0].shape[1]
        h = c = np.zeros((units, count), np.float32)
        self.saved, outputs = [], []
        for x in steps:
            operand = np.concatenate([x, h])
            z = product(weights.T, operand) + self.bias[:, np.newaxis]
            i, f, g, o = np.split(z, 4)
            i, f, g, o = sigmoid(i), sigmoid(f), act(g), sigmoid(o)
            before, c = c, f * c + i * g
            active = act(c)
            h = o * active
            self.saved.append((operand, i, f, g, o, before, active))
            outputs.append(h)
        return outputs

    def backward(self, upstream: Sequence[Matrix | None], *, inputs: bool) -> tuple[list[Matrix], list[Matrix]]:
        """Return the gradients of kernel, recurrent weights and bias, and those of the inputs."""
        _, gradient = ACTIVATIONS[self.activation]
        features, units = len(self.kernel), len(self.recurrent)
        weights = np.concatenate([self.kernel, self.recurrent])
        back = weights if inputs else self.recurrent
        dh = dc = None
        dzs: list[Matrix] = []
        dxs: list[Matrix] = []
        for (_, i, f, g, o, before, active), dy in zip(reversed(self.saved), reversed(upstream), strict=True):
            dh = dy if dh is None else dh if dy is None else dh + dy
            dactive = gradient(active, dh * o)
            dc = dactive if dc is None else dactive + dc
            dz = np.concatenate(
                [
                    sigmoid_gradient(i, dc * g),
                    sigmoid_gradient(f, dc * before),
                    gradient(g, dc * i),
                    sigmoid_gradient(o, dh * active),
                ]
            )
            dc = dc * f
            dzs.insert(0, dz)
            both = product(back, dz)
            if inputs:
                dxs.insert(0, both[:features])
            dh = both[-units:]
        each = BLOCK // dzs[0].shape[1]  # steps in a block
        of_blocks = [
            product(
                np.concatenate(dzs[start : start + each], axis=1),
                np.concatenate([saved[0] for saved in self.saved[start : start + each]], axis=1).T,
            )
            for start in range(0, len(dzs), each)
        ]
        dweights = added(of_blocks).T
        return [dweights[:features], dweights[features:], row_sums(added(dzs))], dxs


@dataclass
class Dense:
    kernel: Matrix  # (features, units)
    bias: Matrix  # (units,)

    def forward(self, inputs: Matrix) -> Matrix:
        self.inputs = inputs
        return product(self.kernel.T, inputs) + self.bias[:, np.newaxis]

    def backward(self, upstream: Matrix) -> tuple[list[Matrix], Matrix]:
        return [product(self.inputs, upstream.T), row_sums(upstream)], product(self.kernel, upstream)


def log_softmax(logits: Matrix) -> Matrix:
    shifted = logits - logits.max(axis=0)
    return shifted - of_tensorflow(tf.math.log, added(list(of_tensorflow(tf.exp, shifted))))


def gradients(
    weights: Sequence[Matrix],
    activation: str,
    masks: Sequence[Sequence[Matrix]],
    images: Matrix,
    labels: NDArray[np.uint8],
) -> tuple[Matrix, list[Matrix]]:
    """Compute the sum of the losses of images (n, 28, 28) and its gradients, for two LSTM and two dense layers.

    `masks` are the dropout masks after each LSTM layer, by time step.
    """
    first, second = (Lstm(activation, *weights[k : k + 3]) for k in (0, 3))
    hidden, last = (Dense(*weights[k : k + 2]) for k in (6, 8))
    relu, relu_gradient = ACTIVATIONS["relu"]

    steps = first.forward(list(images.transpose(1, 2, 0)))
    *_, vector = second.forward([step * mask for step, mask in zip(steps, masks[0], strict=True)])
    (mask,) = masks[1]
    active = relu(hidden.forward(vector * mask))
    logs = log_softmax(last.forward(active))

    actual = np.eye(len(logs), dtype=np.float32)[labels].T
    loss = added(list(-logs[labels, np.arange(len(labels))]))
    of_last, dactive = last.backward(of_tensorflow(tf.exp, logs) - actual)
    of_hidden, dvector = hidden.backward(relu_gradient(active, dactive))
    of_second, dsteps = second.backward([None] * (len(steps) - 1) + [dvector * mask], inputs=True)
    of_first, _ = first.backward([step * mask for step, mask in zip(dsteps, masks[0], strict=True)], inputs=False)
    return loss, [*of_first, *of_second, *of_hidden, *of_last]


def adam(
    weights: Sequence[Matrix], moments: list[list[Matrix]], by_weight: Sequence[Matrix], *, step: int, rate: np.float32
) -> list[Matrix]:
    """Update weights as Kingma and Ba, "Adam: A Method for Stochastic Optimization", do; `moments` change in place."""
    first, second, epsilon = 0.9, 0.999, np.float32(1e-7)
    shares = [ONE - np.float32(np.float64(np.float32(beta)) ** step) for beta in (first, second)]
    alpha = rate * np.sqrt(shares[1]) / shares[0]
    updated = []
    for number, (weight, gradient) in enumerate(zip(weights, by_weight, strict=True)):
        m, v = moments[number]
        m = m + (gradient - m) * np.float32(1 - first)
        v = v + (gradient * gradient - v) * np.float32(1 - second)
        moments[number] = [m, v]
        updated.append(weight - m * alpha / (np.sqrt(v) + epsilon))
    return updated
