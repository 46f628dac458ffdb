"""A .keras archive as an ONNX model, made of the archive's configuration and weights without TensorFlow.

The archive is untrusted data. Only the layers of `stages.model.build` and their options are known; an archive with any
other layer, option or dtype is refused. Other files in it are not read. The same archive always gives the same bytes.
"""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import h5py
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.dataset import CLASSES, SIDE
from stages.errors import RESTORE, InputError
from stages.terminal import printable

LIMIT = 512 * 1024**2  # bytes of a file in the archive; eight layers of 1,024 units have 270 MB
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
INPUT, OUTPUT = "images", "probabilities"
OPSET, IR = 17, 8  # of ONNX: the oldest with all that is used here, so that older runtimes read the model too

Weights = NDArray[np.float32]
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "elu": "Elu", "softsign": "Softsign"}  # of ONNX

# What the archive may say


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PolicyName(Section):
    name: Literal["float32"]


class Policy(Section):
    module: Literal["keras"]
    class_name: Literal["DTypePolicy"]
    config: PolicyName
    registered_name: None


Float32 = Literal["float32"] | Policy
Units = Annotated[int, Field(ge=1, le=1_024)]
OfTraining = Any  # it changes nothing in a prediction


class Options(Section):
    name: str
    dtype: Float32
    trainable: OfTraining = None


class InputOptions(Options):
    batch_shape: list[int | None]
    sparse: Literal[False] = False
    ragged: Literal[False] = False
    optional: Literal[False] = False


class WeightOptions(Options):
    units: Units
    use_bias: Literal[True]
    kernel_initializer: OfTraining = None
    bias_initializer: OfTraining = None
    kernel_regularizer: OfTraining = None
    bias_regularizer: OfTraining = None
    activity_regularizer: OfTraining = None
    kernel_constraint: OfTraining = None
    bias_constraint: OfTraining = None


class LstmOptions(WeightOptions):
    activation: Literal["relu", "tanh", "sigmoid", "elu", "softplus", "softsign"]
    recurrent_activation: Literal["sigmoid"]
    return_sequences: bool
    return_state: Literal[False]
    go_backwards: Literal[False]
    stateful: Literal[False]
    zero_output_for_mask: Literal[False] = False
    unroll: OfTraining = None
    unit_forget_bias: OfTraining = None
    recurrent_initializer: OfTraining = None
    recurrent_regularizer: OfTraining = None
    recurrent_constraint: OfTraining = None
    dropout: OfTraining = None
    recurrent_dropout: OfTraining = None
    seed: OfTraining = None


class DropoutOptions(Options):
    rate: OfTraining = None
    seed: OfTraining = None
    noise_shape: OfTraining = None


class DenseOptions(WeightOptions):
    activation: Literal["relu", "softmax"]
    lora_rank: None = None
    lora_alpha: None = None
    quantization_config: None = None


class Stock(Section):
    module: Literal["keras.layers"]
    registered_name: None
    build_config: OfTraining = None


class InputLayer(Stock):
    class_name: Literal["InputLayer"]
    config: InputOptions


class Lstm(Stock):
    class_name: Literal["LSTM"]
    config: LstmOptions


class Dropout(Stock):
    class_name: Literal["Dropout"]
    config: DropoutOptions


class Dense(Stock):
    class_name: Literal["Dense"]
    config: DenseOptions


Layer = Annotated[InputLayer | Lstm | Dropout | Dense, Field(discriminator="class_name")]


class NetworkOptions(Section):
    name: str
    dtype: Float32 = "float32"
    trainable: OfTraining = None
    layers: Annotated[list[Layer], Field(min_length=2, max_length=100)]
    build_input_shape: OfTraining = None


class Network(Section):
    module: Literal["keras"]
    class_name: Literal["Sequential"]
    config: NetworkOptions
    registered_name: None
    build_config: OfTraining = None
    compile_config: OfTraining = None


# The conversion


def convert(content: bytes, name: str) -> bytes:
    """Make an ONNX model that maps images (n, 28, 28) to probabilities (n, 10) from the bytes of a .keras archive.

    Raises `InputError` with `name` if the archive is damaged or holds anything that is not known here.
    """
    try:
        config, weights = read_members(content)
        network = Network.model_validate_json(config)
        with h5py.File(io.BytesIO(weights), "r") as file:
            model = Builder(file).build(network.config.layers)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
    except MemoryError:
        raise
    except ValidationError as invalid:
        reason = described(invalid)
    except Exception as error:  # noqa: BLE001 - whatever a damaged or malicious file makes zipfile, HDF5 or NumPy raise
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(
        f"{name}: expected a .keras archive of LSTM, Dropout and Dense layers as this project trains them, found "
        f"{printable(reason)[:300]}; if the file is damaged, {RESTORE}"
    )


