import platform
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest

from stages import arithmetic, model, train
from stages.arithmetic import (
    BLOCK,
    COLUMNS,
    FUNCTIONS,
    ROWS,
    Matrix,
    Product,
    factor,
    fused,
    product,
    products_of,
)
from stages.params import Model, Params, Train
from stages.runtime import keras, tf
from tests.images import random_digits
from tests.parameters import AUGMENT, make_params

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the arithmetic is defined for x86-64")

# By operation of TensorFlow that training, prediction and the stream of batches use: why its bits are the same on every
# x86-64 processor with AVX2 and FMA.
MOVED = "moves or makes values, and computes none"
INTEGER = "integers"
EXACT = "one correctly rounded operation of IEEE 754, or a comparison"
EIGEN = "one polynomial for vectors in a build of TensorFlow; whole vectors only, since images come in 16s"
COUNTED = "random numbers that are integers of a counter and a key; floats are made of their bits"
SAME = {
    **dict.fromkeys(
        [
            "Bitcast", "ConcatV2", "Const", "EnsureShape", "Fill", "GatherV2", "Identity", "IdentityN", "NoOp",
            "OneHot", "Pack", "Pad", "Placeholder", "Reshape", "Shape", "Size", "Split", "SplitV", "StridedSlice",
            "Tile", "Transpose", "Unpack", "_Retval",
        ],
        MOVED,
    ),
    **dict.fromkeys(["AssignVariableOp", "ReadVariableOp", "StatefulPartitionedCall"], MOVED),
    **dict.fromkeys(["FlatMapDataset", "MapDataset", "PrefetchDataset", "RangeDataset"], MOVED),
    **dict.fromkeys(["Range"], INTEGER),
    **dict.fromkeys(
        [
            "AddV2", "ArgMax", "AssignAddVariableOp", "AssignSubVariableOp", "Cast", "Equal", "Floor", "GreaterEqual",
            "Max", "Maximum", "Minimum", "Mul", "Neg", "NotEqual", "RealDiv", "Relu", "ReluGrad", "Sqrt", "Square",
            "Sub",
        ],
        EXACT,
    ),
    **dict.fromkeys(["EluGrad", "Softsign", "SoftsignGrad", "TanhGrad"], "exact operations one after the other"),
    **dict.fromkeys(["Cos", "Elu", "Exp", "Log", "Sigmoid", "SigmoidGrad", "Sin", "Softplus", "Tanh"], EIGEN),
    **dict.fromkeys(
        [
            "StatelessRandomGetKeyCounter", "StatelessRandomUniformFullIntV2", "StatelessRandomUniformV2",
            "StatelessShuffle",
        ],
        COUNTED,
    ),
    "MatMul": "in shapes that keep the order of fused multiply-adds: `arithmetic.fault` checks each",
    "Pow": "of Adam and Nadam: a number to the power of the step, by glibc's powf: one algorithm since 2.28",
    "Sum": "exact: whole numbers, or all terms but one are 0",
}  # fmt: skip

# What a change would use at first thought.
APPROXIMATE = "avoided, because it uses the processor's approximate reciprocal or square root"
ORDERED = "avoided, because kernels add in an order of their own"
AVOIDED = {
    **dict.fromkeys(
        [
            "Inv", "InvGrad", "LogSoftmax", "Reciprocal", "ReciprocalGrad", "Rsqrt", "RsqrtGrad", "Softmax",
            "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits", "Tan", "Xdivy",
        ],
        APPROXIMATE,
    ),
    **dict.fromkeys(
        [
            "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "BiasAddGrad", "Einsum", "Mean", "Prod", "SegmentSum",
            "UnsortedSegmentSum", "_FusedMatMul", "_MklMatMul",
        ],
        ORDERED,
    ),
    **dict.fromkeys(["Qr", "Svd"], "avoided, because linear algebra libraries block by the sizes of caches"),
    "StatelessRandomNormalV2": "avoided, because it computes logarithms one number at a time, in the C library",
}  # fmt: skip


