"""Recipes: YAML to dataclasses and back, what is refused and what the message names."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

from jinyi.errors import InputError
from jinyi.train.recipe import TASKS, Checkpoint, Optimizer, Recipe, Schedule, Source, reading, rules, typed

PAIR = """\
name: toy
task: pair
data:
  train:
    - a.tsv
    - file: b.jsonl
      labels: {0: 0, 1: null, 2: 1}
start: {model: some-model}
batch: {rows: 32}
optimizer:
  lr: 2e-5
schedule: {epochs: 3}
objective: {outputs: 3, loss: pcl}
"""
PRETRAIN = """\
name: toy
task: pretrain
data: {train: [shards]}
start:
  config: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32}
batch: {tokens: 512}
schedule: {steps: 10, warmup: 0.1, shape: wsd}
"""

SECTIONS = (
    "data",
    "start",
    "batch",
    "schedule",
    "optimizer",
    "evaluation",
    "checkpoint",
    "machine",
    "output",
)


def refused(text: str, *sets: str) -> InputError:
    with pytest.raises(InputError) as error:
        reading.parse(text, sets=sets, where="toy.yaml")
    return error.value


def test_values_and_types() -> None:
    recipe = reading.parse(PAIR)
    assert recipe.optimizer.lr == 2e-5 and recipe.schedule.epochs == 3.0 and recipe.batch.rows == 32
    assert isinstance(recipe.schedule.epochs, float) and isinstance(recipe.batch.rows, int)
    assert [source.file for source in recipe.data.train] == ["a.tsv", "b.jsonl"]
    assert recipe.data.train[1].labels == {"0": 0, "1": None, "2": 1}
    assert isinstance(recipe.objective, TASKS["pair"])
    assert reading.parse(PRETRAIN).objective == TASKS["pretrain"]()  # a section left out has its defaults


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("1E3", 1000.0), (".5", 0.5), ("1", 1.0), ("'0.25'", 0.25), ("1_0.5", 10.5)],
)
def test_numbers_that_yaml_takes_for_text(text: str, value: float) -> None:
    assert reading.parse(PAIR, sets=[f"optimizer.lr={text}"]).optimizer.lr == value


@pytest.mark.parametrize("text", ["1e3", "1000", "1_000", "1000.0"])
def test_whole_numbers(text: str) -> None:
    assert reading.parse(PAIR, sets=[f"batch.rows={text}"]).batch.rows == 1000


@pytest.mark.parametrize(
    ("assignment", "where", "nearest"),
    [
        ("optimizer.lrr=1", "optimizer.lrr", "optimizer.lr"),
        ("optimiser.lr=1", "optimiser", "optimizer"),
        ("data.max_lenght=64", "data.max_lenght", "data.max_length"),
        ("data.train.1.labls={}", "data.train.1.labls", "data.train.1.labels"),
        ("objective.outptus=2", "objective.outptus", "objective.outputs"),
        ("lr=1", "lr", "optimizer.lr"),  # known in another section
        ("warmup=0.1", "warmup", "schedule.warmup"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", "optimizer.lr"),  # what others call it
        ("per_device_train_batch_size=8", "per_device_train_batch_size", "batch.rows"),
        ("start.config.num_layers=2", "start.config.num_layers", "start.config.num_hidden_layers"),
    ],
)
def test_unknown_key_names_its_path_and_the_nearest(assignment: str, where: str, nearest: str) -> None:
    error = refused(PAIR, assignment)
    assert error.where == f"--set {assignment}: {where}"
    assert "unknown key" in error.found and error.fix.rstrip(".").endswith(f" {nearest}")


def test_every_unknown_key_is_found() -> None:
    """In each section of a recipe, an unknown key is refused with its path."""
    raw = typed.plain(reading.parse(PAIR))
    sections = ["", *(key for key, value in raw.items() if isinstance(value, dict)), "data.train.0"]
    assert len(sections) > 9
    for section in sections:
        error = refused(PAIR, f"{section}.nonsense_key=1".lstrip("."))
        assert f"{section}.nonsense_key".lstrip(".") in error.where, section


@pytest.mark.parametrize(
    ("assignment", "found", "expected"),
    [
        ("batch.rows=many", "'many' (str)", "a whole number"),
        ("batch.rows=1.5", "1.5 (float)", "a whole number"),
        ("batch.rows=true", "True (bool)", "a whole number"),
        ("optimizer.lr=.nan", "nan (float)", "a number"),
        ("optimizer.lr=[1]", "[1] (list)", "a number"),
        ("optimizer=3", "3 (int)", "a mapping"),
        ("optimizer.betas=0.9", "0.9 (float)", "a list"),
        ("optimizer.betas=[0.9]", "[0.9] (list)", "a list of 2 values"),
        ("name=7", "7 (int)", "text"),
        ("batch.bucket=1", "1 (int)", "true or false"),
        ("objective.loss=pcll", "'pcll' (str)", "one of cross_entropy, focal, pcl, pcl_compat"),
        ("task=pairs", "'pairs' (str)", "one of pretrain"),
        ("data.train=a.tsv", "'a.tsv' (str)", "a list"),
        ("data.train.0.labels={no: 1}", "False (bool)", "keys that are text or numbers"),
        ("schedule=null", "nothing", "a mapping"),
    ],
)
def test_wrong_types(assignment: str, found: str, expected: str) -> None:
    error = refused(PAIR, assignment)
    assert error.where.startswith(f"--set {assignment}: {assignment.partition('=')[0]}")
    assert error.found == found and error.expected.startswith(expected)


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("optimizer.lr=0", "optimizer.lr"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas.1"),
        ("objective.smoothing=1", "objective.smoothing"),
        ("objective.outputs=0", "objective.outputs"),
        ("seed=-1", "seed"),
        ("data.train.1.weight=0", "data.train.1.weight"),
        ("data.train.1.limit=0", "data.train.1.limit"),
        ("data.train=[]", "data.train"),
        ("data.train.0.kind=texts", "data.train.0.kind"),
        ("data.train.0.prompts=['{}']", "data.train.0.prompts"),
        ("batch.accumulate=64", "batch.rows"),
        ("objective.labels=[a, b]", "objective.labels"),
        ("objective.labels=[a, b, a]", "objective.labels"),
        ("objective={outputs: 3, loss: pcl_compat, smoothing: 0.1}", "objective.smoothing"),
        ("objective={outputs: 3, loss: pcl_compat, prior: 1}", "objective.prior"),
        ("data.max_length=4", "data.max_length"),
        ("objective.outputs=1", "objective.loss"),
        ("evaluation.patience=2", "evaluation.patience"),
        ("start.layers=[-1]", "start.layers"),
        ("start.words=ppmi", "start.words"),
        ("name=a/b", "name"),
        ("schedule.warmup=1.5", "schedule.warmup"),
    ],
)
def test_values_that_cannot_be(assignment: str, key: str) -> None:
    assert f": {key}" in refused(PAIR, assignment).where


def test_faults_beyond_one_key() -> None:
    assert "neither" in refused(PAIR.replace("{rows: 32}", "{}")).found
    assert "both" in refused(PAIR.replace("{epochs: 3}", "{epochs: 3, steps: 4}")).found
    assert "start.config" in refused(PAIR, "start.model=null").expected
    assert refused(PRETRAIN, "schedule.decay=0.95").where.endswith("schedule.decay")
    assert refused(PRETRAIN, "objective.sentence_order=true", "objective.packing=lines")
    assert refused(PRETRAIN, "objective.kept=0.7", "objective.random=0.7").where.endswith("objective.kept")
    assert refused(PRETRAIN, "start.config.num_attention_heads=3").where.endswith("start.config")
    assert refused(PRETRAIN, "start.layers=[0]").where.endswith("start.layers")
    topic = PAIR.replace("task: pair", "task: topic").replace("{outputs: 3, loss: pcl}", "{mlm: 0}")
    assert refused(topic.replace("labels: {0: 0, 1: null, 2: 1}", "prompts: [没有]")).where.endswith(
        "prompts.0"
    )
    assert "all weights 0" in refused(topic).found
    contrastive = PAIR.replace("task: pair", "task: contrastive").replace(
        "{outputs: 3, loss: pcl}", "{loss: cosent}"
    )
    assert reading.parse(contrastive).task == "contrastive"
    assert refused(contrastive, "data.train.0.kind=texts").where.endswith("data.train.0.kind")
    distill = PAIR.replace("task: pair", "task: distill").replace(
        "{outputs: 3, loss: pcl}", "{targets: pair}"
    )
    assert "objective.teacher" in refused(distill).found
    assert refused(distill, "objective.teacher=t", "data.train.0.kind=texts").where.endswith(
        "data.train.0.kind"
    )


def test_line_numbers() -> None:
    assert refused(PAIR.replace("  lr:", "  lrr:")).where == "toy.yaml:11: optimizer.lrr"
    assert refused(PAIR.replace("2e-5", "fast")).where == "toy.yaml:11: optimizer.lr"
    assert refused(PAIR.replace("0: 0,", "no: 0,")).where == "toy.yaml:7: data.train.1.labels"
    twice = refused(PAIR + "name: other\n")
    assert twice.where == "toy.yaml:14: name" and "second time" in twice.found
    assert refused("name: [\n").where == "toy.yaml:2"
    assert "empty" in refused("").found and "[1]" in refused("[1]").found
    assert "batch" in refused(PAIR.replace("batch: {rows: 32}\n", "")).found


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(PAIR, encoding="utf-8")
    recipe = reading.read(file, sets=["schedule.steps=5"], data=tmp_path)
    assert recipe.data.folder == str(tmp_path) and recipe.schedule.steps == 5
    file.write_bytes(b"name: \xff")
    for path in (tmp_path / "none.yaml", tmp_path, file):
        with pytest.raises(InputError, match="no readable recipe"):
            reading.read(path)


def test_override() -> None:
    raw: dict[str, Any] = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "schedule": {"epochs": 3}}
    before = repr(raw)
    assert reading.override(raw, "a.b=[1, 2]")["a"]["b"] == [1, 2]
    assert reading.override(raw, "a.c.d=text")["a"] == {"b": 1, "c": {"d": "text"}}
    assert reading.override(raw, "list.1.x=null")["list"] == [{"x": 1}, {"x": None}]
    assert reading.override(raw, "list.0={y: 2}")["list"] == [{"y": 2}, {"x": 2}]
    assert reading.override(raw, "a.b=x=y")["a"]["b"] == "x=y"
    assert reading.override(raw, "schedule.steps=9")["schedule"] == {"steps": 9}  # in place of epochs
    assert reading.override(raw, "schedule.steps=null")["schedule"] == {"epochs": 3, "steps": None}
    assert repr(raw) == before
    for wrong in ("a.b", "=1", "a..b=1", "a.b.c=1", "list.2.x=1", "list.x=1", "a.b=[1", "list.-1=3"):
        with pytest.raises(InputError) as error:
            reading.override(raw, wrong)
        assert error.value.where.startswith(f"--set {wrong}")


def test_later_assignments_win_and_are_named() -> None:
    assert reading.parse(PAIR, sets=["optimizer.lr=1", "optimizer.lr=2"]).optimizer.lr == 2
    assert refused(PAIR, "optimizer.lr=1", "optimizer.lr=0").where == "--set optimizer.lr=0: optimizer.lr"
    assert refused(PAIR, "optimizer={lr: 0}").where == "--set optimizer={lr: 0}: optimizer.lr"


@pytest.mark.parametrize("text", [PAIR, PRETRAIN])
def test_written_and_read_again(text: str) -> None:
    recipe = reading.parse(text, sets=["optimizer.lr=1.2345678901234567e-05", "name=名字"])
    written = reading.dump(recipe)
    assert "名字" in written
    assert reading.parse(written) == recipe
    assert reading.parse(reading.dump(reading.parse(written))) == recipe


def test_fingerprint_and_differences() -> None:
    one = reading.parse(PAIR)
    assert reading.fingerprint(one) == reading.fingerprint(reading.parse(reading.dump(one)))
    for key in ("seed=1", "optimizer.lr=3e-5", "data.train.1.labels={0: 1, 2: 0}", "objective.loss=focal"):
        other = reading.parse(PAIR, sets=[key])
        name = key.partition("=")[0]
        changed = reading.differences(one, other)
        assert changed and all(key.startswith(name) for key in changed)
        assert reading.fingerprint(one) != reading.fingerprint(other)
        assert reading.fingerprint(one, without=[name]) == reading.fingerprint(other, without=[name])
    assert reading.differences(one, one) == []


def test_ranges_name_real_keys() -> None:
    """A range of a key that no recipe has would check nothing."""
    known = {f"objective.{field.name}" for kind in TASKS.values() for field in dataclasses.fields(kind)}
    known |= {f"source.{field.name}" for field in dataclasses.fields(reading.parse(PAIR).data.train[0])}
    known |= set(reading.flatten(reading.parse(PAIR)))
    assert set(rules.RANGES) <= known
    assert set(rules.KINDS) == set(TASKS)


def test_check_of_recipes_made_in_python() -> None:
    recipe = reading.parse(PAIR)
    rules.check(recipe)
    wrong = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, lr=-1.0))
    with pytest.raises(InputError) as error:
        rules.check(wrong)
    assert error.value.where == "optimizer.lr"
    assert isinstance(recipe, Recipe)


DOCS = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


def test_recipes_in_the_docs_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        assert reading.parse(block).data.dev


def test_docs_name_every_key_with_its_default() -> None:
    sections = [
        Recipe,
        Source,
        *TASKS.values(),
        *(type(getattr(reading.parse(PAIR), name)) for name in SECTIONS),
    ]
    for section in sections:
        for field in dataclasses.fields(section):
            assert f"`{field.name}`" in DOCS, (section.__name__, field.name)
    for section, keys in {
        Optimizer: ("lr", "weight_decay", "clip", "layer_decay"),
        Schedule: ("warmup", "decay", "minimum"),
        Checkpoint: ("every", "minutes", "keep"),
    }.items():
        for key in keys:
            default = next(field.default for field in dataclasses.fields(section) if field.name == key)
            numbers = [
                number for number in re.findall(rf"`{key}` \((.*?)[,:;)]", DOCS) if number[0].isdigit()
            ]
            assert float(default) in map(float, numbers), (key, default, numbers)


def test_docs_name_every_recipe() -> None:
    for path in (Path(__file__).parent.parent / "recipes").glob("*.yaml"):
        family, _, size = path.stem.rpartition("-")
        assert (
            f"`{path.stem}`" in DOCS
            or (f"`{family}-" in DOCS and f"`-{size}`" in DOCS)
            or (path.stem.startswith("roberta-") and f"`{path.stem.removeprefix('roberta')}`" in DOCS)
        ), path.stem