def described(invalid: ValidationError) -> str:
    """Name the first value of a configuration that is not known."""
    first = invalid.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or CONFIG
    value = "" if isinstance(first["input"], dict | list) else f" {json.dumps(first['input'], default=str)[:60]}"
    return f"at {where}{value}: {first['msg']}"


def read_members(content: bytes) -> tuple[bytes, bytes]:
    """Read the configuration and the weights of an archive, whose sizes are checked before memory is taken."""
    found = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in (CONFIG, WEIGHTS):
            member = archive.getinfo(name)
            if member.file_size > LIMIT:
                raise ValueError(f"{name} of {member.file_size:,} bytes")
            with archive.open(member) as file:
                found.append(file.read(LIMIT + 1))
    return found[0], found[1]


class Builder:
    """Builds the graph, layer by layer, and takes each layer's weights from the file."""

    def __init__(self, weights: h5py.File) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.seen: Counter[str] = Counter()  # layers of each class: Keras names the groups of the file by them
        self.value = INPUT  # the name of what the last node computes
        self.shape: tuple[int, ...] = (SIDE, SIDE)  # of an image in it

    def build(self, layers: list[InputLayer | Lstm | Dropout | Dense]) -> onnx.ModelProto:
        first, *others = layers
        if not isinstance(first, InputLayer) or first.config.batch_shape != [None, SIDE, SIDE]:
            raise ValueError(f"no input of (n, {SIDE}, {SIDE})")
        self.add("Transpose", [self.value], perm=[1, 0, 2])  # ONNX's LSTM takes the rows first, then the images
        for layer in others:
            match layer:
                case Lstm():
                    self.lstm(layer.config)
                case Dense():
                    self.dense(layer.config)
                case Dropout():
                    self.group("dropout", layer.config.name)
                case _:
                    raise ValueError("a second input")
        if self.shape != (CLASSES,) or self.nodes[-1].op_type != "Softmax":
            raise ValueError(f"no softmax over {CLASSES} classes at the end")
        if unread := set(self.weights["layers"]) - set(self.groups()):
            raise ValueError(f"weights of other layers: {', '.join(sorted(unread))}")
        self.nodes[-1].output[0] = OUTPUT
        images, probabilities = (
            helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", *shape])
            for value, shape in ((INPUT, (SIDE, SIDE)), (OUTPUT, (CLASSES,)))
        )
        graph = helper.make_graph(self.nodes, "lstm", [images], [probabilities], self.constants)
        return helper.make_model(graph, producer_name="mnist-lstm", ir_version=IR,
                                 opset_imports=[helper.make_opsetid("", OPSET)])  # fmt: skip

    def lstm(self, options: LstmOptions) -> None:
        if len(self.shape) != 2:
            raise ValueError(f"the layer {options.name} after one that returns no sequence")
        steps, inputs = self.shape
        units = options.units
        group = self.group("lstm", options.name)
        kernel = self.read(f"{group}/cell/vars/0", (inputs, 4 * units))
        recurrent = self.read(f"{group}/cell/vars/1", (units, 4 * units))
        bias = self.read(f"{group}/cell/vars/2", (4 * units,))
        if options.activation == "softplus":
            self.unrolled(options, kernel, recurrent, bias, steps)
        else:
            self.operator(options, kernel, recurrent, bias)
        self.shape = (steps, units) if options.return_sequences else (units,)

    def operator(self, options: LstmOptions, kernel: Weights, recurrent: Weights, bias: Weights) -> None:
        """Add the layer as ONNX's LSTM."""
        units = options.units
        # The recurrent part has a bias of its own in ONNX, and none in Keras.
        biases = np.concatenate([in_order_of_onnx(bias, units), np.zeros(4 * units, np.float32)])
        known = [
            self.constant(f"{options.name}.{part}", value[np.newaxis])
            for part, value in (
                ("W", in_order_of_onnx(kernel.T, units)),
                ("R", in_order_of_onnx(recurrent.T, units)),
                ("B", biases),
            )
        ]
        activation = ACTIVATIONS[options.activation]
        # The state's activation comes twice: for its candidates and for the output. Keras's elu has alpha 1.
        alpha = {"activation_alpha": [1.0, 1.0]} if activation == "Elu" else {}
        outputs = [f"{options.name}.Y"] if options.return_sequences else ["", f"{options.name}.Y_h"]
        self.add("LSTM", [self.value, *known], outputs, hidden_size=units,
                 activations=["Sigmoid", activation, activation], **alpha)  # fmt: skip
        # Take out the axis of directions, of which there is one.
        axis = np.array([1 if options.return_sequences else 0], np.int64)
        self.add("Squeeze", [outputs[-1], self.constant(f"{options.name}.axis", axis)])

    def unrolled(self, options: LstmOptions, kernel: Weights, recurrent: Weights, bias: Weights, steps: int) -> None:
        """Add the layer step by step.

        The softplus in ONNX Runtime's LSTM is infinite above 88; the operator of that name is right for all numbers.
        """
        name = options.name
        weights = self.constant(f"{name}.R", recurrent)
        self.add("MatMul", [self.value, self.constant(f"{name}.W", kernel)])
        self.add("Add", [self.value, self.constant(f"{name}.B", bias)])
        inputs = [f"{name}.{step}.x" for step in range(steps)]
        self.add("Split", [self.value], inputs, axis=0)
        state = ""
        outputs: list[str] = []
        for step, gates in enumerate(inputs):
            if step:
                self.add("MatMul", [outputs[-1], weights])
                self.add("Add", [self.value, gates])
                gates = self.value  # noqa: PLW2901
            parts = [f"{name}.{step}.{part}" for part in "ifco"]
            self.add("Split", [gates], parts, axis=-1)
            input_, forget, output = (self.add("Sigmoid", [parts[number]]) for number in (0, 1, 3))
            new = self.add("Mul", [input_, self.add("Softplus", [parts[2]])])
            state = self.add("Add", [new, self.add("Mul", [forget, state])]) if step else new
            outputs.append(self.add("Mul", [output, self.add("Softplus", [state])]))
        if options.return_sequences:
            self.add("Concat", outputs, axis=0)
        else:
            self.add("Squeeze", [self.value, self.constant(f"{name}.axis", np.array([0], np.int64))])

    def dense(self, options: DenseOptions) -> None:
        if len(self.shape) != 1:
            raise ValueError(f"the layer {options.name} after one that returns a sequence")
        group = self.group("dense", options.name)
        kernel = self.read(f"{group}/vars/0", (*self.shape, options.units))
        bias = self.read(f"{group}/vars/1", (options.units,))
        self.add("Gemm", [self.value, self.constant(f"{options.name}.W", kernel),
                          self.constant(f"{options.name}.B", bias)])  # fmt: skip
        if options.activation == "softmax":
            self.add("Softmax", [self.value], axis=-1)
        else:
            self.add(ACTIVATIONS[options.activation], [self.value])
        self.shape = (options.units,)

    def add(self, operator: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of what it computes."""
        outputs = outputs or [f"value_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        self.value = outputs[0]
        return self.value

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def groups(self) -> Iterator[str]:
        """Give the names that Keras has given to the layers so far: lstm, lstm_1 and so on."""
        for kind, count in self.seen.items():
            yield from (f"{kind}_{number}" if number else kind for number in range(count))

    def group(self, kind: str, name: str) -> str:
        """Return the path of the next layer of a class in the file of weights, which must be the layer of this name."""
        path = f"layers/{kind}_{self.seen[kind]}" if self.seen[kind] else f"layers/{kind}"
        self.seen[kind] += 1
        found = self.weights[f"{path}/vars"].attrs["name"]
        if found != name:
            raise ValueError(f"weights of {found} where those of {name} are expected")
        return path

    def read(self, path: str, shape: tuple[int, ...]) -> Weights:
        """Read an array that lies in this file, and has this shape."""
        names = path.split("/")
        parts = ["/".join(names[: depth + 1]) for depth in range(len(names))]
        if not all(type(self.weights.get(part, getlink=True)) is h5py.HardLink for part in parts):
            raise ValueError(f"a link in {path}")  # which may lead to another file of this machine
        dataset = self.weights[path]
        if type(dataset) is not h5py.Dataset or dataset.external or dataset.is_virtual or dataset.chunks:
            raise ValueError(f"no plain array at {path}")
        if dataset.shape != shape or dataset.dtype != np.float32:
            raise ValueError(f"{path} of {dataset.dtype} and shape {dataset.shape}, expected float32 and {shape}")
        return np.asarray(dataset[()], np.float32)


def in_order_of_onnx(gates: Weights, units: int) -> Weights:
    """Order the rows of four gates as ONNX does: input, output, forget, cell. Keras has input, forget, cell, output."""
    input_, forget, cell, output = (gates[number * units : (number + 1) * units] for number in range(4))
    return np.concatenate([input_, output, forget, cell])
