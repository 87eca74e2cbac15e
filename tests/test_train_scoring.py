"""Names of dev scores: each once, and never silently none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.build import build_task  # noqa: E402
from jinyi.train.recipe import reading  # noqa: E402
from jinyi.train.tasks.scoring import choose_metric, summarise  # noqa: E402
from small_models import write_small  # noqa: E402


def test_each_score_stands_once() -> None:
    assert summarise({"a": {"f1": 0.5, "auc": 0.75}}) == {"f1": 0.5, "auc": 0.75}
    assert summarise({"a": {"f1": 0.5, "auc": 0.75}, "b": {"f1": 1.0}}) == {
        "f1": 0.75,
        "auc": 0.75,
        "a_f1": 0.5,
        "a_auc": 0.75,
        "b_f1": 1.0,
    }
    assert summarise({}) == {}


def test_the_metric_is_one_of_them(tmp_path: Path) -> None:
    recipe = reading.parse(
        "{name: toy, task: pair, data: {train: [a.jsonl]}, start: {model: m}, batch: {rows: 2}, "
        "schedule: {steps: 1}, objective: {outputs: 1}, evaluation: {}}"
    )
    named = reading.parse(reading.dump(recipe), sets=["data.dev=[b.jsonl]", "evaluation.metric=b_f1"])
    assert choose_metric(named, {"a": ("f1",), "b": ("f1", "auc")}, ("auc",)) == "b_f1"
    with pytest.raises(InputError, match="'b_f1'; expected one of auc, f1"):
        choose_metric(named, {"b": ("f1", "auc")}, ("auc",))


def test_grades_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    write_small(tmp_path / "model", "pair")
    rows = [{"texta": "怎么改密码", "textb": "今天天气", "score": grade} for grade in (0.0, 0.5, 1.0, 1.0)]
    for name, some in (("train", rows), ("dev", [{**row, "score": 0.5} for row in rows])):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = reading.parse(
        "{name: toy, task: pair, data: {train: [train.jsonl], dev: [dev.jsonl], max_length: 32}, "
        "start: {model: model}, batch: {rows: 2}, schedule: {steps: 1}, objective: {outputs: 1}}",
        sets=[f"data.folder={tmp_path}", f"start.model={tmp_path / 'model'}"],
    )
    with pytest.raises(InputError, match="dev.jsonl: found grades that are all equal in 4 rows"):
        build_task(recipe)