def steps_of(**changes: object) -> train.Steps:
    params = make_params(**changes)
    network = model.build(params.model, seed=0)
    optimizer = train.make_optimizer(network, params.train, images=1_000)
    return train.trace(network, optimizer, params, images=1_000)


@pytest.fixture(scope="module")
def steps() -> train.Steps:
    """The default network's training with augmentation and the moving average of the weights, traced."""
    return steps_of(**AUGMENT, train__ema=0.9)


def nodes_of(definition: Any) -> Iterator[Any]:
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def operations(steps: train.Steps, params: Params) -> Counter[str]:
    stream = train.batches(random_digits(100), params.train, params.augment)
    graphs = [graph.as_graph_def() for graph in steps.graphs]
    graphs.append(tf.compat.v1.GraphDef.FromString(stream._as_serialized_graph().numpy()))
    return Counter(node.op for graph in graphs for node in nodes_of(graph))


def not_the_same(used: Counter[str]) -> dict[str, str]:
    return {name: AVOIDED.get(name, "not in the table") for name in used if name not in SAME}


# With each of the other optimizers and activations of params.yaml. Muon's products are a fault.
OTHERS = [
    ("adam", "sigmoid"), ("adamw", "tanh"), ("nadam", "elu"), ("rmsprop", "softplus"), ("sgd", "softsign"),
]  # fmt: skip


def test_every_operation_gives_the_same_bits_everywhere(steps: train.Steps) -> None:
    used = operations(steps, make_params(**AUGMENT))
    assert not_the_same(used) == {}
    assert used["Sum"] == 2  # of the weights and of the losses; any other would have an order of its own
    for optimizer, activation in OTHERS:
        small = {"model__lstm_units": [4], "train__optimizer": optimizer, "model__activation": activation}
        other = operations(steps_of(**small), make_params(**small))
        assert not_the_same(other) == {}, small
        assert other["Sum"] == 2, small
        used += other
    assert set(SAME) - set(used) == set()
    assert not set(SAME) & set(AVOIDED)


def test_the_table_is_about_every_optimizer_and_activation() -> None:
    optimizers, activations = ({pair[number] for pair in OTHERS} for number in range(2))
    assert optimizers | {"muon"} == set(get_args(Train.model_fields["optimizer"].annotation))
    assert activations | {"relu"} == set(get_args(Model.model_fields["activation"].annotation))


@on_x86_64
def test_muon_is_a_fault() -> None:
    # Sizes at which most of its products have shapes that fit.
    sizes = {"model__lstm_units": [48], "model__dense_units": 48, "train__optimizer": "muon"}
    assert "with an order of additions that is not defined" in str(arithmetic.fault(steps_of(**sizes).graphs))


# The definition, computed slowly


def rounded(exact: Fraction) -> np.float32:
    """Round to the nearest float32; of two, to the one whose last bit is 0."""
    near = np.float32(float(exact))
    candidates = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(candidates, key=lambda each: (abs(Fraction(float(each)) - exact), each.view(np.uint32) % 2))


