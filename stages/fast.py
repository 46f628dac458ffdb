"""Compute outputs, loss and gradients of the network faster on a CPU than the stock Keras layers do.

The network stays a stack of stock Keras layers. This module reads their variables, and the caller trains them. Only the
computation from images to gradients is written here:

- A matrix has features as rows and images as columns. So the parts of a time step, such as the four gates, lie in
  memory as a whole each, and any number of images is fast.
- The loop over time is unrolled. Each step is one product `[W, U] @ [x; h]` forward and one backward. A few products
  after the loop compute the weights' gradients of all steps. Autodiff of the stock layer computes a small product and
  an addition for each step instead.
- A batch is split into a fixed number of shards, which run side by side, each on one core. Their results are added in a
  fixed order. So the bits depend on `SHARDS` and never on the number of cores.
- Dropout masks depend only on a seed. So training can continue from a given step without any saved state of dropout.
- arithmetic.py defines the bits of every product and sum, on all processors.
- With `precision` bfloat16, factors and results of the LSTM layers' products have 8 significant bits. A product takes
  half the time on a processor that multiplies such numbers (AMX, AVX512-BF16), and more time on others. Weights,
  states, element-wise steps and dense layers stay float32. The bits are then those of one kind of processor.

`make bench` compares the speed with Keras's `fit`, PyTorch and the limit: docs/recipes.md.
"""

import functools
import operator
from collections.abc import Callable, Sequence

import numpy as np

from stages.arithmetic import BLOCK, COLUMNS, factor, product, total
from stages.errors import InputError
from stages.runtime import keras, tf

SHARDS = 2
IMAGES = SHARDS * COLUMNS  # a batch is a multiple of this number

# Layers that `logits` computes itself, and the only value of each option that it supports.
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
    keras.layers.Dense: {"use_bias": True, "trainable": True, "compute_dtype": "float32"},
}

# Activations of a whole vector. `logits` applies activations along the images.
OF_VECTORS = {getattr(keras.activations, name) for name in ("softmax", "log_softmax", "sparsemax", "glu")}

RECURRENT = (keras.layers.LSTM,)  # layers that read a sequence; the last one returns a vector

Gradients = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]]


