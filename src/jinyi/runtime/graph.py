"""The encoder and its head as an OpenVINO graph, built straight from the weights.

Only what the head reads is computed. Past the attention of the last layer every position is on its own, so
[CLS] pooling and classification compute the last layer's queries, output projection and feed-forward for
position 0 alone, and the MLM head for the mask positions alone. Both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.runtime.checks import checked_weight
from jinyi.runtime.graph_pieces import Array, GraphPieces, Node, Weights
from jinyi.runtime.rotary import TABLE

if TYPE_CHECKING:
    from jinyi.runtime import Head

Angles = tuple[Node, Node] | None  # RoFormer: cosines and sines of positions, [1 or B, n, 1, head_size]

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
    wide_heads: bool = False,
    int8_weights: bool = False,
) -> Any:
    """Build the graph of an encoder with its head.

    Args:
        config: sizes of the encoder.
        weights: arrays by Hugging Face names without the leading "bert."; float32 and float16 arrays are not copied.
        head: what to compute from the hidden states.
        ranges: least and greatest value of every channel that goes into a linear map, float32 [2, channels],
            by the name of `jinyi.runtime.int8`; these maps then run in 8 bits.
        weight_levels: number of steps an 8-bit weight may take.
        keep_half: do not widen float16 matrices before the kernels do (saves memory, costs no time).
        wide_heads: widen those of embeddings and heads nevertheless: in bfloat16 a head's output would be rounded too.
        int8_weights: round the matrices of the layers to 8 bits, one scale a row, but for those that would lose more
            than `jinyi.runtime.int8_weights.LARGEST_ERROR`.
        observe: return, instead of the head's output, the ranges of this batch by site name.

    Returns:
        an `openvino.Model` with the inputs ids int32 [B, L], lengths int32 [B], segments int32 [B, L], and
        positions int32 [B, m] for "mlm".

    Raises:
        FolderError: a weight is missing or has another shape than `config` says.
    """
    builder = GraphBuilder(
        config, weights, ranges, weight_levels, observe, keep_half, wide_heads, int8_weights
    )
    return builder.model(head)


@dataclass(frozen=True)
class Places:
    """The inputs of a graph, and what follows from them: which positions there are and which are filled."""

    inputs: list[Node]
    ids: Node
    columns: Node
    """int32 [1, L]: 0, 1, ..."""
    segments: Node
    real: Node
    """bool [B, L]: no padding."""
    lengths: Node
    """int32 [B]: how many are real."""


class GraphBuilder(GraphPieces):
    """Builds one graph."""

    def model(self, head: Head) -> Any:
        """Put embeddings, layers and head together."""
        ops, config = self.ops, self.config
        places = self.places(head)
        columns = places.columns
        mask = ops.select(
            ops.unsqueeze(places.real, self.ints(1, 2)),
            self.constant(np.zeros(1)),
            self.constant(np.full(1, _MASKED)),
        )

        states = self.embed(places.ids, columns, places.segments)
        first_states = states
        angles = self.angles(columns)
        last = config.num_hidden_layers - 1
        for number in range(config.num_hidden_layers):
            read, turns = states, angles
            if number == last:
                read, turns = self.positions_read(states, angles, head, places.inputs)
            states = self.layer(states, read, number, mask, (turns, angles))
            if number == 0:
                first_states = states
        if config.pre_layer_norm:
            states = self.layer_norm(states, "encoder.ln")
            first_states = states if last == 0 else first_states

        outputs = self.observed
        if outputs is None:
            outputs = self.outputs(head, states, first_states, places)
        model = self.openvino.Model(list(outputs.values()), places.inputs, "jinyi")
        for output, name in zip(model.outputs, outputs, strict=True):
            output.get_tensor().set_names({name})
        return model

    def places(self, head: Head) -> Places:
        """The inputs, and which positions they fill."""
        ops = self.ops
        ids, lengths = self.parameter("ids", 2), self.parameter("lengths", 1)
        segments = self.parameter("segments", 2)
        inputs = [ids, lengths, segments]
        if head.kind == "mlm":
            inputs.append(self.parameter("positions", 2))
        columns = self.columns(ids)
        real = ops.less(columns, ops.unsqueeze(lengths, self.ints(1)))
        return Places(inputs, ids, columns, segments, real, lengths)

    def columns(self, ids: Node) -> Node:
        """The positions 0, 1, ... of ids [B, L], int32 [1, L]."""
        ops = self.ops
        width = ops.squeeze(ops.gather(ops.shape_of(ids, "i32"), self.ints(1), self.ints(0)), self.ints(0))
        return ops.unsqueeze(ops.range(self.int32(0), width, self.int32(1), "i32"), self.ints(0))

    def within(self, columns: Node) -> Node:
        """Positions that the model has: padding may reach beyond the last one."""
        return self.ops.minimum(columns, self.int32(self.config.max_position_embeddings - 1))

    # ---------------------------------------------------------------- encoder

    def embed(self, ids: Node, columns: Node, segments: Node) -> Node:
        """Sum of word, position and segment embeddings; the latter two come from one table of their sums."""
        ops, config = self.ops, self.config
        places, width = config.max_position_embeddings, config.embedding_width
        segment = self.weight("embeddings.token_type_embeddings.weight", config.type_vocab_size, width)
        if config.rotary:
            table, place = segment, segments
        else:
            position = self.weight("embeddings.position_embeddings.weight", places, width)
            table = (segment[:, None] + position).reshape(-1, width)
            place = ops.add(ops.multiply(segments, self.int32(places)), self.within(columns))
        states = ops.add(
            ops.gather(self.word_table, ids, self.ints(0)),
            ops.gather(self.constant(table), place, self.ints(0)),
        )
        if not config.pre_layer_norm:
            states = self.layer_norm(states, "embeddings.LayerNorm", width)
        if not config.projects_embeddings:
            return states
        matrix = self.matrix("embeddings_project.weight", config.hidden_size, width)
        return self.product(states, matrix, self.weight("embeddings_project.bias", config.hidden_size))

    def angles(self, columns: Node) -> Angles:
        """Cosines and sines by which heads of RoFormer are turned at the positions `columns` [1 or B, n]."""
        if not self.config.rotary:
            return None
        ops, columns = self.ops, self.within(columns)
        nodes = [ops.gather(table, columns, self.ints(0)) for table in self.rotary_tables]
        cosines, sines = (ops.unsqueeze(node, self.ints(2)) for node in nodes)
        return cosines, sines

    @cached_property
    def rotary_tables(self) -> tuple[Node, Node]:
        """Cosine and sine for each position and channel; the sine of a pair's first channel is negative."""
        config = self.config
        table = self.weight(TABLE, config.max_position_embeddings, config.head_size)
        sines, cosines = np.split(table, 2, axis=1)
        signed = np.stack((-sines, sines), axis=2).reshape(table.shape)
        return self.constant(cosines.repeat(2, axis=1)), self.constant(signed)

    def turn(self, heads: Node, angles: Angles) -> Node:
        """Turn each pair of neighbouring channels of [B, n, heads, size] by the angle of its position."""
        if angles is None:
            return heads
        ops, (cosines, sines) = self.ops, angles
        swapped = ops.gather(heads, self.ints(*(np.arange(self.config.head_size) ^ 1)), self.ints(3))
        return ops.add(ops.multiply(heads, cosines), ops.multiply(swapped, sines))

    def positions_read(
        self, states: Node, angles: Angles, head: Head, inputs: Sequence[Node]
    ) -> tuple[Node, Angles]:
        """Return the positions of the last layer's input whose output the head reads, with their angles."""
        ops = self.ops
        if self.observed is not None:
            return states, angles
        if head.kind == "classes" or (head.kind == "vector" and head.pooling == "cls"):
            first = self.ints(0), self.ints(1), self.ints(1), self.ints(1)
            turns = None if angles is None else (ops.slice(angles[0], *first), ops.slice(angles[1], *first))
            return ops.slice(states, *first), turns
        if head.kind == "mlm":
            return ops.gather(states, inputs[-1], self.ints(1), 1), self.angles(inputs[-1])
        return states, angles

    def layer(self, states: Node, read: Node, number: int, mask: Node, turns: tuple[Angles, Angles]) -> Node:
        """One transformer layer: attends over all of `states`, is computed for the positions `read`.

        `turns` are the angles of `read` and of `states`. Weights may be shared between layers (ALBERT); what goes
        into their linear maps is each layer's own.
        """
        ops = self.ops
        name, site = f"encoder.layer.{self.config.weights_of(number)}", f"encoder.layer.{number}"
        if self.config.pre_layer_norm:
            normed = self.layer_norm(states, f"{name}.attention.ln")
            queries = normed if read is states else self.layer_norm(read, f"{name}.attention.ln")
            middle = ops.add(read, self.attention(normed, queries, name, site, mask, turns))
            return ops.add(middle, self.feed_forward(self.layer_norm(middle, f"{name}.ln"), name, site))
        middle = ops.add(read, self.attention(states, read, name, site, mask, turns))
        middle = self.layer_norm(middle, f"{name}.attention.output.LayerNorm")
        inner = self.feed_forward(middle, name, site)
        return self.layer_norm(ops.add(middle, inner), f"{name}.output.LayerNorm")

    def attention(
        self, states: Node, queries: Node, name: str, site: str, mask: Node, turns: tuple[Angles, Angles]
    ) -> Node:
        """Multi-head attention of `queries` over `states` (Vaswani et al. 2017), output projection included.

        MatMul-Softmax-MatMul is the form that OpenVINO fuses into one kernel.
        """
        ops, config = self.ops, self.config
        width, heads = config.hidden_size, config.num_attention_heads
        shape = self.ints(0, 0, heads, config.head_size)

        def heads_of(source: Node, part: str, angles: Angles, order: tuple[int, ...]) -> Node:
            map_name = f"{name}.attention.self.{part}"
            product = self.linear(source, map_name, width, width, site=f"{site}.attention.self")
            turned = self.turn(ops.reshape(product, shape, True), angles)
            return ops.transpose(turned, self.ints(*order))

        query = heads_of(queries, "query", turns[0], (0, 2, 1, 3))
        query = ops.multiply(query, self.constant(np.full((1, 1, 1, 1), 1 / math.sqrt(config.head_size))))
        key = heads_of(states, "key", turns[1], (0, 2, 3, 1))
        value = heads_of(states, "value", turns[1] if config.rotary_value else None, (0, 2, 1, 3))
        shares = ops.softmax(ops.add(ops.matmul(query, key, False, False), mask), -1)
        mixed = ops.transpose(ops.matmul(shares, value, False, False), self.ints(0, 2, 1, 3))
        mixed = ops.reshape(mixed, self.ints(0, 0, width), True)
        output = "attention.output.dense"
        return self.linear(mixed, f"{name}.{output}", width, width, site=f"{site}.{output}")

    def feed_forward(self, states: Node, name: str, site: str) -> Node:
        """The two dense layers with the activation between them."""
        width, inner = self.config.hidden_size, self.config.intermediate_size
        part = "intermediate.dense"
        states = self.activate(self.linear(states, f"{name}.{part}", inner, width, site=f"{site}.{part}"))
        return self.linear(states, f"{name}.output.dense", width, inner, site=f"{site}.output.dense")

    # ------------------------------------------------------------------ heads

    def outputs(self, head: Head, states: Node, first_states: Node, places: Places) -> dict[str, Node]:
        """Return what the head computes, by name."""
        if head.kind == "tokens":
            return {"states": states}
        if head.kind == "mlm":
            return self.mlm(head, states)
        if head.kind == "classes":
            return {"logits": self.classes(self.ops.squeeze(states, self.ints(1)))}
        if head.pooling == "first_last":
            states = self.both_layers(states, first_states)
        return {"vectors": self.vector(head, states, places)}

    def both_layers(self, states: Node, first_states: Node) -> Node:
        """The mean of the first and the last layer's outputs."""
        ops = self.ops
        return ops.multiply(ops.add(first_states, states), self.constant(np.full((1, 1, 1), 0.5)))

    def dense(self, states: Node, layers: Sequence[Any]) -> Node:
        """Linear maps one after the other, of vectors or of the states of each token."""
        for weight, bias in layers:
            states = self.product(states, self.constant(weight), None if bias is None else np.asarray(bias))
        return states

    def vector(self, head: Head, states: Node, places: Places) -> Node:
        """Pooling, dense maps and normalisation."""
        ops = self.ops
        present = ops.unsqueeze(places.real, self.ints(2))
        if head.pooling == "cls":
            vector = ops.squeeze(states, self.ints(1))
        elif head.pooling == "max":
            lowest = self.constant(np.full(1, np.finfo(np.float32).min))
            vector = ops.reduce_max(ops.select(present, states, lowest), self.ints(1))
        else:
            total = ops.reduce_sum(ops.multiply(states, ops.convert(present, "f32")), self.ints(1))
            vector = ops.divide(total, ops.convert(ops.unsqueeze(places.lengths, self.ints(1)), "f32"))
        vector = self.dense(vector, head.dense)
        if head.normalize:
            norm = ops.sqrt(ops.reduce_sum(ops.multiply(vector, vector), self.ints(-1), True))
            vector = ops.divide(vector, ops.maximum(norm, self.constant(np.full(1, 1e-12))))
        return vector

    def classes(self, states: Node) -> Node:
        """The pooler (dense and tanh on [CLS], in RoFormer its own activation) if there is one, then the classifier."""
        width = self.config.hidden_size
        if "pooler.dense.weight" in self.weights:
            matrix = self.matrix("pooler.dense.weight", width, width)
            states = self.product(states, matrix, self.weight("pooler.dense.bias", width))
            states = self.activate(states, self.config.pooler_activation)
        labels = len(self.weights["classifier.weight"]) if "classifier.weight" in self.weights else 1
        matrix = self.matrix("classifier.weight", labels, width)
        return self.product(states, matrix, self.weight("classifier.bias", labels))

    def mlm(self, head: Head, states: Node) -> dict[str, Node]:
        """Dense, activation and layer norm at the masks, then products with the words' embeddings."""
        ops, config = self.ops, self.config
        width, name = config.embedding_width, "cls.predictions.transform"
        matrix = self.matrix(f"{name}.dense.weight", width, config.hidden_size)
        states = self.activate(self.product(states, matrix, self.weight(f"{name}.dense.bias", width)))
        states = self.layer_norm(states, f"{name}.LayerNorm", width)
        bias = self.weight("cls.predictions.bias", config.vocab_size)
        outputs = {}
        if head.label_ids is not None:
            ids = np.asarray(head.label_ids)
            table = checked_weight(
                self.weights, "embeddings.word_embeddings.weight", (config.vocab_size, width)
            )
            outputs["logits"] = self.product(states, self.constant(table[ids]), bias[ids])
        if head.label_ids is None or head.log_normalizer:
            product = ops.matmul(states, self.word_table, False, True)
            scores = ops.add(product, self.constant(bias.reshape(1, 1, -1)))
            if head.label_ids is None:
                outputs["logits"] = scores
            if head.log_normalizer:
                top = ops.reduce_max(scores, self.ints(-1), True)
                mass = ops.reduce_sum(ops.exp(ops.subtract(scores, top)), self.ints(-1))
                outputs["log_normalizer"] = ops.add(ops.log(mass), ops.squeeze(top, self.ints(-1)))
        return outputs
