"""What the variables of a TensorFlow checkpoint become, by names and shapes alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jinyi.convert.tensorflow.bundle import Bundle
from jinyi.convert.tensorflow.names import Plan, plan_weights
from jinyi.convert.tensorflow.places import FolderPlace
from jinyi.errors import FolderError

HERE = Path(__file__).parent / "fixtures" / "tf"
Shapes = dict[str, tuple[int, ...]]


def shapes_of(kind: str) -> Shapes:
    bundle = Bundle(FolderPlace(HERE / kind), "bert_model.ckpt")
    return {name: entry.shape for name, entry in bundle.entries.items()}


def config_of(kind: str) -> dict[str, Any]:
    return json.loads((HERE / kind / "bert_config.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def plan(kind: str, shapes: Shapes, **changes: Any) -> Plan:
    return plan_weights(shapes, {**config_of(kind), **changes}, "x")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [(kind, kind) for kind in ("bert", "albert", "albert_zh", "roformer")] + [("pair", "bert")],
)
def test_layouts_are_told_apart(kind: str, layout: str) -> None:
    shapes = shapes_of(kind)
    found = plan(kind, shapes)
    assert found.layout == layout
    used = {source for weight in found.weights.values() for source in weight.sources}
    assert sorted([*used, *found.optimizer, *found.dropped]) == sorted(shapes)
    assert all(name == weight.name for name, weight in found.weights.items())


@pytest.mark.parametrize("kind", ["bert", "albert", "roformer"])
def test_scopes_around_a_model(kind: str) -> None:
    shapes = shapes_of(kind)
    around = plan(kind, {f"module/{name}": shape for name, shape in shapes.items()})
    assert set(around.weights) == set(plan(kind, shapes).weights)
    assert {name.removeprefix("module/") for name in around.optimizer} == set(plan(kind, shapes).optimizer)


def test_parts_that_may_be_missing() -> None:
    shapes = shapes_of("bert")
    bare = {name: shape for name, shape in shapes.items() if not name.startswith(("bert/pooler", "cls/"))}
    lost = set(plan("bert", shapes).weights) - set(plan("bert", bare).weights)
    assert {name.split(".")[0] for name in lost} == {"bert", "cls"}
    assert len(lost) == 7  # pooler and masked language model
    for name in ("bert/pooler/dense/bias", "cls/predictions/output_bias", "bert/embeddings/LayerNorm/beta"):
        with pytest.raises(FolderError, match=f"no \\['{name}'\\]"):
            plan("bert", {key: shape for key, shape in shapes.items() if key != name})


def test_other_heads_are_dropped_by_name() -> None:
    heads: Shapes = {
        "cls/squad/output_weights": (2, 12),
        "crf/transitions": (5, 5),
        "cls/squad/adam_m": (2, 12),
    }
    found = plan("bert", {**shapes_of("bert"), **heads})
    assert set(heads) < set(found.dropped)  # a slot of no variable is not the optimiser's


def test_the_pooler_of_roformer_is_kept() -> None:
    pooler: Shapes = {"bert/pooler/dense/kernel": (12, 12), "bert/pooler/dense/bias": (12,)}
    found = plan("roformer", {**shapes_of("roformer"), **pooler})
    assert found.dropped == ()
    names = {name for name in found.weights if "pooler" in name}
    assert names == {"roformer.pooler.dense.weight", "roformer.pooler.dense.bias"}


@pytest.mark.parametrize(
    "name",
    [
        "global_step",
        "a/global_step",
        "beta1_power",
        "bert/pooler/dense/bias/Adam",
        "bert/pooler/dense/bias/Adam_1",
        "bert/pooler/dense/bias/lamb_v",
        "bert/pooler/dense/bias/Momentum",
        "current_loss_scale",
    ],
)
def test_variables_of_optimisers(name: str) -> None:
    assert name in plan("bert", {**shapes_of("bert"), name: ()}).optimizer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bert/encoder/layer_0/attention/self/relative": (3,)}, "of no known part"),
        ({"bert/embeddings/extra": (3,)}, "bert/embeddings/extra"),
        ({"two/bert/embeddings/word_embeddings": (3, 3)}, "variables named"),
        ({"bert/embeddings/word_embeddings": ()}, "of shape []"),
        ({"bert/embeddings/word_embeddings": (39, 12, 1)}, "of shape [39, 12, 1]"),
        ({"bert/pooler/dense/kernel": (12, 13)}, "of shape [12, 13]"),
    ],
)
def test_what_belongs_to_no_such_model(changes: Shapes, words: str) -> None:
    with pytest.raises(FolderError) as caught:
        plan("bert", {**shapes_of("bert"), **changes})
    assert words in caught.value.found and caught.value.where == "x"


def test_a_factor_that_does_not_fit() -> None:
    shapes = shapes_of("albert_zh")
    assert plan("albert_zh", shapes).weights["bert.embeddings.word_embeddings.weight"].shape == (39, 12)
    for factor in ((9, 12), (8, 13), (8,)):
        with pytest.raises(FolderError, match="word_embeddings_2 of shape"):
            plan("albert_zh", {**shapes, "bert/embeddings/word_embeddings_2": factor})


def test_checkpoints_of_other_programs() -> None:
    keras: Shapes = {"model/layer-0/kernel/.ATTRIBUTES/VARIABLE_VALUE": (3, 4)}
    with pytest.raises(FolderError, match="object-based checkpoint of TensorFlow 2"):
        plan("bert", keras)
    electra = {name.replace("bert/", "electra/"): shape for name, shape in shapes_of("bert").items()}
    with pytest.raises(FolderError, match="variables named"):
        plan("bert", electra)
