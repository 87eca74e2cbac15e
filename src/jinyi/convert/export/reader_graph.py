"""The runtime's graph with the inputs and outputs that other readers of ONNX files and OpenVINO IR know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jinyi.folder import ModelFolder
from jinyi.runtime import Head
from jinyi.runtime.graph import GraphBuilder, Places
from jinyi.runtime.graph_pieces import Node

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_NOWHERE = 1 << 30
# Poolings behind which a linear map does the same as before them, token by token.
_LINEAR = ("cls", "mean", "first_last")


@dataclass(frozen=True)
class Shape:
    """What an exported graph computes.

    Args:
        head: of the runtime.
        pooling: by which readers make vectors of last_hidden_state; None where the folder states none.
        folded: whether last_hidden_state is more than the encoder's own: whitening and other dense layers are applied
            to each token, and "first_last" pooling averages the two layers there. The folder then states neither
            again, and PyTorch weights in it would give other vectors.
    """

    head: Head
    pooling: str | None
    folded: bool


def shape_of(folder: ModelFolder) -> Shape:
    """Return what is exported of a folder: logits of a classifier or masked language model, else vectors."""
    if folder.task in ("pair", "classes"):
        return Shape(Head("classes"), None, False)
    if folder.task in ("topic", "mlm"):
        return Shape(Head("mlm"), None, False)
    if folder.pooling is None:
        return Shape(Head("tokens"), None, False)
    head = Head("vector", pooling=folder.pooling, dense=folder.dense, normalize=folder.normalize)
    folded = folder.pooling == "first_last" or (bool(folder.dense) and folder.pooling in _LINEAR)
    return Shape(head, "mean" if folder.pooling == "first_last" else folder.pooling, folded)


def reader_graph(folder: ModelFolder, *, keep_half: bool) -> Any:
    """Build the graph of a folder for other readers.

    Args:
        folder: the model.
        keep_half: leave float16 matrices as they are stored; they are cast where they are used.

    Returns:
        an `openvino.Model`. Inputs input_ids, attention_mask, token_type_ids, int64 [batch, sequence]; a mask may
        have holes. Outputs, float32: for vectors last_hidden_state [batch, sequence, width] and, where pooling is
        known, sentence_embedding [batch, size]; else logits, [batch, labels] or [batch, sequence, words].
    """
    return _ReaderGraph(folder, keep_half).model(shape_of(folder).head)


class _ReaderGraph(GraphBuilder):
    """Takes masks for lengths, and gives every token's state for those that are read."""

    def __init__(self, folder: ModelFolder, keep_half: bool) -> None:
        super().__init__(folder.config, folder.weights(), keep_half=keep_half)
        # A pair model that was trained without segments gets none, whatever a reader's tokenizer says.
        self.without_segments = folder.task == "pair" and folder.segment_ids == "zeros"

    def places(self, head: Head) -> Places:
        ops = self.ops
        given = [self.parameter(name, 2, np.int64) for name in INPUTS]
        ids, mask, segments = (ops.convert(node, "i32") for node in given)
        if self.without_segments:
            segments = ops.multiply(segments, self.int32(0))
        real = ops.greater(mask, self.int32(0))
        lengths = ops.maximum(ops.reduce_sum(ops.convert(real, "i32"), self.ints(1)), self.int32(1))
        return Places(given, ids, self.columns(ids), segments, real, lengths)

    def within(self, columns: Node) -> Node:
        """Nobody checks lengths here: a position that the model lacks points nowhere, which onnxruntime refuses."""
        ops, limit = self.ops, self.int32(self.config.max_position_embeddings)
        return ops.select(ops.less(columns, limit), columns, self.int32(_NOWHERE))

    def positions_read(self, states: Node, angles: Any, head: Head, inputs: Any) -> tuple[Node, Any]:
        if head.kind == "classes":
            return super().positions_read(states, angles, head, inputs)
        return states, angles

    def outputs(self, head: Head, states: Node, first_states: Node, places: Places) -> dict[str, Node]:
        ops = self.ops
        if head.kind in ("classes", "mlm"):
            return super().outputs(head, states, first_states, places)
        if head.kind == "tokens":
            return {"last_hidden_state": states}
        if head.pooling == "first_last":
            states = self.both_layers(states, first_states)
        pooling = "mean" if head.pooling == "first_last" else head.pooling
        if pooling in _LINEAR:
            states = self.dense(states, head.dense)
            head = replace(head, dense=())
        first = self.ints(0), self.ints(1), self.ints(1), self.ints(1)
        read = ops.slice(states, *first) if pooling == "cls" else states
        return {
            "last_hidden_state": states,
            "sentence_embedding": self.vector(replace(head, pooling=pooling), read, places),
        }
