"""Compute loss and gradients of the network faster on a CPU than the stock Keras layers do.

The network stays a stack of stock Keras layers. This module reads their variables, and the caller trains them. Only the
computation from images to gradients is written here:

- The loop over time is unrolled. Each step is one matrix product `[x, h] @ [W; U]` forward and one backward. One
  product after the loop computes the weights' gradients of all steps. Autodiff of the stock layer computes a small
  product and an addition for each step instead.
- The rest of a step is element-wise and one `tf.function`. It is traced and differentiated by autodiff once for all
  steps. So tracing is quick, and any activation works.
- A batch is split into a fixed number of shards, which run side by side, each on one core. Their results are added in a
  fixed order. So the bits depend on `SHARDS` and never on the number of cores.
- Dropout masks depend only on a seed. So training can continue from a given step without any saved state of dropout.
- With `precision` bfloat16, factors and results of the LSTM layers' products have 8 significant bits. A product takes
  half the time on a processor that multiplies such numbers (AMX, AVX512-BF16), and more time on others. Weights,
  states, element-wise steps and dense layers stay float32.

On two cores of an AMD EPYC (Zen 4), this trains on 1.5 to 1.6 times as many images a second as Keras's `fit`, at the
same batch size and in float32. `make bench` compares it with `fit`, PyTorch and the limit: reports/benchmarks/.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from stages.errors import InputError
from stages.runtime import keras, tf

SHARDS = 2

# Layers that `forward` computes itself, and the only value of each option that it supports.
FIXED_OPTIONS: dict[type[keras.Layer], dict[str, object]] = {
    keras.layers.LSTM: {
        "use_bias": True,
        "dropout": 0,
        "recurrent_dropout": 0,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "trainable": True,
        "compute_dtype": "float32",
        "implementation": 2,
    },
    keras.layers.Dropout: {"noise_shape": None},
}

Activation = Callable[[tf.Tensor], tf.Tensor]
Cell = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Gradients = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]]


def make_gradients(network: keras.Model, *, precision: str) -> Gradients:
    """Make the function that computes loss and gradients of a batch, for use within a `tf.function`.

    The function takes images (n, 28, 28), labels (n,), weights (n,) and the seed of the dropout, two integers. The
    number n is fixed and a multiple of `SHARDS`. An image of weight 1 counts. An image of weight 0 only fills the
    batch. The function returns the sum of the losses, the number of images classified correctly, and the gradients of
    the mean loss with respect to the trainable variables.
    """

    @tf.function(autograph=False)
    def shard(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        variables = [variable.value for variable in network.trainable_variables]
        with tf.GradientTape() as tape:
            probabilities = forward(network, images, seed=seed, precision=precision)
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            loss = tf.reduce_sum(losses * weights)
        right = tf.argmax(probabilities, axis=1) == tf.cast(labels, tf.int64)
        return loss, tf.reduce_sum(tf.cast(right, tf.float32) * weights), *tape.gradient(loss, variables)

    def gradients(
        images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        shards = zip(*(tf.split(whole, SHARDS) for whole in (images, labels, weights)), strict=True)
        parts = [shard(*part, tf.random.fold_in(seed, number)) for number, part in enumerate(shards)]
        loss, correct, *sums = (tf.add_n(values) for values in zip(*parts, strict=True))
        count = tf.reduce_sum(weights)
        return loss, correct, [value / count for value in sums]

    return gradients


def forward(network: keras.Model, images: tf.Tensor, *, seed: tf.Tensor, precision: str) -> tf.Tensor:
    """Compute the network's output in training, with dropout masks from the seed.

    The network starts with a stack of LSTM layers with dropout between them; the last LSTM layer returns a vector. Any
    layers may follow that compute the same in training and in prediction. Raises `InputError` for other layers and for
    unsupported options of layers.
    """
    steps = tf.unstack(images, axis=1)
    trained = False  # whether an earlier layer needs the gradient of this layer's input
    for number, layer in enumerate(network.layers):
        _check(layer, is_in_sequence=len(steps) > 1)
        match layer:
            case keras.layers.LSTM():
                steps = lstm(steps, layer, input_gradient=trained, precision=precision)
                trained = True
            case keras.layers.Dropout():
                if layer.rate > 0:
                    masks = dropout_masks(len(steps), steps[0].shape, layer.rate, tf.random.fold_in(seed, number))
                    steps = [step * mask for step, mask in zip(steps, masks, strict=True)]
            case _:
                steps = [layer(steps[0])]
    (output,) = steps
    return output


def _check(layer: keras.Layer, *, is_in_sequence: bool) -> None:
    """Raise `InputError` if training would ignore this layer or one of its options, which the saved network has."""
    name = f"stages/model.py: layer {layer.name} ({type(layer).__name__})"
    remedy = "change the layer, or add it to `forward` in stages/fast.py"
    options = FIXED_OPTIONS.get(type(layer))
    if options is None and is_in_sequence:
        supported = " and ".join(kind.__name__ for kind in FIXED_OPTIONS)
        raise InputError(f"{name}: up to the last LSTM, training supports only {supported}; {remedy}")
    if options is None and layer.non_trainable_variables:
        state = ", ".join(variable.name for variable in layer.non_trainable_variables)
        raise InputError(f"{name}: training does not support layers with a state of their own ({state}); {remedy}")
    for option, value in (options or {}).items():
        found = getattr(layer, option) if hasattr(layer, option) else getattr(layer.cell, option)
        if found != value:
            raise InputError(f"{name}: training supports only {option}={value!r}, found {found!r}; {remedy}")
    if layer.activity_regularizer or any(variable.regularizer for variable in layer.trainable_variables):
        raise InputError(f"{name}: training does not support regularizers; {remedy}")


def lstm(
    steps: Sequence[tf.Tensor], layer: keras.layers.LSTM, *, input_gradient: bool, precision: str
) -> list[tf.Tensor]:
    """Compute a stock LSTM layer over time steps (n, features). Return all its outputs (n, units), or only the last.

    Factors and results of the matrix products are rounded to `precision`, a dtype. Everything else is float32.
    """
    cell = _cell(layer.activation, layer.recurrent_activation)
    count, features = steps[0].shape

    def rounded(factor: tf.Tensor) -> tf.Tensor:
        return tf.cast(factor, precision)

    def product(left: tf.Tensor, right: tf.Tensor, *, transpose_left: bool = False) -> tf.Tensor:
        return tf.cast(tf.matmul(left, right, transpose_a=transpose_left), tf.float32)

    @tf.custom_gradient
    def run(
        kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, *steps: tf.Tensor
    ) -> tuple[list[tf.Tensor], object]:
        weights = rounded(tf.concat([kernel, recurrent], axis=0))
        h = c = tf.zeros((count, layer.units))
        operands, outputs, tapes = [], [], []
        for x in steps:
            operands.append(tf.concat([rounded(x), rounded(h)], axis=1))
            source = (tf.nn.bias_add(product(operands[-1], weights), bias), c)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(source)
                h, c = cell(*source)
            outputs.append(h)
            tapes.append((tape, source, (h, c)))

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # Transposed once: small products with a transposed operand are slower.
            back = tf.transpose(weights if input_gradient else weights[features:])
            above = upstream if layer.return_sequences else [0.0] * (len(steps) - 1) + list(upstream)
            dh, dc = tf.zeros((count, layer.units)), tf.zeros((count, layer.units))
            dzs: list[tf.Tensor] = []
            dxs: list[tf.Tensor] = []
            for (tape, source, target), dy in zip(reversed(tapes), reversed(above), strict=True):
                dz, dc = tape.gradient(target, source, output_gradients=[dh + dy, dc])
                dzs.insert(0, rounded(dz))
                if input_gradient:
                    dx, dh = tf.split(product(dzs[0], back), [features, layer.units], axis=1)
                    dxs.insert(0, dx)
                else:
                    dh = product(dzs[0], back)
            dz = tf.concat(dzs, axis=0)
            dweights = product(tf.concat(operands, axis=0), dz, transpose_left=True)
            dbias = product(tf.ones((1, len(steps) * count), precision), dz)[0]  # faster than a sum
            return dweights[:features], dweights[features:], dbias, *(dxs or [None] * len(steps))

        return outputs if layer.return_sequences else outputs[-1:], gradient

    return run(*(tf.convert_to_tensor(weight) for weight in layer.cell.trainable_variables), *steps)


@functools.cache
def _cell(activation: Activation, recurrent_activation: Activation) -> Cell:
    """Make the element-wise part of a time step: gates before activation (n, 4 units) and state -> output and state."""

    @tf.function(autograph=False)
    def cell(z: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        i, f, g, o = tf.split(z, 4, axis=1)
        c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)
        return recurrent_activation(o) * activation(c), c

    return cell


def dropout_masks(count: int, shape: Sequence[int], rate: float, seed: tf.Tensor) -> list[tf.Tensor]:
    """Draw `count` masks of 0 and 1 / (1 - rate); the rate is rounded to a multiple of 2**-16."""
    size = count * int(np.prod(shape))
    # Two 16-bit draws from each word take half the time of drawing as many floats.
    words = tf.random.stateless_uniform([-(-size // 2)], seed, minval=None, maxval=None, dtype=tf.uint32)
    draws = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    keep = tf.cast(draws >= tf.constant(round(rate * 2**16), tf.uint16), tf.float32) / (1 - rate)
    return tf.unstack(tf.reshape(keep, (count, *shape)))
