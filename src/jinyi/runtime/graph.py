"""The encoder and its head as an OpenVINO graph, built straight from the weights.

Only what the head reads is computed. Past the attention of the last layer every position is on its own, so
[CLS] pooling and classification compute the last layer's queries, output projection and feed-forward for
position 0 alone, and the MLM head for the mask positions alone. Both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jinyi.config import EncoderConfig
from jinyi.runtime.checks import checked_weight
from jinyi.runtime.openvino_api import load_openvino

if TYPE_CHECKING:
    from jinyi.runtime import Head

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]
Node = Any  # openvino.Node or openvino.Output; OpenVINO's own functions take both

INPUTS = ("ids", "lengths", "segments", "positions")
_MASKED = np.float32(-1e30)  # exp() of it is exactly 0 beside any real score, also in bfloat16


def build_graph(
    config: EncoderConfig,
    weights: Weights,
    head: Head,
    *,
    ranges: Mapping[str, Array] | None = None,
    weight_levels: int = 255,
    observe: bool = False,
    keep_half: bool = True,
) -> Any:
    """Build the graph of an encoder with its head.

    Args:
        config: sizes of the encoder.
        weights: arrays by Hugging Face names without the leading "bert."; float32 and float16 arrays are not copied.
        head: what to compute from the hidden states.
        ranges: least and greatest value of every channel that goes into a linear map, float32 [2, channels],
            by the name of `jinyi.runtime.int8`; these maps then run in 8 bits.
        weight_levels: number of steps an 8-bit weight may take.
        keep_half: do not widen float16 matrices before the kernels do (saves memory, costs no time in float32).
        observe: return, instead of the head's output, the ranges of this batch by site name.

    Returns:
        an `openvino.Model` with the inputs ids int32 [B, L], lengths int32 [B], segments int32 [B, L], and
        positions int32 [B, m] for "mlm".

    Raises:
        FolderError: a weight is missing or has another shape than `config` says.
    """
    return _Builder(config, weights, ranges, weight_levels, observe, keep_half).model(head)


class _Builder:
    """Builds one graph; `ops` are OpenVINO's, names of weights are Hugging Face's."""

    def __init__(
        self,
        config: EncoderConfig,
        weights: Weights,
        ranges: Mapping[str, Array] | None,
        weight_levels: int,
        observe: bool,
        keep_half: bool,
    ) -> None:
        self.openvino = load_openvino()
        self.ops: Any = self.openvino.opset13
        self.config = config
        self.weights = weights
        self.ranges = ranges
        self.weight_levels = weight_levels
        self.keep_half = keep_half
        self.observed: dict[str, Node] | None = {} if observe else None

    def model(self, head: Head) -> Any:
        """Put embeddings, layers and head together."""
        ops, config = self.ops, self.config
        ids, lengths = self.parameter("ids", 2), self.parameter("lengths", 1)
        segments = self.parameter("segments", 2)
        inputs = [ids, lengths, segments]
        if head.kind == "mlm":
            inputs.append(self.parameter("positions", 2))
        width = ops.squeeze(ops.gather(ops.shape_of(ids, "i32"), self.ints(1), self.ints(0)), self.ints(0))
        columns = ops.unsqueeze(ops.range(self.int32(0), width, self.int32(1), "i32"), self.ints(0))
        real = ops.less(columns, ops.unsqueeze(lengths, self.ints(1)))
        mask = ops.select(
            ops.unsqueeze(real, self.ints(1, 2)),
            self.constant(np.zeros(1)),
            self.constant(np.full(1, _MASKED)),
        )

        states = self.embed(ids, columns, segments)
        first_states = states
        last = config.num_hidden_layers - 1
        for number in range(config.num_hidden_layers):
            read = self.positions_read(states, head, inputs) if number == last else states
            states = self.layer(states, read, number, mask)
            if number == 0:
                first_states = states
        if config.pre_layer_norm:
            states = self.layer_norm(states, "encoder.ln")
            first_states = states if last == 0 else first_states

        if self.observed is not None:
            outputs = list(self.observed.values())
        else:
            outputs = self.head(head, states, first_states, real, lengths)
        model = self.openvino.Model(outputs, inputs, "jinyi")
        if self.observed is not None:
            for output, name in zip(model.outputs, self.observed, strict=True):
                output.get_tensor().set_names({name})
        return model

    # ---------------------------------------------------------------- encoder

    def embed(self, ids: Node, columns: Node, segments: Node) -> Node:
        """Sum of word, position and segment embeddings; the latter two come from one table of their sums."""
        ops, config = self.ops, self.config
        places, width = config.max_position_embeddings, config.hidden_size
        position = self.weight("embeddings.position_embeddings.weight", places, width)
        segment = self.weight("embeddings.token_type_embeddings.weight", config.type_vocab_size, width)
        table = (segment[:, None] + position).reshape(-1, width)
        # Padding may reach beyond the last position.
        columns = ops.minimum(columns, self.int32(places - 1))
        place = ops.add(ops.multiply(segments, self.int32(places)), columns)
        states = ops.add(
            ops.gather(self.word_table, ids, self.ints(0)),
            ops.gather(self.constant(table), place, self.ints(0)),
        )
        return states if config.pre_layer_norm else self.layer_norm(states, "embeddings.LayerNorm")

    def positions_read(self, states: Node, head: Head, inputs: Sequence[Node]) -> Node:
        """Return the positions of the last layer's input whose output the head reads."""
        ops = self.ops
        if self.observed is not None:
            return states
        if head.kind == "classes" or (head.kind == "vector" and head.pooling == "cls"):
            return ops.slice(states, self.ints(0), self.ints(1), self.ints(1), self.ints(1))
        if head.kind == "mlm":
            return ops.gather(states, inputs[-1], self.ints(1), 1)
        return states

    def layer(self, states: Node, read: Node, number: int, mask: Node) -> Node:
        """One transformer layer: attends over all of `states`, is computed for the positions `read`."""
        ops = self.ops
        name = f"encoder.layer.{number}"
        if self.config.pre_layer_norm:
            normed = self.layer_norm(states, f"{name}.attention.ln")
            queries = normed if read is states else self.layer_norm(read, f"{name}.attention.ln")
            middle = ops.add(read, self.attention(normed, queries, name, mask))
            return ops.add(middle, self.feed_forward(self.layer_norm(middle, f"{name}.ln"), name))
        middle = ops.add(read, self.attention(states, read, name, mask))
        middle = self.layer_norm(middle, f"{name}.attention.output.LayerNorm")
        return self.layer_norm(ops.add(middle, self.feed_forward(middle, name)), f"{name}.output.LayerNorm")

    def attention(self, states: Node, queries: Node, name: str, mask: Node) -> Node:
        """Multi-head attention of `queries` over `states` (Vaswani et al. 2017), output projection included.

        MatMul-Softmax-MatMul is the form that OpenVINO fuses into one kernel.
        """
        ops, config = self.ops, self.config
        width, heads = config.hidden_size, config.num_attention_heads
        site = f"{name}.attention.self"
        shape = self.ints(0, 0, heads, config.head_size)

        def heads_of(source: Node, part: str, order: tuple[int, ...]) -> Node:
            product = self.linear(source, f"{site}.{part}", width, width, site=site)
            return ops.transpose(ops.reshape(product, shape, True), self.ints(*order))

        query = heads_of(queries, "query", (0, 2, 1, 3))
        query = ops.multiply(query, self.constant(np.full((1, 1, 1, 1), 1 / math.sqrt(config.head_size))))
        key = heads_of(states, "key", (0, 2, 3, 1))
        value = heads_of(states, "value", (0, 2, 1, 3))
        shares = ops.softmax(ops.add(ops.matmul(query, key, False, False), mask), -1)
        mixed = ops.transpose(ops.matmul(shares, value, False, False), self.ints(0, 2, 1, 3))
        mixed = ops.reshape(mixed, self.ints(0, 0, width), True)
        return self.linear(mixed, f"{name}.attention.output.dense", width, width)

    def feed_forward(self, states: Node, name: str) -> Node:
        """The two dense layers with the activation between them."""
        width, inner = self.config.hidden_size, self.config.intermediate_size
        states = self.activate(self.linear(states, f"{name}.intermediate.dense", inner, width))
        return self.linear(states, f"{name}.output.dense", width, inner)

    # ------------------------------------------------------------------ heads

    def head(self, head: Head, states: Node, first_states: Node, real: Node, lengths: Node) -> list[Node]:
        """Return the outputs of the head."""
        if head.kind == "tokens":
            return [states]
        if head.kind == "mlm":
            return self.mlm(head, states)
        if head.kind == "classes":
            return [self.classes(self.ops.squeeze(states, self.ints(1)))]
        return [self.vector(head, states, first_states, real, lengths)]

    def vector(self, head: Head, states: Node, first_states: Node, real: Node, lengths: Node) -> Node:
        """Pooling, dense maps and normalisation."""
        ops = self.ops
        present = ops.unsqueeze(real, self.ints(2))
        if head.pooling == "cls":
            vector = ops.squeeze(states, self.ints(1))
        elif head.pooling == "max":
            lowest = self.constant(np.full(1, np.finfo(np.float32).min))
            vector = ops.reduce_max(ops.select(present, states, lowest), self.ints(1))
        else:
            if head.pooling == "first_last":
                states = ops.multiply(ops.add(first_states, states), self.constant(np.full((1, 1, 1), 0.5)))
            total = ops.reduce_sum(ops.multiply(states, ops.convert(present, "f32")), self.ints(1))
            vector = ops.divide(total, ops.convert(ops.unsqueeze(lengths, self.ints(1)), "f32"))
        for weight, bias in head.dense:
            vector = self.product(vector, self.constant(weight), None if bias is None else np.asarray(bias))
        if head.normalize:
            norm = ops.sqrt(ops.reduce_sum(ops.multiply(vector, vector), self.ints(-1), True))
            vector = ops.divide(vector, ops.maximum(norm, self.constant(np.full(1, 1e-12))))
        return vector

    def classes(self, states: Node) -> Node:
        """BERT's pooler (dense and tanh on [CLS]) if there is one, then the classifier."""
        width = self.config.hidden_size
        if "pooler.dense.weight" in self.weights:
            matrix = self.matrix("pooler.dense.weight", width, width)
            states = self.ops.tanh(self.product(states, matrix, self.weight("pooler.dense.bias", width)))
        labels = len(self.weights["classifier.weight"]) if "classifier.weight" in self.weights else 1
        matrix = self.matrix("classifier.weight", labels, width)
        return self.product(states, matrix, self.weight("classifier.bias", labels))

    def mlm(self, head: Head, states: Node) -> list[Node]:
        """Dense, activation and layer norm at the masks, then products with the words' embeddings."""
        ops, config = self.ops, self.config
        width, name = config.hidden_size, "cls.predictions.transform"
        matrix = self.matrix(f"{name}.dense.weight", width, width)
        states = self.activate(self.product(states, matrix, self.weight(f"{name}.dense.bias", width)))
        states = self.layer_norm(states, f"{name}.LayerNorm")
        bias = self.weight("cls.predictions.bias", config.vocab_size)
        outputs = []
        if head.label_ids is not None:
            ids = np.asarray(head.label_ids)
            table = checked_weight(
                self.weights, "embeddings.word_embeddings.weight", (config.vocab_size, width)
            )
            outputs.append(self.product(states, self.constant(table[ids]), bias[ids]))
        if head.label_ids is None or head.log_normalizer:
            product = ops.matmul(states, self.word_table, False, True)
            scores = ops.add(product, self.constant(bias.reshape(1, 1, -1)))
            if head.label_ids is None:
                outputs.append(scores)
            if head.log_normalizer:
                top = ops.reduce_max(scores, self.ints(-1), True)
                mass = ops.reduce_sum(ops.exp(ops.subtract(scores, top)), self.ints(-1))
                outputs.append(ops.add(ops.log(mass), ops.squeeze(top, self.ints(-1))))
        return outputs

    # ----------------------------------------------------------------- pieces

    def linear(self, states: Node, name: str, outputs: int, inputs: int, *, site: str = "") -> Node:
        """A dense layer of the encoder, in 8 bits if ranges are given; `site` names its input's range."""
        site = site or name
        bias = self.weight(f"{name}.bias", outputs)
        if self.observed is not None and site not in self.observed:
            axes, first = self.ints(0, 1), self.ints(0)
            edges = self.ops.reduce_min(states, axes), self.ops.reduce_max(states, axes)
            self.observed[site] = self.ops.concat([self.ops.unsqueeze(edge, first) for edge in edges], 0)
        if self.ranges is None:
            return self.product(states, self.matrix(f"{name}.weight", outputs, inputs), bias)
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

    def activate(self, states: Node) -> Node:
        """The activation function of `config.hidden_act`."""
        if self.config.hidden_act == "relu":
            return self.ops.relu(states)
        return self.ops.gelu(states, "tanh" if self.config.hidden_act == "gelu_new" else "erf")

    def layer_norm(self, states: Node, name: str) -> Node:
        """Layer normalisation (Ba et al. 2016) over the channels."""
        ops, width = self.ops, self.config.hidden_size
        normed = ops.mvn(states, self.ints(-1), True, self.config.layer_norm_eps, "INSIDE_SQRT")
        gain = self.constant(self.weight(f"{name}.weight", width).reshape(1, 1, -1))
        return ops.add(
            ops.multiply(normed, gain), self.constant(self.weight(f"{name}.bias", width).reshape(1, 1, -1))
        )

    @cached_property
    def word_table(self) -> Node:
        """The word embeddings, one constant however often they are used."""
        shape = self.config.vocab_size, self.config.hidden_size
        return self.matrix("embeddings.word_embeddings.weight", *shape)

    def matrix(self, name: str, *shape: int) -> Node:
        """A weight as a node that counts as float32.

        float16 weights stay as they are in memory (or in the mapped file) beside the kernels' own float32 form;
        OpenVINO would keep a second float32 copy for good, hence the mark on the conversion.
        """
        array = checked_weight(self.weights, name, shape)
        if array.dtype != np.float16 or not self.keep_half:
            return self.constant(array)
        values = np.ascontiguousarray(array)
        node = self.ops.convert(self.ops.constant(values, shared_memory=values.flags.writeable), "f32")
        node.get_rt_info()["decompression_0"] = ""
        return node

    def weight(self, name: str, *shape: int) -> Array:
        """Return a weight as a float32 array, checked."""
        return checked_weight(self.weights, name, shape).astype(np.float32, copy=False)

    def parameter(self, name: str, rank: int) -> Node:
        """An int32 input of free shape."""
        node = self.ops.parameter(self.openvino.PartialShape([-1] * rank), np.int32, name)
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
