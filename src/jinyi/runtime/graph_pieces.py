"""The pieces that a graph is made of: weights as constants, linear maps in each precision, norms and activations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.config import EncoderConfig
from jinyi.runtime.checks import checked_weight
from jinyi.runtime.int8_weights import LARGEST_ERROR, round_rows
from jinyi.runtime.openvino_api import load_openvino
from jinyi.runtime.rotary import with_rotary_table

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]
Node = Any  # openvino.Node or openvino.Output; OpenVINO's own functions take both


class GraphPieces:
    """Makes nodes; `ops` are OpenVINO's, names of weights are Hugging Face's. See `build_graph` for the arguments."""

    def __init__(
        self,
        config: EncoderConfig,
        weights: Weights,
        ranges: Mapping[str, Array] | None = None,
        weight_levels: int = 255,
        observe: bool = False,
        keep_half: bool = True,
        wide_heads: bool = False,
        int8_weights: bool = False,
    ) -> None:
        self.openvino = load_openvino()
        self.ops: Any = self.openvino.opset13
        self.config = config
        self.weights = with_rotary_table(config, weights)
        self.ranges = ranges
        self.weight_levels = weight_levels
        self.keep_half = keep_half
        self.wide_heads = wide_heads
        self.int8_weights = int8_weights
        self.layer_matrices: dict[str, Node] = {}
        self.observed: dict[str, Node] | None = {} if observe else None

    def linear(self, states: Node, name: str, outputs: int, inputs: int, *, site: str) -> Node:
        """A dense layer of the encoder, in 8 bits if ranges are given; `site` names its input's range."""
        bias = self.weight(f"{name}.bias", outputs)
        if self.observed is not None and site not in self.observed:
            axes, first = self.ints(0, 1), self.ints(0)
            edges = self.ops.reduce_min(states, axes), self.ops.reduce_max(states, axes)
            self.observed[site] = self.ops.concat([self.ops.unsqueeze(edge, first) for edge in edges], 0)
        if self.ranges is None:
            return self.product(states, self.layer_matrix(f"{name}.weight", outputs, inputs), bias)
        return self.product_int8(
            states, self.weight(f"{name}.weight", outputs, inputs), bias, self.ranges[site]
        )

    def product(self, states: Node, matrix: Node, bias: Array | None) -> Node:
        """`states @ matrix.T + bias`."""
        product = self.ops.matmul(states, matrix, False, True)
        if bias is None:
            return product
        rank = len(product.get_output_partial_shape(0))
        return self.ops.add(product, self.constant(bias.reshape((1,) * (rank - 1) + (-1,))))

    def product_int8(self, states: Node, weight: Array, bias: Array, span: Array) -> Node:
        """The same with states and weights rounded to 8 bits.

        Channels with outliers would eat up the 256 steps, so each channel is divided by a factor that its
        weights are multiplied with (SmoothQuant, Xiao et al. 2023, with alpha 0.5).
        """
        ops = self.ops
        reach = np.maximum(np.abs(span).max(axis=0), 1e-5)
        factor = np.sqrt(reach / np.maximum(np.abs(weight).max(axis=0), 1e-5)).astype(np.float32)
        factor = factor / np.exp(np.log(factor).mean())
        shape = (1, 1, -1)
        edges = [self.constant(np.full((1, 1, 1), edge)) for edge in with_zero(span / factor)]
        even = ops.multiply(states, self.constant((1 / factor).reshape(shape)))
        narrow = ops.fake_quantize(even, *edges, *edges, 256)
        weight = weight * factor
        top = np.abs(weight).max(axis=1, keepdims=True) * np.float32(254 / (self.weight_levels - 1))
        reach_of_row = self.constant(-top), self.constant(top)
        rounded = ops.fake_quantize(self.constant(weight), *reach_of_row, *reach_of_row, 255)
        product = ops.matmul(narrow, rounded, False, True)
        return ops.add(product, self.constant(bias.reshape(shape)))

    def activate(self, states: Node, name: str = "") -> Node:
        """The activation function of that name, by default of `config.hidden_act`."""
        name = name or self.config.hidden_act
        if name in ("relu", "tanh"):
            return getattr(self.ops, name)(states)
        return self.ops.gelu(states, "tanh" if name == "gelu_new" else "erf")

    def layer_norm(self, states: Node, name: str, width: int | None = None) -> Node:
        """Layer normalisation (Ba et al. 2016) over the channels, by default those of the layers."""
        ops, width = self.ops, width or self.config.hidden_size
        normed = ops.mvn(states, self.ints(-1), True, self.config.layer_norm_eps, "INSIDE_SQRT")
        gain = self.constant(self.weight(f"{name}.weight", width).reshape(1, 1, -1))
        return ops.add(
            ops.multiply(normed, gain), self.constant(self.weight(f"{name}.bias", width).reshape(1, 1, -1))
        )

    @cached_property
    def word_table(self) -> Node:
        """The word embeddings, one constant however often they are used."""
        shape = self.config.vocab_size, self.config.embedding_width
        return self.matrix("embeddings.word_embeddings.weight", *shape)

    def layer_matrix(self, name: str, *shape: int) -> Node:
        """A matrix of a layer, in 8 bits if asked for; one constant however many layers share it."""
        if name not in self.layer_matrices:
            array = checked_weight(self.weights, name, shape)
            node = self.as_bytes(array) if self.int8_weights else None
            self.layer_matrices[name] = self.as_float(array, self.keep_half) if node is None else node
        return self.layer_matrices[name]

    def as_bytes(self, array: Array) -> Node | None:
        """A matrix as whole steps times the size of a row's step, or None if that would lose too much of it."""
        steps, sizes, error = round_rows(array)
        if error > LARGEST_ERROR:
            return None
        whole = self.ops.convert(self.ops.constant(steps, shared_memory=True), "f32")
        return self.ops.multiply(whole, self.constant(sizes))

    def matrix(self, name: str, *shape: int) -> Node:
        """A matrix of embeddings or a head as a node that counts as float32."""
        return self.as_float(
            checked_weight(self.weights, name, shape), self.keep_half and not self.wide_heads
        )

    def as_float(self, array: Array, keep_half: bool) -> Node:
        """A weight as a node that counts as float32.

        float16 weights stay as they are in memory (or in the mapped file) beside the kernels' own float32 form;
        OpenVINO would keep a second float32 copy for good, hence the mark on the conversion.
        """
        if array.dtype != np.float16 or not keep_half:
            return self.constant(array)
        values = np.ascontiguousarray(array)
        node = self.ops.convert(self.ops.constant(values, shared_memory=values.flags.writeable), "f32")
        node.get_rt_info()["decompression_0"] = ""
        return node

    def weight(self, name: str, *shape: int) -> Array:
        """Return a weight as a float32 array, checked."""
        return checked_weight(self.weights, name, shape).astype(np.float32, copy=False)

    def parameter(self, name: str, rank: int, dtype: Any = np.int32) -> Node:
        """An input of whole numbers, of free shape."""
        node = self.ops.parameter(self.openvino.PartialShape([-1] * rank), dtype, name)
        node.output(0).get_tensor().set_names({name})
        return node

    def constant(self, array: Array) -> Node:
        """A float32 constant that shares the array's memory, which OpenVINO allows for writable arrays only."""
        values = np.ascontiguousarray(array, np.float32)
        return self.ops.constant(values, shared_memory=values.flags.writeable)

    def ints(self, *values: int) -> Node:
        """A list of integers, for shapes and axes."""
        return self.ops.constant(np.array(values, np.int64))

    def int32(self, value: int) -> Node:
        """A scalar of the type of the inputs."""
        return self.ops.constant(np.array(value, np.int32))


def with_zero(span: Array) -> tuple[float, float]:
    """Return the ends of 256 even steps over `span` of which zero is one.

    Most values behind a GELU are next to zero. Were it rounded, all of them would be off by the same amount, and a sum
    over a thousand channels would add that up.
    """
    least, greatest = min(float(span.min()), 0.0), max(float(span.max()), 0.0)
    step = (greatest - least) / 255
    below = round(-least / step)
    return -below * step, (255 - below) * step
