"""The arithmetic of training and evaluation: the same inputs give the same bits on every x86-64 processor.

Products. Each element of a float32 product is one chain of fused multiply-adds in the order of the inner index,
`sum = fma(left[k], right[k], sum)` from 0, in blocks of `BLOCK` inner indices. The sums of the blocks are added in
order. oneDNN, which computes TensorFlow's products, has kernels for AVX2 and for AVX-512. Its kernels follow this
definition under these conditions; without them, some kernels do not:

- No operand is transposed within the product, so callers transpose by a copy.
- The inner length is at most `BLOCK`.
- The left matrix has a multiple of `ROWS` rows, and the right one a multiple of `COLUMNS` columns. The kernels for AVX2
  compute what is left of a block in another order, and the sizes of caches decide about the blocks. `product` fills
  up with zeros.

The rest:

- Sums are products with ones (`total`), or additions of whole tensors one after the other. So their order is defined.
- Numbers of images are multiples of `COLUMNS`. So element-wise functions always fill the vectors of TensorFlow's
  kernels, which have one length in a build of TensorFlow. The C library computes only the powers in Adam and Nadam:
  two numbers a step.
- Softmax and loss use exp, log, additions and subtractions, never the processor's approximate reciprocal.
- The initial weights of the LSTM layers (stages/model.py) are rounded to a multiple of 2**-12, far coarser than what
  differs between the kernels of linear algebra libraries.
- Order, dropout and augmentation come from TensorFlow's counter-based random numbers, which are integers.
- `runtime.py` overrules the shell's settings for TensorFlow and its libraries, and gives each operation one thread.

`fault` checks a machine against this definition. docs/reliability.md lists the processors that reproduced the bits.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.runtime import tf

Matrix = NDArray[np.float32]

BLOCK = 256  # inner indices
ROWS = 48
COLUMNS = 16  # and images

# Of `functions_digest`, as TensorFlow's package for Linux on x86-64 computes it on an AMD EPYC (Zen 4) and under QEMU.
FUNCTIONS = "90ce33a335619bbd5e4f09703e60c0dd"

# Powers in Adam and Nadam that glibc's powf does not round to the nearest number.
POWERS = ((0.9, 685.0), (0.9, 731.0), (0.999, 873.0), (0.999, 2359.0), (0.999, 2958.0))


class Factor(NamedTuple):
    """The left operand of products, prepared once for many right operands."""

    rows: int
    blocks: list[tf.Tensor]


def factor(left: tf.Tensor) -> Factor:
    """Prepare a matrix (m, k) as the left operand of products."""
    rows, inner = left.shape
    lengths = [min(BLOCK, inner - start) for start in range(0, inner, BLOCK)]
    return Factor(rows, tf.split(_padded(left, filled_up(rows, ROWS), inner), lengths, axis=1))


def product(left: Factor, right: tf.Tensor) -> tf.Tensor:
    """Multiply matrices (m, k) and (k, n). Factors have one dtype, and the product (m, n) is float32."""
    inner, columns = right.shape
    parts = tf.split(_padded(right, inner, filled_up(columns, COLUMNS)), [block.shape[1] for block in left.blocks])
    first, *others = (
        tf.cast(tf.matmul(block, part), tf.float32) for block, part in zip(left.blocks, parts, strict=True)
    )
    for other in others:
        first += other
    return first if first.shape == (left.rows, columns) else first[: left.rows, :columns]


def total(values: tf.Tensor) -> tf.Tensor:
    """Add the columns of a matrix (m, n) in order: float32 (m,)."""
    return product(factor(values), tf.ones((values.shape[1], COLUMNS)))[:, 0]


def filled_up(count: int, multiple: int) -> int:
    """Round a number of rows, columns or images up to a multiple."""
    return -(-count // multiple) * multiple


def _padded(matrix: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    if matrix.shape == (rows, columns):
        return matrix
    return tf.pad(matrix, [[0, rows - matrix.shape[0]], [0, columns - matrix.shape[1]]])


# The check


class Product(NamedTuple):
    """A product of matrices in a graph."""

    rows: int
    inner: int
    columns: int
    dtype: str
    plain: bool  # one product of two matrices, neither transposed

    def fits(self) -> bool:
        """Say whether the product meets the conditions under which every kernel follows the definition."""
        return self.plain and self.inner <= BLOCK and self.rows % ROWS == 0 and self.columns % COLUMNS == 0

    def __str__(self) -> str:
        return f"({self.rows}, {self.inner}) @ ({self.inner}, {self.columns})"


def fault(graphs: Iterable[tf.Graph]) -> str | None:
    """Say why results of these graphs depend on this machine's kind of processor; None if they do not.

    This takes a few milliseconds for each shape of a product.
    """
    products = {product for graph in graphs for product in products_of(graph)}
    for each in sorted(products):
        if each.dtype != "float32":
            return f"products in {each.dtype}"
        if not each.fits():
            return f"a product {each} with an order of additions that is not defined"
    for each in sorted(products):
        if not follows(each):
            return f"TensorFlow's product {each} does not follow the definition in stages/arithmetic.py here"
    found = functions_digest()
    if found != FUNCTIONS:
        return f"TensorFlow's element-wise functions give other bits here ({found})"
    return None


def products_of(graph: tf.Graph) -> Iterator[Product]:
    """Find all products of matrices in a graph and in the functions that it calls."""
    definition = graph.as_graph_def(add_shapes=True)
    for nodes, arguments in (
        (definition.node, {}),
        *((function.node_def, _arguments(function)) for function in definition.library.function),
    ):
        shapes = arguments | {node.name: node.attr["_output_shapes"].list.shape for node in nodes}
        for node in nodes:
            if "MatMul" in node.op:
                left, right = (_shape(name, shapes) for name in node.input[:2])
                transposed = any(node.attr[name].b for name in ("transpose_a", "transpose_b", "adj_x", "adj_y"))
                yield Product(
                    rows=left[-2],
                    inner=left[-1],
                    columns=right[-1],
                    dtype=tf.as_dtype(node.attr["T"].type).name,
                    plain=node.op == "MatMul" and not transposed,
                )


def _arguments(function: Any) -> dict[str, Any]:
    """Return the shapes of a function's arguments by name."""
    return {
        argument.name: function.arg_attr[number].attr["_output_shapes"].list.shape
        for number, argument in enumerate(function.signature.input_arg)
    }