def hard_values(count: int) -> Iterator[Matrix]:
    """Factors and summands whose sums lie near the middle of two float32 numbers, or cancel."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(count, np.float32) for _ in range(2))
    exact = left.astype(np.float64) * right
    for scale in (1, 2.0**20, 2.0**24, 2.0**25, 2.0**30, 2.0**-20):
        yield np.array([left, right, rng.standard_normal(count, np.float32) * np.float32(scale)])
    yield np.array([left, right, -exact.astype(np.float32)])
    yield np.array([left, right, np.zeros(count, np.float32)])
    # (2**12 + 1)**2 has 25 bits, so its half-way bit decides, and a tiny summand decides about that bit.
    odd = (2.0**12 + rng.integers(0, 2**11, count) * 2 + 1).astype(np.float32)
    tiny = rng.choice([-1, 0, 1], count) * 2.0 ** -rng.integers(0, 100, count)
    yield np.array([odd, odd, tiny.astype(np.float32)])
    yield np.array([odd * np.float32(2.0**-70), odd * np.float32(2.0**-70), tiny.astype(np.float32)])


def test_a_fused_multiply_add_rounds_once() -> None:
    for left, right, added in hard_values(300):
        expected = [
            rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
            for a, b, c in zip(left, right, added, strict=True)
        ]
        np.testing.assert_array_equal(fused(left, right, added), np.array(expected))


def by_definition(left: Matrix, right: Matrix) -> Matrix:
    sums = []
    for start in range(0, left.shape[1], BLOCK):
        chain = np.zeros((len(left), right.shape[1]), np.float32)
        for k in range(start, min(start + BLOCK, left.shape[1])):
            chain = fused(left[:, k, np.newaxis], right[k], chain)
        sums.append(chain)
    result, *others = sums
    for other in others:
        result = result + other
    return result


@on_x86_64
@pytest.mark.parametrize(
    ("rows", "inner", "columns"),
    [
        (ROWS, BLOCK, COLUMNS), (2 * ROWS, 28, 2 * COLUMNS), (1, 1, 1), (10, 32, 33), (47, BLOCK + 1, 15),
        (ROWS + 1, 2 * BLOCK, COLUMNS), (7, 700, 3), (512, 156, 32),
    ],
)  # fmt: skip
def test_a_product_of_any_size_follows_the_definition(rows: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((rows, inner), np.float32), rng.standard_normal((inner, columns), np.float32)
    found = product(factor(tf.constant(left)), tf.constant(right))
    np.testing.assert_array_equal(np.asarray(found), by_definition(left, right))


@on_x86_64
@pytest.mark.parametrize("columns", [1, 32, BLOCK, 300])
def test_a_total_adds_in_order(columns: int) -> None:
    values = np.random.default_rng(0).standard_normal((5, columns), np.float32)
    expected = by_definition(values, np.ones((columns, 1), np.float32))[:, 0]
    np.testing.assert_array_equal(np.asarray(arithmetic.total(tf.constant(values))), expected)


@on_x86_64
def test_tiny_numbers_are_zero_in_every_thread() -> None:
    tiny = tf.constant(np.full((ROWS, COLUMNS), 1e-30, np.float32))

    def smaller(values: Any) -> Any:
        return values * 1e-10

    inner = tf.function(smaller, autograph=False)
    several = tf.function(lambda values: [*map(inner, tf.split(values, 2)), smaller(values)], autograph=False)
    stream = tf.data.Dataset.range(2).map(lambda _: smaller(tiny)).prefetch(2)
    products = tf.matmul(tiny, tf.fill((COLUMNS, COLUMNS), 1e-10))
    for result in (smaller(tiny), *(part for _ in range(20) for part in several(tiny)), *stream, products):
        np.testing.assert_array_equal(np.asarray(result), 0)


# The check


def graph_of(compute: Callable[..., Any], *shapes: tuple[int, ...], dtype: str = "float32") -> Any:
    """Trace a function within a function, as training calls its shards."""
    inner = tf.function(compute, autograph=False)
    outer = tf.function(inner, autograph=False)
    return outer.get_concrete_function(*(tf.TensorSpec(shape, dtype) for shape in shapes)).graph


FITTING = graph_of(tf.matmul, (ROWS, BLOCK), (BLOCK, COLUMNS))
PLAIN = Product(ROWS, BLOCK, COLUMNS, "float32", plain=True)


def test_a_product_within_functions_is_found() -> None:
    assert list(products_of(FITTING)) == [PLAIN]
    assert str(PLAIN) == "(48, 256) @ (256, 16)"
    computed = graph_of(lambda values: tf.matmul(*tf.split(tf.reshape(values, (32, 2)), 2, axis=1)[:1], [[1.0]]), (64,))
    assert list(products_of(computed)) == [Product(32, 1, 1, "float32", plain=True)]


@pytest.mark.parametrize(
    "compute",
    [
        lambda left, right: tf.matmul(left, right, transpose_a=True),
        lambda left, right: tf.matmul(left, right, transpose_b=True),
        lambda left, right: tf.matmul(left[tf.newaxis], right[tf.newaxis]),
        lambda left, right: tf.matmul(left[tf.newaxis], right[tf.newaxis], adjoint_b=True),
        lambda left, right: tf.linalg.matvec(left, right[0], transpose_a=True),
    ],
)
def test_a_transposed_or_batched_product_is_a_fault(compute: Callable[..., Any]) -> None:
    graph = graph_of(compute, (ROWS, ROWS), (ROWS, ROWS))
    (found,) = products_of(graph)
    assert not found.plain
    assert "with an order of additions that is not defined" in str(arithmetic.fault([FITTING, graph]))


def test_a_product_of_unknown_shape_is_a_fault() -> None:
    layer = keras.layers.GRU(ROWS)

    def gradients(images: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = layer(images)
        return tape.gradient(outputs, layer.trainable_variables)

    layer.build((None, 28, 28))
    graph = graph_of(gradients, (COLUMNS, 28, 28))
    assert any(found.inner == -1 for found in products_of(graph)), "in the loop over time, backwards"
    assert "with an order of additions that is not defined" in str(arithmetic.fault([graph]))


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(ROWS - 1, BLOCK, COLUMNS), (ROWS, BLOCK + 1, COLUMNS), (ROWS, BLOCK, COLUMNS - 1)]
)
def test_a_product_that_does_not_fit_is_a_fault(rows: int, inner: int, columns: int) -> None:
    fault = arithmetic.fault([graph_of(tf.matmul, (rows, inner), (inner, columns))])
    assert fault == f"a product ({rows}, {inner}) @ ({inner}, {columns}) with an order of additions that is not defined"


def test_bfloat16_is_a_fault() -> None:
    graph = graph_of(tf.matmul, (ROWS, BLOCK), (BLOCK, COLUMNS), dtype="bfloat16")
    assert [found.dtype for found in products_of(graph)] == ["bfloat16"]
    assert arithmetic.fault([graph]) == "products in bfloat16"
    small = {"model__lstm_units": [4], "train__precision": "bfloat16"}
    assert arithmetic.fault(steps_of(**small).graphs) == "products in bfloat16"


@on_x86_64
def test_the_default_training_has_no_fault(steps: train.Steps) -> None:
    assert arithmetic.fault(steps.graphs) is None
    shapes = {found for graph in steps.graphs for found in products_of(graph)}
    assert len(shapes) > 10
    assert all(found.fits() for found in shapes)


@on_x86_64
def test_products_of_another_order_are_a_fault(steps: train.Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = tf.matmul

    def in_two_parts(left: Any, right: Any) -> Any:
        half = left.shape[1] // 2
        return multiply(left[:, :half], right[:half]) + multiply(left[:, half:], right[half:])

    monkeypatch.setattr(tf, "matmul", in_two_parts)
    assert "does not follow the definition in stages/arithmetic.py here" in str(arithmetic.fault(steps.graphs))
    assert "TensorFlow's product (48, 256) @ (256, 16)" in str(arithmetic.fault([FITTING]))


@on_x86_64
def test_one_wrong_element_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = tf.matmul

    def off(left: Any, right: Any) -> Any:
        found = np.array(multiply(left, right))
        found[-1, -1] = np.nextafter(found[-1, -1], np.float32(np.inf))
        return found

    monkeypatch.setattr(tf, "matmul", off)
    assert not arithmetic.follows(PLAIN)


@on_x86_64
def test_other_functions_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arithmetic.functions_digest() == FUNCTIONS
    monkeypatch.setattr(arithmetic, "FUNCTIONS", "0" * 32)
    assert arithmetic.fault([FITTING]) == f"TensorFlow's element-wise functions give other bits here ({FUNCTIONS})"