def make_gradients(network: keras.Model, *, precision: str) -> Gradients:
    """Make the function that computes loss and gradients of a batch, for use within a `tf.function`.

    The function takes images (n, 28, 28), labels (n,), weights (n,) and the seed of the dropout, two integers. The
    number n is fixed and a multiple of `IMAGES`. An image of weight 1 counts. An image of weight 0 only fills the
    batch. The function returns the sum of the losses, the number of images classified correctly, and the gradients of
    the mean loss with respect to the trainable variables.
    """

    @tf.function(autograph=False)
    def shard(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        variables = [variable.value for variable in network.trainable_variables]
        with tf.GradientTape() as tape:
            outputs = logits(network, images, seed=seed, precision=precision)
            losses = cross_entropy(outputs, labels) * weights
        right = tf.argmax(outputs, axis=0) == tf.cast(labels, tf.int64)
        sums = total(tf.stack([losses, tf.cast(right, tf.float32) * weights]))
        return sums[0], sums[1], *tape.gradient(losses, variables)

    def gradients(
        images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        shards = zip(*(tf.split(whole, SHARDS) for whole in (images, labels, weights)), strict=True)
        parts = [shard(*part, tf.random.fold_in(seed, number)) for number, part in enumerate(shards)]
        loss, correct, *sums = (functools.reduce(operator.add, values) for values in zip(*parts, strict=True))
        count = tf.reduce_sum(weights)  # whole numbers, so exact in any order
        return loss, correct, [value / count for value in sums]

    return gradients


def probabilities(network: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Compute the network's output (n, 10) in prediction, for images (n, 28, 28)."""
    return tf.transpose(tf.exp(log_softmax(logits(network, images, seed=None, precision="float32"))))


def logits(network: keras.Model, images: tf.Tensor, *, seed: tf.Tensor | None, precision: str) -> tf.Tensor:
    """Compute what the softmax of the last layer gets, as (10, n), for images (n, 28, 28).

    In training, the dropout masks come from the seed. In prediction, the seed is None. The network starts with a stack
    of LSTM layers with dropout between them; the last LSTM layer returns a vector. Then come any layers that compute
    the same in training and in prediction, and at the end a dense layer with softmax. Raises `InputError` for other
    layers and for unsupported options of layers.
    """
    check(network)
    steps = tf.unstack(tf.transpose(images, (1, 2, 0)))
    trained = False  # whether an earlier layer needs the gradient of this layer's input
    for number, layer in enumerate(network.layers):
        match layer:
            case keras.layers.LSTM():
                steps = lstm(steps, layer, input_gradient=trained, precision=precision)
                trained = True
            case keras.layers.Dropout():
                if layer.rate > 0 and seed is not None:
                    masks = dropout_masks(len(steps), steps[0].shape, layer.rate, tf.random.fold_in(seed, number))
                    steps = [step * mask for step, mask in zip(steps, masks, strict=True)]
            case keras.layers.Dense():
                outputs = dense(steps[0], layer)
                steps = [outputs if layer is network.layers[-1] else layer.activation(outputs)]
            case _:
                steps = [tf.transpose(layer(tf.transpose(steps[0])))]
    (output,) = steps
    return output


def _activations_of_vectors(layer: keras.Layer) -> str:
    used = {getattr(layer, kind, None) for kind in ("activation", "recurrent_activation")}
    return ", ".join(activation.__name__ for activation in OF_VECTORS if activation in used)


def check(network: keras.Model) -> None:
    """Raise `InputError` for a layer or an option of a layer that `logits` would ignore, and the saved network has."""
    sequence = True
    for layer in network.layers:
        name = f"stages/model.py: layer {layer.name} ({type(layer).__name__})"
        remedy = "change the layer, or add it to `logits` in stages/fast.py"
        options = FIXED_OPTIONS.get(type(layer))
        if sequence and type(layer) not in (*RECURRENT, keras.layers.Dropout):
            raise InputError(f"{name}: up to the last LSTM, training supports only LSTM and Dropout; {remedy}")
        if options is None and layer.non_trainable_variables:
            state = ", ".join(variable.name for variable in layer.non_trainable_variables)
            raise InputError(f"{name}: training does not support layers with a state of their own ({state}); {remedy}")
        for option, value in (options or {}).items():
            found = getattr(layer, option) if hasattr(layer, option) else getattr(layer.cell, option)
            if found != value:
                raise InputError(f"{name}: training supports only {option}={value!r}, found {found!r}; {remedy}")
        if options and layer is not network.layers[-1] and (names := _activations_of_vectors(layer)):
            raise InputError(f"{name}: training supports only element-wise activations, found {names}; {remedy}")
        if layer.activity_regularizer or any(variable.regularizer for variable in layer.trainable_variables):
            raise InputError(f"{name}: training does not support regularizers; {remedy}")
        if type(layer) in RECURRENT:
            sequence = layer.return_sequences
    if not (isinstance(layer, keras.layers.Dense) and layer.activation is keras.activations.softmax):
        raise InputError(f"{name}: training supports only a dense layer with softmax at the end; {remedy}")


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Compute the cross-entropy of each image in nats, (n,), from logits (10, n) and labels (n,)."""
    actual = tf.one_hot(labels, logits.shape[0], axis=0)

    @tf.custom_gradient
    def losses(logits: tf.Tensor) -> tuple[tf.Tensor, object]:
        logs = log_softmax(logits)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return (tf.exp(logs) - actual) * upstream

        return -tf.reduce_sum(logs * actual, axis=0), gradient  # all terms but one are 0

    return losses(logits)


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """Compute the logarithms of the probabilities, (10, n), from logits (10, n)."""
    shifted = logits - tf.reduce_max(logits, axis=0, keepdims=True)
    return shifted - tf.math.log(functools.reduce(operator.add, tf.split(tf.exp(shifted), logits.shape[0])))


def dense(inputs: tf.Tensor, layer: keras.layers.Dense) -> tf.Tensor:
    """Compute a dense layer without its activation: (features, n) -> (units, n)."""

    @tf.custom_gradient
    def run(kernel: tf.Tensor, bias: tf.Tensor, inputs: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            dkernel = product(factor(inputs), tf.transpose(upstream))
            return dkernel, total(upstream), product(factor(kernel), upstream)

        return product(factor(tf.transpose(kernel)), inputs) + bias[:, tf.newaxis], gradient

    return run(*(tf.convert_to_tensor(weight) for weight in layer.trainable_variables), inputs)


def lstm(
    steps: Sequence[tf.Tensor], layer: keras.layers.LSTM, *, input_gradient: bool, precision: str
) -> list[tf.Tensor]:
    """Compute a stock LSTM layer over time steps (features, n). Return all its outputs (units, n), or only the last.

    Factors and results of the matrix products are rounded to `precision`, a dtype. Everything else is float32.
    """
    units, (features, count) = layer.units, steps[0].shape

    def rounded(values: tf.Tensor) -> tf.Tensor:
        return tf.cast(values, precision)

    @tf.custom_gradient
    def run(
        kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, *steps: tf.Tensor
    ) -> tuple[list[tf.Tensor], object]:
        weights = rounded(tf.concat([kernel, recurrent], axis=0))
        forward = factor(tf.transpose(weights))
        biases = tf.tile(bias[:, tf.newaxis], (1, count))
        h = c = tf.zeros((units, count))
        operands, outputs, backs = [], [], []
        for x in steps:
            operands.append(tf.concat([rounded(x), rounded(h)], axis=0))
            h, c, back = _cell(product(forward, operands[-1]) + biases, c, layer)
            outputs.append(h)
            backs.append(back)

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            backward = factor(weights if input_gradient else weights[features:])
            above = upstream if layer.return_sequences else [None] * (len(steps) - 1) + list(upstream)
            dh: tf.Tensor | None = None
            dc: tf.Tensor | None = None
            dzs: list[tf.Tensor] = []
            dxs: list[tf.Tensor | None] = []
            for back, dy in zip(reversed(backs), reversed(above), strict=True):
                dz, dc = back(_sum(dh, dy), dc)
                dzs.insert(0, rounded(dz))
                dx, dh = tf.split(product(backward, dzs[0]), [features if input_gradient else 0, units])
                dxs.insert(0, dx if input_gradient else None)
            dbias = total(functools.reduce(operator.add, (tf.cast(dz, tf.float32) for dz in dzs)))
            dweights = tf.transpose(_weights_gradient(dzs, operands))
            return dweights[:features], dweights[features:], dbias, *dxs

        return outputs if layer.return_sequences else outputs[-1:], gradient

    return run(*(tf.convert_to_tensor(weight) for weight in layer.cell.trainable_variables), *steps)


Back = Callable[[tf.Tensor, tf.Tensor | None], tuple[tf.Tensor, tf.Tensor]]


def _cell(z: tf.Tensor, before: tf.Tensor, layer: keras.layers.LSTM) -> tuple[tf.Tensor, tf.Tensor, Back]:
    """Compute the element-wise part of a time step.

    It takes the gates before activation, (4 units, n), and the state before. It returns output, state, and the function
    from their gradients to those of `z` and `before`.
    """
    i, f, g, o = tf.split(z, 4)
    (i, i_back), (f, f_back), (o, o_back) = (_with_gradient(layer.recurrent_activation, gate) for gate in (i, f, o))
    g, g_back = _with_gradient(layer.activation, g)
    c = f * before + i * g
    active, active_back = _with_gradient(layer.activation, c)

    def back(dh: tf.Tensor, dc: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        dc = _sum(active_back(dh * o), dc)
        gates = [i_back(dc * g), f_back(dc * before), g_back(dc * i), o_back(dh * active)]
        return tf.concat(gates, axis=0), dc * f

    return o * active, c, back


def _with_gradient(
    function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Compute an element-wise function, and return it with the function from its gradient to that of `values`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        result = function(values)
    return result, lambda upstream: tape.gradient(result, values, output_gradients=upstream)


def _sum(first: tf.Tensor | None, second: tf.Tensor | None) -> tf.Tensor:
    return second if first is None else first if second is None else first + second


def _weights_gradient(dzs: Sequence[tf.Tensor], operands: Sequence[tf.Tensor]) -> tf.Tensor:
    """Add the products of `dz` (4 units, n) and transposed operand (k, n) over all steps: (4 units, k).

    The inner index goes through the steps, and through the images of a step.
    """
    steps = max(1, BLOCK // dzs[0].shape[1])  # in one product
    products = [
        product(
            factor(tf.concat(dzs[start : start + steps], axis=1)),
            tf.transpose(tf.concat(operands[start : start + steps], axis=1)),
        )
        for start in range(0, len(dzs), steps)
    ]
    return functools.reduce(operator.add, products)


def dropout_masks(count: int, shape: Sequence[int], rate: float, seed: tf.Tensor) -> list[tf.Tensor]:
    """Draw `count` masks of 0 and 1 / (1 - rate); the rate is rounded to a multiple of 2**-16."""
    size = count * int(np.prod(shape))
    # Two 16-bit draws from each word take half the time of drawing as many floats.
    words = tf.random.stateless_uniform([-(-size // 2)], seed, minval=None, maxval=None, dtype=tf.uint32)
    draws = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    keep = tf.cast(draws >= tf.constant(round(rate * 2**16), tf.uint16), tf.float32) / (1 - rate)
    return tf.unstack(tf.reshape(keep, (count, *shape)))
