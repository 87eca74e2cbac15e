"""Training from folders of ALBERT and RoFormer: what goes on as with BERT, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from transformers import AutoModelForSequenceClassification  # noqa: E402

from jinyi import PairScorer  # noqa: E402
from jinyi.errors import InputError  # noqa: E402
from jinyi.folder import read_folder  # noqa: E402
from jinyi.runtime.rotary import TABLE  # noqa: E402
from jinyi.tokens import Tokenizer  # noqa: E402
from jinyi.train.build import build_task, share_here  # noqa: E402
from jinyi.train.network import Network  # noqa: E402
from jinyi.train.recipe import Machine, Optimizer, PretrainObjective, reading  # noqa: E402
from jinyi.train.run import train  # noqa: E402
from jinyi.train.run.schedule import parameter_groups  # noqa: E402
from jinyi.train.start import build  # noqa: E402
from small_models import CONFIG  # noqa: E402
from test_train_plan import TEXTS  # noqa: E402
from test_train_start import SHAPE, recipe  # noqa: E402
from zoo_models import ARCHITECTURES, CLASSES, ENCODER, MLM, save  # noqa: E402

NEW = [name for name in ARCHITECTURES if name not in ("bert", "megatron")]
PAIRS = [(TEXTS[i % 7], TEXTS[(i + 1 + i % 2) % 7]) for i in range(24)]
RECIPE = """
name: toy
task: pair
data: {max_length: 32, train: [pairs.jsonl], dev: [pairs.jsonl]}
start: {model: model}
batch: {rows: 24}
schedule: {shape: constant, warmup: 0.0}
optimizer: {lr: 3.0e-3, layer_decay: 0.9}
machine: {checkpointing: true, threads: 1}
"""


@pytest.mark.parametrize("name", ["albert, 2 groups", "roformer, narrow"])
def test_a_pair_model_is_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole recipe from a natively saved folder: it learns, goes on where it was, opens in its own class."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "model", name, MLM, dtype=torch.float16)
    rows = [{"texta": a, "textb": b, "label": i % 2} for i, (a, b) in enumerate(PAIRS)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "pairs.jsonl").write_text(lines, encoding="utf-8")

    def go(steps: int, folder: str, **options: Any) -> Any:
        made = reading.parse(RECIPE, sets=[f"schedule.steps={steps}"])
        return train(made, build_task(made, share_here()), folder=folder, progress=False, **options)

    go(8, "twice")
    straight, resumed = go(60, "straight"), go(60, "twice", resume=True)
    assert resumed.loss == straight.loss
    one, other = (read_folder(result.model).weights() for result in (straight, resumed))
    assert set(one) == set(other)
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
    start = read_folder("model").weights()
    assert (TABLE in start) == (TABLE in one) == name.startswith("roformer")
    if TABLE in one:
        np.testing.assert_array_equal(one[TABLE], np.asarray(start[TABLE], np.float32))

    scorer = PairScorer.load(straight.model)
    found = scorer.predict(PAIRS, raw_scores=True, symmetric=False)
    right = np.mean((np.asarray(found) > 0) == np.arange(24) % 2)
    assert right > 0.9
    folder = read_folder(straight.model)
    encoded = Tokenizer.from_folder(folder.path, max_length=40).encode_pairs(PAIRS)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder.path).eval()
    assert type(theirs).__name__ == ARCHITECTURES[name][0] + CLASSES
    with torch.no_grad():
        expected = [
            theirs(
                torch.tensor([ids]),
                token_type_ids=torch.tensor([[int(place >= split) for place in range(len(ids))]]),
            )
            .logits[0, -1]
            .item()
            for ids, split in zip(encoded.ids, encoded.splits, strict=True)
        ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", NEW)
def test_weights_go_in_and_out(name: str, tmp_path: Path) -> None:
    """Every stored weight is in the network, under the folder's names; fewer positions may be kept."""
    path = save(tmp_path / "m", name, MLM)
    config = read_folder(path).config
    network, _ = build(recipe(PretrainObjective(), model=str(path)))
    stored, found = read_folder(path).weights(), network.weights()
    assert set(found) == set(stored)
    for key, array in found.items():
        np.testing.assert_array_equal(array, stored[key])
    short, _ = build(recipe(PretrainObjective(), model=str(path), config={"max_position_embeddings": 36}))
    assert short.config == replace(config, max_position_embeddings=36)
    key = TABLE if config.rotary else "embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(short.weights()[key], stored[key][:36])


@pytest.mark.parametrize(
    "options", [{"num_hidden_groups": 1, "embedding_size": 8}, {"rotary": True, "embedding_size": 8}]
)
def test_random_weights(options: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / "m", "bert", ENCODER)
    network, _ = build(recipe(tokenizer=str(path), config=SHAPE | options))
    assert network.config.embedding_width == 8
    assert network.config.model_type == ("roformer" if "rotary" in options else "albert")


def test_learning_rates_of_a_projection(tmp_path: Path) -> None:
    """The map behind narrow embeddings learns as slowly as they do."""
    network = Network(replace(CONFIG, rotary=True, embedding_size=16))
    groups = parameter_groups(network, Optimizer(layer_decay=0.5))
    scales = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    encoder = network.encoder
    assert scales[id(encoder.embeddings_project.weight)] == 0.25
    assert scales[id(encoder.embeddings.word_embeddings.weight)] == 0.25
    assert scales[id(encoder.encoder.layer[0].output.dense.weight)] == 0.5


@pytest.mark.parametrize(
    ("name", "start", "where"),
    [
        ("albert", {"layers": (0, 2)}, "start.layers"),
        ("albert", {"config": {"num_hidden_layers": 2}}, "start.layers"),
        ("albert", {"last_layer": "pooling"}, "start.last_layer"),
        ("roformer", {"heads": "matching"}, "start.heads"),
        ("roformer", {"last_layer": "pooling"}, "start.last_layer"),
    ],
)
def test_contradictions(name: str, start: dict[str, Any], where: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m", name, ENCODER)
    with pytest.raises(InputError) as error:
        build(recipe(model=str(path), **start))
    assert error.value.where == where


def test_shared_layers_are_not_split_among_processes(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "albert", ENCODER)
    with pytest.raises(InputError, match="fsdp"):
        build(replace(recipe(model=str(path)), machine=Machine(fsdp=True)))
    build(replace(recipe(model=str(save(tmp_path / "r", "roformer", ENCODER))), machine=Machine(fsdp=True)))
