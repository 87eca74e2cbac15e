"""Names of TensorFlow's BERT family, and where their numbers belong under Hugging Face's names.

Four layouts are known, told apart by the names themselves: BERT as Google, CLUE, HFL and bert4keras (SimBERT)
save it; ALBERT as Google saves it (one set of weights a group of layers); ALBERT as albert_zh first saved it
(`layer_shared`, the factor of the embeddings as `word_embeddings_2`); RoFormer as bert4keras saves it (a BERT
without position table).

albert_zh's own layout is no ALBERT: position and segment vectors are added after the projection, at full width.
It is exactly a BERT whose word embedding is the product of the two factors and whose layers are all equal, and
that is what it becomes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinyi.convert.tensorflow.layouts import WORDS, Layout, Weight, layout_weights
from jinyi.errors import FolderError, shorten

_SLOTS = re.compile(
    r"/(adam_[mv]|lamb_[mv]|Adam(_1)?|AdamWeightDecay(_1)?|Momentum|RMSProp(_1)?|Adagrad|[mv])$"
)
_COUNTERS = re.compile(
    r"(^|/)(global_step|save_counter|current_iter|beta[12]_power|(good|bad)_steps|last_overflow_iter"
    r"|(current_)?loss_scale)$"
)
_OBJECTS = ".ATTRIBUTES/VARIABLE_VALUE"
# Settings of models that share BERT's names and compute something else: albert_zh's pre-normalised sizes, NEZHA.
_USUAL = {"ln_type": "postln", "use_relative_position": False, "use_relative_positions": False}


@dataclass(frozen=True)
class Plan:
    """What becomes of the variables of a checkpoint.

    Attributes:
        layout: which of the known layouts it is.
        weights: all tensors of the model, by their new names.
        optimizer: variables of the optimiser.
        dropped: heads that no task here uses.
    """

    layout: Layout
    weights: Mapping[str, Weight]
    optimizer: tuple[str, ...]
    dropped: tuple[str, ...]


def plan_weights(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], where: str) -> Plan:
    """Say for every variable of a checkpoint what it becomes, and check that the model is whole.

    Args:
        shapes: shape of every variable, by name.
        config: bert_config.json.
        where: the checkpoint, for messages.

    Returns:
        The plan; every variable is in exactly one of its parts.

    Raises:
        FolderError: a layout that is not known, a variable that is missing, of another shape than
            bert_config.json says, or of no known part of the encoder.
    """
    optimizer = {name for name in shapes if _is_optimizer(name, shapes)}
    variables = {name: shape for name, shape in shapes.items() if name not in optimizer}
    scope = _scope(variables, where)
    layout = _layout(scope, variables, config, where)
    weights = {weight.name: weight for weight in layout_weights(layout, scope, variables, config, where)}
    _check(weights.values(), variables, where)

    used = {source for weight in weights.values() for source in weight.sources}
    left = [name for name in variables if name not in used]
    inside = [name for name in left if name.startswith((f"{scope}embeddings/", f"{scope}encoder/"))]
    if inside:
        raise FolderError(
            where=where,
            found=f"the variables {shorten(inside[:3], 160)} ({len(inside)} of no known part)",
            expected=f"a {layout} with the {config['num_hidden_layers']} layers that its configuration says",
            fix="Take bert_config.json of this very checkpoint. If it is, the model is of a kind jinyi lacks.",
        )
    return Plan(layout, weights, tuple(sorted(optimizer)), tuple(sorted(left)))


def _is_optimizer(name: str, shapes: Mapping[str, Any]) -> bool:
    slot = _SLOTS.search(name)
    return _COUNTERS.search(name) is not None or (slot is not None and name[: slot.start()] in shapes)


def _scope(variables: Iterable[str], where: str) -> str:
    """Return what stands before the names of the encoder: "bert/", or more around it."""
    names = list(variables)
    found = [name.removesuffix(WORDS) for name in names if name.endswith(WORDS)]
    if len(found) == 1 and found[0].endswith("bert/"):
        return found[0]
    if any(_OBJECTS in name for name in names):
        raise FolderError(
            where=where,
            found="an object-based checkpoint of TensorFlow 2 (tf.train.Checkpoint, Keras)",
            expected="a checkpoint of tf.train.Saver with BERT's variable names",
            fix="Its names depend on the program that wrote it: convert it with that program first.",
        )
    raise FolderError(
        where=where,
        found=f"variables named {shorten(sorted(names)[:3], 160)}",
        expected=f"one bert/{WORDS}, as BERT, ALBERT and RoFormer checkpoints have it",
        fix="jinyi does not run this kind of model.",
    )


def _layout(scope: str, variables: Iterable[str], config: Mapping[str, Any], where: str) -> Layout:
    names = set(variables)
    if any(name.startswith(f"{scope}encoder/transformer/group_") for name in names):
        return "albert"
    shared = any(name.startswith(f"{scope}encoder/layer_shared/") for name in names)
    odd = {key: config[key] for key, usual in _USUAL.items() if config.get(key, usual) not in (usual, None)}
    if odd:
        raise FolderError(
            where=where,
            found=f"a configuration with {', '.join(f'{key} = {value!r}' for key, value in odd.items())}",
            expected="a model without it",
            fix="jinyi does not compute this kind of model; the result would be wrong without any error.",
        )
    if shared:
        return "albert_zh"
    return "bert" if f"{scope}embeddings/position_embeddings" in names else "roformer"


def _check(weights: Iterable[Weight], variables: Mapping[str, tuple[int, ...]], where: str) -> None:
    weights = list(weights)
    missing = [source for weight in weights for source in weight.sources if source not in variables]
    if missing:
        raise FolderError(
            where=where,
            found=f"no {shorten(missing[:3], 200)} ({len(missing)} missing)",
            expected="all variables of a model of this shape",
            fix="Take bert_config.json of this very checkpoint. If it is, the model is of a kind jinyi lacks.",
        )
    for weight in weights:
        stored = variables[weight.sources[0]]
        for source, expected in _stored_shapes(weight, stored):
            if variables[source] != expected:
                raise FolderError(
                    where=where,
                    found=f"{source} of shape {list(variables[source])}",
                    expected=f"{list(expected)} by its configuration",
                    fix="Take bert_config.json of this very checkpoint.",
                )


def _stored_shapes(weight: Weight, first: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    if weight.how == "product":
        inner = first[-1] if len(first) == 2 else 0
        yield weight.sources[0], (weight.shape[0], inner)
        yield weight.sources[1], (inner, weight.shape[1])
    else:
        yield weight.sources[0], weight.shape[::-1] if weight.how == "transpose" else weight.shape