def _shape(name: str, shapes: Mapping[str, Any]) -> list[int]:
    """Find the shape of an operand, which is named `node`, `node:number` or, in a function, `node:output:number`.

    An unknown number is -1. Loops of other layers have operands of which not even the number of dimensions is known.
    """
    node, *output = name.split(":")
    return [dimension.size for dimension in shapes[node][int(output[-1]) if output else 0].dim] or [-1, -1]


def follows(shape: Product) -> bool:
    """Say whether TensorFlow's product of this shape follows the definition in every element on this machine.

    Rows of the left and columns of the right matrix repeat a few vectors. So a few chains give all expected elements.
    """
    left, right, sums = _chains()
    rows, columns = np.arange(shape.rows) % len(left), np.arange(shape.columns) % right.shape[1]
    found = tf.matmul(left[rows, : shape.inner], right[: shape.inner, columns])
    return bool((np.asarray(found) == sums[shape.inner - 1][np.ix_(rows, columns)]).all())


@functools.cache
def _chains() -> tuple[Matrix, Matrix, Sequence[Matrix]]:
    """Compute a small product by the definition: left, right, and the sums after each inner index."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((7, BLOCK), np.float32), rng.standard_normal((BLOCK, 9), np.float32)
    sums = [np.zeros((len(left), right.shape[1]), np.float32)]
    for k in range(BLOCK):
        sums.append(fused(left[:, k, np.newaxis], right[k], sums[-1]))
    return left, right, sums[1:]


def fused(left: Matrix, right: Matrix, added: Matrix) -> Matrix:
    """Compute left * right + added in float32 with one rounding, as a fused multiply-add does.

    The product is exact in float64. The sum is rounded to odd there, so that rounding it again to float32 is right
    (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd").
    """
    exact, added = left.astype(np.float64) * right, added.astype(np.float64)
    total = exact + added
    part = total - exact
    error = (exact - (total - part)) + (added - part)
    bits = total.view(np.int64)
    towards = np.where((error > 0) == (total > 0), 1, -1)
    return np.where((error != 0) & (bits % 2 == 0), bits + towards, bits).view(np.float64).astype(np.float32)


def functions_digest() -> str:
    """Hash values of the element-wise functions that training and evaluation use, and of their gradients."""
    values = tf.constant(np.linspace(-20, 20, 4096, dtype=np.float32))
    results = []
    for name in ("sigmoid", "tanh", "elu", "softplus", "softsign"):
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = getattr(tf.nn, name)(values)
        results += [result, tape.gradient(result, values)]
    positive = tf.abs(values)
    results += [
        tf.exp(-positive),
        tf.math.log(positive),
        tf.sqrt(positive),
        1 / positive,
        tf.sin(values),
        tf.cos(values),
    ]
    results += [tf.pow(base, step) for base, step in POWERS]
    return hashlib.md5(b"".join(np.asarray(result).tobytes() for result in results), usedforsecurity=False).hexdigest()
