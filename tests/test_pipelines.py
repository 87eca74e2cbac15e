"""Pipelines of all tasks: options, streams, errors, other processes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from folder_tools import edit
from jinyi.errors import FolderError, InputError, ModelNotFoundError
from jinyi.pipelines import TASKS
from pipeline_tools import LABELS, LONG, NAMED, PAIRS, TEXTS, assert_same, opened, theirs


def test_the_shipped_models() -> None:
    """Without a name each task has a model of its own, and needs nothing but the package."""
    similarity = jinyi.pipeline("sentence-similarity")
    same, other = similarity([("怎么改密码", "如何修改登录密码"), ("怎么改密码", "今天天气很好")])
    assert same > 0.3 > 0.05 > other
    (best,) = jinyi.pipeline("text-classification")("主队在加时赛里险胜，球迷们唱着歌走出球场")
    assert best["label"] == "体育"
    answer = jinyi.pipeline("zero-shot-classification")("央行下调存款利率，股市应声上涨", "体育,财经,旅游")
    assert answer["labels"][0] == "财经"
    assert len(jinyi.pipeline("feature-extraction")("你好")[0][0]) == 312


def test_the_shipped_pair_model_is_what_transformers_makes_of_it() -> None:
    from jinyi.registry import find_model

    folder = find_model("jinyi-tiny-pair")
    expected, ours = (
        theirs("text-classification", folder),
        jinyi.pipeline("text-classification", "jinyi-tiny-pair"),
    )
    assert_same(ours(NAMED), expected(NAMED))


@pytest.mark.parametrize(
    ("task", "nearest"),
    [
        ("text-clasification", "text-classification"),
        ("text_classification", "text-classification"),
        ("sentence_similarity", "sentence-similarity"),
        ("Feature-Extraction", "feature-extraction"),
        ("zero-shot", "zero-shot-classification"),
        ("sentiment", "sentiment-analysis"),
    ],
)
def test_unknown_tasks(task: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean {nearest}") as caught:
        jinyi.pipeline(task)
    assert all(name in str(caught.value) for name in TASKS)


@pytest.mark.parametrize("task", ["fill-mask", "", None, 3])
def test_tasks_far_from_any(task: Any) -> None:
    with pytest.raises(InputError, match="expected one of text-classification"):
        jinyi.pipeline(task)


def test_options_of_the_other_kind_of_model(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="pooling for a pair model"):
        opened("sentence-similarity", folders["pair"], pooling="mean")
    with pytest.raises(InputError, match="segment_ids for a model of vectors"):
        opened("sentence-similarity", folders["embed"], segment_ids="zeros")


def test_unknown_options(folders: dict[str, Path]) -> None:
    with pytest.raises(TypeError, match="'topk'; did you mean top_k"):
        jinyi.pipeline("text-classification", folders["classes"], topk=1)
    with pytest.raises(TypeError, match="'precison'; did you mean precision"):
        jinyi.pipeline("zero-shot-classification", folders["topic"], precison="int8")
    ours = jinyi.pipeline("feature-extraction", folders["embed"])
    with pytest.raises(TypeError, match="no option 'colour'; it has .*return_tensors$"):
        ours(TEXTS, colour="red")
    for options in (
        {"top_k": 0},
        {"top_k": "all"},
        {"function_to_apply": "tanh"},
        {"output": "xml"},
        {"batch_size": 0},
        {"truncate": "cut"},
    ):
        with pytest.raises(InputError):
            jinyi.pipeline("text-classification", folders["classes"], **options)
    for device in ("tpu", 1, "cuda:1"):
        with pytest.raises(InputError, match="device"):
            jinyi.pipeline("feature-extraction", folders["embed"], device=device)
    with pytest.raises(ModelNotFoundError):
        jinyi.pipeline("text-classification", "no-such-model")
    assert (
        jinyi.pipeline("feature-extraction", folders["embed"], device=-1, threads=1).info()["device"] == "cpu"
    )


@pytest.mark.parametrize(
    ("task", "model", "rows"),
    [
        ("text-classification", "classes", TEXTS),
        ("text-classification", "pair", PAIRS),
        ("sentence-similarity", "embed", PAIRS),
        ("zero-shot-classification", "topic", TEXTS),
        ("feature-extraction", "embed", TEXTS),
    ],
)
def test_streams_and_sequences(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, task: str, model: str, rows: list[Any]
) -> None:
    monkeypatch.setattr("jinyi.pipelines.base.STREAM_BLOCK", 3)
    options = {"candidate_labels": LABELS} if task.startswith("zero") else {}
    ours = opened(task, folders[model], **options)
    drawn: list[int] = []

    def generate() -> Iterator[Any]:
        for number in range(100):
            drawn.append(number)
            yield rows[number % len(rows)]

    stream = ours(generate())
    assert isinstance(stream, Iterator) and not drawn
    begin = [next(stream) for _ in range(4)]
    assert len(drawn) == 6  # two blocks of three
    expected = ours([rows[number % len(rows)] for number in range(4)])
    assert_same(begin, expected)
    assert_same(list(ours(iter(rows))), ours(rows))
    if not isinstance(rows[0], tuple):
        assert_same(ours(tuple(rows)), ours(rows))
        assert_same(ours(np.array(rows)), ours(rows))
    bad = ours(iter([*rows, *rows, ""]))
    with pytest.raises(InputError, match=f"of the inputs from number {len(rows) * 2 // 3 * 3} on, row "):
        list(bad)


def test_rows_of_a_stream_count_from_its_start(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jinyi.pipelines.base.STREAM_BLOCK", 3)
    ours = opened("text-classification", folders["classes"])
    with pytest.raises(InputError, match="from number 3 on, row 1: found") as caught:
        list(ours(iter([*TEXTS[:4], LONG]), truncate="error"))
    assert caught.value.rows == (4,)
    with pytest.raises(InputError, match="^row 1: found") as caught:
        list(ours(iter([TEXTS[0], LONG]), truncate="error"))
    assert caught.value.rows == (1,)


def test_a_pipeline_goes_into_another_process(folders: dict[str, Path]) -> None:
    for task, model in (
        ("text-classification", "pair"),
        ("sentence-similarity", "pair"),
        ("sentence-similarity", "embed"),
    ):
        ours = opened(task, folders[model])
        assert pickle.loads(pickle.dumps(ours))(PAIRS) == ours(PAIRS)
        assert str(folders[model]) in repr(ours)
    for task, model in (
        ("zero-shot-classification", "topic"),
        ("zero-shot-classification", "nli"),
        ("text-classification", "topic"),
    ):
        options = {"candidate_labels": LABELS} if task.startswith("zero") else {}
        ours = opened(task, folders[model], **options)
        assert pickle.loads(pickle.dumps(ours))(TEXTS) == ours(TEXTS)


def test_answers_are_json(folders: dict[str, Path]) -> None:
    answers = [
        opened("text-classification", folders["classes"])(TEXTS, top_k=None),
        opened("text-classification", folders["topic"])(TEXTS),
        opened("sentence-similarity", folders["pair"])(PAIRS),
        opened("sentence-similarity", folders["embed"])(PAIRS),
        opened("zero-shot-classification", folders["topic"])(TEXTS, LABELS),
        opened("feature-extraction", folders["embed"])(TEXTS[0]),
    ]
    for answer in answers:
        assert json.loads(json.dumps(answer, ensure_ascii=False)) == answer


def test_damage_shows_when_a_pipeline_opens(tmp_path: Path, folders: dict[str, Path]) -> None:
    """The golden inputs are checked here too."""
    from shutil import copytree

    from jinyi.folder import Golden
    from jinyi.models.golden import make_golden

    for task, name in (("text-classification", "pair"), ("zero-shot-classification", "topic")):
        golden: Golden = make_golden(folders[name])
        copytree(folders[name], tmp_path / name)
        body = golden.to_dict()
        edit(tmp_path / name / "jinyi.json", golden=body)
        jinyi.pipeline(task, tmp_path / name)
        body["values"] = (np.asarray(body["values"]) + 0.01).tolist()
        edit(tmp_path / name / "jinyi.json", golden=body)
        with pytest.raises(FolderError, match="golden"):
            jinyi.pipeline(task, tmp_path / name)
