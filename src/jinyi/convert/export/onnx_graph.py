"""An OpenVINO graph as an ONNX graph: the same operations one by one, so that there is one description of a model.

Opset 17 with IR version 8: everything that reads ONNX since 2022 has its operations (onnxruntime from 1.12 on,
text-embeddings-inference, fastembed, TensorRT). Layer normalisation is one node; gelu is written out in the form
that onnxruntime recognises and fuses.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jinyi.convert.export.extras import load_onnx
from jinyi.convert.export.onnx_file import Array, OnnxGraph, Stored
from jinyi.errors import InputError

DIMENSIONS = ("batch_size", "sequence_length")
Node = Any  # openvino.Node

# Operations with the same inputs and no attributes.
_SAME = {
    "Add": "Add",
    "Divide": "Div",
    "Exp": "Exp",
    "Greater": "Greater",
    "Less": "Less",
    "Log": "Log",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Range": "Range",
    "Relu": "Relu",
    "Select": "Where",
    "Sqrt": "Sqrt",
    "Squeeze": "Squeeze",
    "Subtract": "Sub",
    "Tanh": "Tanh",
    "Unsqueeze": "Unsqueeze",
}


def translate(model: Any, *, half: bool = False) -> OnnxGraph:
    """Translate a graph of `jinyi.runtime.graph`.

    Args:
        model: an `openvino.Model`; its inputs and outputs keep their names. Free dimensions are called batch_size
            and sequence_length, in this order.
        half: store float32 matrices as float16, cast back before they are used. Matrices that are float16 already
            stay so either way.

    Returns:
        the graph; its arrays are views of the model's until they are written.

    Raises:
        InputError: a graph with operations of 8-bit arithmetic.
    """
    return _Translator(half).graph_of(model)


class _Translator:
    """Holds what has been translated so far; values go by the names of the nodes that make them."""

    def __init__(self, half: bool) -> None:
        self.onnx = load_onnx()
        types = self.onnx.TensorProto
        self.kinds = {"f32": types.FLOAT, "i32": types.INT32, "i64": types.INT64}
        self.half = half
        self.graph = OnnxGraph()
        self.done: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.stored: dict[tuple[Any, ...], str] = {}

    def graph_of(self, model: Any) -> OnnxGraph:
        # Inputs and outputs in their own order: there are readers that take the first output, whatever its name.
        for node in model.get_parameters():
            self.parameter(node)
        for node in model.get_ordered_ops():
            self.translate(node)
        for node in model.get_results():
            self.result(node)
        return self.graph

    def translate(self, node: Node) -> None:
        kind = node.get_type_name()
        if kind in ("Parameter", "Result") or node.get_friendly_name() in self.done:
            return
        if _constant(node) is not None:
            return  # stored by whoever reads it, in the form that it needs
        own = getattr(self, f"on_{kind}", None)
        if own is not None:
            own(node)
        elif kind in _SAME:
            self.emit(_SAME[kind], self.inputs(node), node)
        else:
            raise InputError(
                where=node.get_friendly_name(),
                found=f"the operation {kind}",
                expected="a graph in float32, without 8-bit arithmetic",
                fix="Build it without ranges and with its weights as they are; quantise the ONNX file afterwards.",
            )

    # ------------------------------------------------------------- values

    def emit(self, kind: str, inputs: Sequence[str], node: Node | str, **attributes: Any) -> str:
        """Add a node that makes the value of `node`, or a value of a name of its own; returns the value's name."""
        name = node if isinstance(node, str) else node.get_friendly_name()
        self.graph.nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        )
        return name

    def inputs(self, node: Node) -> list[str]:
        return [self.value(port) for port in node.input_values()]

    def value(self, port: Any) -> str:
        """Return the name of a value; a constant is stored when it is first asked for."""
        node = port.get_node()
        name: str = node.get_friendly_name()
        constant = _constant(node)
        if constant is not None:
            return self.store(constant.get_friendly_name(), np.asarray(constant.get_data()))
        return self.renamed.get(name, name)

    def store(self, name: str, array: Array, *, turned: bool = False) -> str:
        """Add an array under this name, `turned` for its transpose; returns the name of its float32 value."""
        key = (turned, array.shape, array.dtype.str, hashlib.sha256(array.tobytes()).digest())
        name = self.stored.setdefault(key, name)  # layers of ALBERT share theirs
        if name in self.graph.arrays:
            return self.renamed.get(name, name)
        shape = array.shape[::-1] if turned else array.shape
        narrow = self.half and array.dtype == np.float32 and array.ndim == 2 and min(shape) > 1
        dtype = np.float16 if narrow else array.dtype

        def read() -> Array:
            values = _as_half(array) if narrow else array
            return np.ascontiguousarray(values.T if turned else values)

        self.graph.arrays[name] = Stored(dtype, array.size, shape, read)
        if dtype == np.float16:
            cast = self.emit("Cast", [name], f"{name}.float32", to=self.onnx.TensorProto.FLOAT)
            self.renamed[name] = cast
        return self.renamed.get(name, name)

    def number(self, name: str, value: Any) -> str:
        """Store a float32 constant of our own."""
        return self.store(name, np.asarray(value, np.float32))

    # ---------------------------------------------------------- operations

    def parameter(self, node: Node) -> None:
        name = node.output(0).get_any_name()
        self.renamed[node.get_friendly_name()] = name
        self.graph.inputs.append(self.described(node.output(0), name))

    def result(self, node: Node) -> None:
        port = node.input_value(0)
        name = port.get_any_name()
        self.emit("Identity", [self.value(port)], name)
        self.graph.outputs.append(self.described(port, name))

    def described(self, port: Any, name: str) -> Any:
        """Return the description of an input or output: name, type, shape."""
        free = iter(DIMENSIONS)
        shape = [next(free) if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]
        kind = self.kinds[port.get_element_type().get_type_name()]
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def on_Convert(self, node: Node) -> None:
        self.emit("Cast", self.inputs(node), node, to=self.kinds[node.get_attributes()["destination_type"]])

    def on_ShapeOf(self, node: Node) -> None:
        name = node.get_friendly_name()
        whole = self.emit("Shape", self.inputs(node), f"{name}.int64")
        self.emit("Cast", [whole], node, to=self.onnx.TensorProto.INT32)

    def on_Gather(self, node: Node) -> None:
        data, indices, axis = node.input_values()
        assert not node.get_attributes()["batch_dims"], "a gather by rows has no counterpart"
        self.emit("Gather", [self.value(data), self.value(indices)], node, axis=_ints(axis)[0])

    def on_Slice(self, node: Node) -> None:
        data, start, stop, step, axes = self.inputs(node)
        self.emit("Slice", [data, start, stop, axes, step], node)

    def on_Reshape(self, node: Node) -> None:
        assert node.get_attributes()["special_zero"] or 0 not in _ints(node.input_value(1))
        self.emit("Reshape", self.inputs(node), node)

    def on_Transpose(self, node: Node) -> None:
        data, order = node.input_values()
        self.emit("Transpose", [self.value(data)], node, perm=_ints(order))

    def on_Softmax(self, node: Node) -> None:
        self.emit("Softmax", self.inputs(node), node, axis=node.get_attributes()["axis"])

    def on_ReduceSum(self, node: Node) -> None:
        self.emit("ReduceSum", self.inputs(node), node, keepdims=int(node.get_attributes()["keep_dims"]))

    def on_ReduceMax(self, node: Node) -> None:
        data, axes = node.input_values()
        keep = int(node.get_attributes()["keep_dims"])
        self.emit("ReduceMax", [self.value(data)], node, axes=_ints(axes), keepdims=keep)

    def on_MatMul(self, node: Node) -> None:
        first, second = node.input_values()
        flags = node.get_attributes()
        assert not flags["transpose_a"]
        right = self.transposed(second) if flags["transpose_b"] else self.value(second)
        self.emit("MatMul", [self.value(first), right], node)

    def transposed(self, port: Any) -> str:
        """Return the name of a matrix turned round: stored so, where it is a constant that nothing reads otherwise."""
        source = port.get_node()
        constant = _constant(source)
        if constant is not None and all(map(_turns, source.output(0).get_target_inputs())):
            name = f"{constant.get_friendly_name()}.T"
            return self.store(name, np.asarray(constant.get_data()), turned=True)
        name = f"{source.get_friendly_name()}.transposed"
        if name not in self.done:
            self.done.add(name)
            rank = len(port.get_partial_shape())
            self.emit("Transpose", [self.value(port)], name, perm=[*range(rank - 2), rank - 1, rank - 2])
        return name

    def on_MVN(self, node: Node) -> None:
        """Normalisation, with the gain and the shift behind it: one node."""
        flags, width = node.get_attributes(), node.get_output_partial_shape(0)[-1].get_length()
        assert flags["normalize_variance"] and flags["eps_mode"] == "INSIDE_SQRT"
        assert _ints(node.input_value(1)) == [-1]
        scaled = self.follower(node, "Multiply")
        shifted = scaled and self.follower(scaled[0], "Add")
        name = node.get_friendly_name()
        if not scaled or not shifted:
            gains = self.number(f"{name}.gain", np.ones(width))
            self.emit(
                "LayerNormalization", [self.value(node.input_value(0)), gains], node, epsilon=flags["eps"]
            )
            return
        (multiply, gain), (add, shift) = scaled, shifted
        parts = {f"{name}.gain": gain, f"{name}.shift": shift}
        rows = [self.store(key, np.asarray(part.get_data()).reshape(-1)) for key, part in parts.items()]
        self.emit("LayerNormalization", [self.value(node.input_value(0)), *rows], add, epsilon=flags["eps"])
        self.done |= {multiply.get_friendly_name(), add.get_friendly_name()}

    def follower(self, node: Node, kind: str) -> tuple[Node, Node] | None:
        """Return the node that alone reads this one, if it is of this kind with a row of constants beside."""
        readers = [target.get_node() for target in node.output(0).get_target_inputs()]
        if len(readers) != 1 or readers[0].get_type_name() != kind:
            return None
        others = [port.get_node() for port in readers[0].input_values()]
        width = node.get_output_partial_shape(0)[-1].get_length()
        for other in others:
            if other.get_type_name() == "Constant" and list(other.get_output_shape(0)) == [1, 1, width]:
                return readers[0], other
        return None

    def on_Gelu(self, node: Node) -> None:
        name, source = node.get_friendly_name(), self.value(node.input_value(0))
        half, one = self.number("gelu.half", 0.5), self.number("gelu.one", 1.0)
        if node.get_attributes()["approximation_mode"].upper() == "ERF":
            scaled = self.emit("Div", [source, self.number("gelu.root", math.sqrt(2))], f"{name}.scaled")
            inner = self.emit("Erf", [scaled], f"{name}.erf")
            doubled = self.emit(
                "Mul", [source, self.emit("Add", [inner, one], f"{name}.one")], f"{name}.twice"
            )
            self.emit("Mul", [doubled, half], node)
            return
        cubed = self.emit("Pow", [source, self.number("gelu.three", 3.0)], f"{name}.cubed")
        small = self.emit("Mul", [cubed, self.number("gelu.cubic", 0.044715)], f"{name}.small")
        total = self.emit("Add", [source, small], f"{name}.sum")
        scaled = self.emit("Mul", [total, self.number("gelu.tanh", math.sqrt(2 / math.pi))], f"{name}.scaled")
        inner = self.emit("Tanh", [scaled], f"{name}.tanh")
        halved = self.emit("Mul", [source, half], f"{name}.half")
        self.emit("Mul", [halved, self.emit("Add", [inner, one], f"{name}.one")], node)


def _constant(node: Node) -> Node | None:
    """Return the constant that a node is, or widens from float16."""
    if node.get_type_name() == "Convert" and node.get_element_type().get_type_name() == "f32":
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _turns(reader: Any) -> bool:
    """Whether what reads a value is a product with its transpose."""
    node = reader.get_node()
    turns = node.get_type_name() == "MatMul" and reader.get_index() == 1
    return turns and bool(node.get_attributes()["transpose_b"])


def _ints(port: Any) -> list[int]:
    values: list[int] = np.asarray(port.get_node().get_data()).ravel().tolist()
    return values


def _as_half(array: Array) -> Array:
    top = np.abs(array).max()
    if top > np.finfo(np.float16).max:
        raise InputError(
            found=f"a weight of {top:.4g}",
            expected=f"at most {np.finfo(np.float16).max:.0f}, the greatest float16",
            fix="Export with --dtype float32.",
            where="dtype",
        )
    return array.astype(np.float16)
