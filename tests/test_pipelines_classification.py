"""The text-classification pipeline, beside that of transformers on the same folder."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from folder_tools import edit
from jinyi import PairScorer, TopicClassifier
from jinyi.errors import FolderError, InputError, TruncationWarning
from pipeline_tools import LONG, NAMED, PAIRS, TEXTS, assert_same, opened, theirs
from small_models import VOCAB, write_small

OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_k": None},
    {"top_k": 1},
    {"top_k": 2},
    {"function_to_apply": "none"},
    {"function_to_apply": "SIGMOID", "top_k": None},
    {"function_to_apply": "softmax", "top_k": None},
]


@pytest.mark.parametrize("model", ["classes", "pair", "pair1", "nli"])
def test_text_classification(folders: dict[str, Path], model: str) -> None:
    pair_model = model.startswith("pair")
    expected, ours = (
        theirs("text-classification", folders[model]),
        opened("text-classification", folders[model]),
    )
    inputs: list[Any] = [NAMED[0], NAMED, [NAMED[1]]]
    if not pair_model:
        inputs += [TEXTS[0], TEXTS, [TEXTS[1]], {"text": TEXTS[2]}, [*TEXTS, *NAMED]]
    for given in inputs:
        for options in OPTIONS:
            assert_same(ours(given, **options), expected(given, **options), f"{given} {options}")


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_options_of_the_pipeline_hold_for_every_call(
    folders: dict[str, Path], options: dict[str, Any]
) -> None:
    """With `top_k` given here and not in the call, transformers wraps the answer to one text a second time."""
    expected = theirs("text-classification", folders["classes"], **options)
    ours = opened("text-classification", folders["classes"], **options)
    for given in (TEXTS[0], TEXTS, NAMED[0]):
        assert_same(ours(given), expected(given))
    assert_same(ours(TEXTS[0], top_k=3), expected(TEXTS[0], top_k=3))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        *(("classes", problem) for problem in ("regression", "multi_label_classification")),
        *(("classes", problem) for problem in ("single_label_classification", None)),
        *(("pair1", problem) for problem in ("regression", "multi_label_classification", None)),
    ],
)
def test_the_problem_type_decides_the_function(
    tmp_path: Path, folders: dict[str, Path], model: str, problem: str | None
) -> None:
    outputs, task = (3, "classes") if model == "classes" else (1, "pair")
    labels = ["体育", "财经", "新闻"] if outputs == 3 else ["similar"]
    folder = write_small(tmp_path / "m", task, outputs=outputs, labels=labels)
    edit(folder / "config.json", problem_type=problem)
    expected, ours = theirs("text-classification", folder), opened("text-classification", folder)
    assert_same(ours(NAMED, top_k=None), expected(NAMED, top_k=None))


def test_many_rows_of_all_lengths(folders: dict[str, Path]) -> None:
    """Rows are computed in batches sorted by length here, one by one there."""
    rng = np.random.default_rng(0)
    characters = [entry for entry in VOCAB if len(entry) == 1]

    def text() -> str:
        return "".join(rng.choice(characters, rng.integers(1, 22)).tolist())

    rows: list[Any] = [
        text() if rng.random() < 0.5 else {"text": text(), "text_pair": text()} for _ in range(200)
    ]
    ours, expected = (make("text-classification", folders["classes"]) for make in (opened, theirs))
    answers = ours(rows, top_k=None)
    assert_same(answers, expected(rows, top_k=None))
    assert_same(ours(rows, top_k=None, batch_size=7), answers)
    assert_same(ours(rows[::-1], top_k=None), answers[::-1])


def test_one_string_pairs(folders: dict[str, Path]) -> None:
    """ModelScope's form; with segments all zero the numbers are those of a tokenizer that reads [SEP] as its own."""
    joined = ["[SEP]".join(pair) for pair in PAIRS]
    for model in ("pair", "pair1"):
        ours = opened("text-classification", folders[model])
        expected = theirs("text-classification", folders[model])
        assert_same(ours(joined, top_k=None, segment_ids="zeros"), expected(joined, top_k=None))
        assert_same(ours(joined[0], segment_ids="zeros"), expected(joined[0]))
        assert ours(joined) == ours(NAMED) == ours(PAIRS) == ours([list(pair) for pair in PAIRS])
        assert ours(PAIRS[0]) == ours(NAMED[0]) == ours(joined)[0]
        assert ours(joined, top_k=None) != ours(joined, top_k=None, segment_ids="zeros")


def test_text_stays_text(folders: dict[str, Path]) -> None:
    """[SEP] in a text for a model of single texts, or beside another one, is five characters."""
    classes = opened("text-classification", folders["classes"])
    assert classes("改[SEP]密码", top_k=None) != classes(("改", "密码"), top_k=None)
    pair = opened("text-classification", folders["pair"])
    a, b = pair([{"text": "改[SEP]密", "text_pair": "码"}, {"text": "改密", "text_pair": "码"}])
    assert a != b


def test_segments_as_the_folder_says(tmp_path: Path, folders: dict[str, Path]) -> None:
    folder = tmp_path / "m"
    write_small(folder, "pair", outputs=2, labels=["not similar", "similar"])
    edit(folder / "jinyi.json", segment_ids="zeros")
    for task in ("text-classification", "sentence-similarity"):
        stated, other = jinyi.pipeline(task, folder), opened(task, folders["pair"])
        assert stated(PAIRS) != other(PAIRS)
        asked = {"segment_ids": "zeros"}
        if task == "text-classification":
            assert stated(PAIRS) == other(PAIRS, **asked)
            assert stated(PAIRS, segment_ids="pair") == other(PAIRS)
        assert stated(PAIRS) == opened(task, folders["pair"], **asked)(PAIRS)
    with pytest.raises(InputError, match="segment_ids"):
        opened("text-classification", folders["pair"], segment_ids="ones")
    with pytest.raises(InputError, match="segment_ids"):
        opened("sentence-similarity", folders["pair"], segment_ids="ones")


def test_modelscope_output(folders: dict[str, Path]) -> None:
    ours = opened("text-classification", folders["pair"], output="modelscope")
    answer = ours("怎么改密码[SEP]如何修改登录密码？")
    assert list(answer) == ["scores", "labels"]
    assert sorted(answer["labels"]) == ["not similar", "similar"]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    plain = ours(PAIRS[0], output="transformers", top_k=None)
    assert [entry["score"] for entry in plain] == answer["scores"]
    assert [entry["label"] for entry in plain] == answer["labels"]
    assert ours(PAIRS)[0] == answer and ours(PAIRS[0]) == answer
    assert ours(PAIRS[0], top_k=1) == {key: value[:1] for key, value in answer.items()}


def test_pair_scores_are_the_scorers(folders: dict[str, Path]) -> None:
    ours = opened("text-classification", folders["pair"])(PAIRS, top_k=None)
    scores = PairScorer.load(folders["pair"]).predict(PAIRS, symmetric=False)
    similar = [next(entry["score"] for entry in row if entry["label"] == "similar") for row in ours]
    assert similar == pytest.approx(scores.tolist(), abs=1e-6)


def test_a_topic_model_classifies_texts(folders: dict[str, Path]) -> None:
    ours = opened("text-classification", folders["topic"])
    topics = TopicClassifier.load(folders["topic"])
    proba = topics.predict_proba(TEXTS)
    answers = ours(TEXTS, top_k=None)
    for row, answer in zip(proba, answers, strict=True):
        assert {entry["label"]: entry["score"] for entry in answer} == dict(
            zip(topics.classes_.tolist(), row.tolist(), strict=True)
        )
        assert answer[0]["score"] >= answer[1]["score"]
    assert ours(TEXTS[0]) == [answers[0][0]] and ours({"text": TEXTS[0]}) == answers[0][0]
    assert ours(TEXTS) == [answer[0] for answer in answers]
    other = opened("text-classification", folders["topic"], labels=["天气", "心情"], prompt="{}：")
    assert {entry["label"] for entry in other(TEXTS[0], top_k=None)} == {"天气", "心情"}
    with pytest.raises(InputError, match="row 1: found a pair of texts for a topic model"):
        ours([TEXTS[0], PAIRS[0]])
    with pytest.raises(InputError, match="function_to_apply='none' for a topic model"):
        ours(TEXTS, function_to_apply="none")
    with pytest.raises(InputError, match="max_length"):
        ours(TEXTS, max_length=10)


def test_what_was_fitted_classifies(tmp_path: Path, folders: dict[str, Path]) -> None:
    labels = [7, 7, 3, 3, 7]
    for name in ("embed", "classes"):
        topics = TopicClassifier.load(folders[name]).fit(TEXTS, labels)
        saved = topics.save(tmp_path / name)
        answers = opened("text-classification", saved)(TEXTS)
        assert [answer["label"] for answer in answers] == [str(label) for label in topics.predict(TEXTS)]
    with pytest.raises(FolderError, match="without labels"):
        jinyi.pipeline("text-classification", folders["embed"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("怎么改密码", "pair: found '怎么改密码' with no [SEP]"),
        (["怎么改密码[SEP]改", "a[SEP]b[SEP]c"], "row 1: found 'a[SEP]b[SEP]c' with 2 [SEP]"),
        ([("a", "b"), ("a", "b", "c")], "row 1: found ('a', 'b', 'c'), a tuple of 3"),
        ([{"text": "a"}], "row 0: found 'a' with no [SEP]"),
        ([{"texta": "a", "textb": "b"}], "a dict with 'texta', 'textb'"),
        ([{}], "a dict with nothing in it"),
        ([("a", " ")], "row 0, second text: found a text of nothing but blanks"),
        ([("a", None)], "row 0, second text: found None"),
        ([3], "row 0: found 3 of type int"),
        (3, "found 3 of type int"),
    ],
    ids=str,
)
def test_bad_pairs(folders: dict[str, Path], given: Any, message: str) -> None:
    ours = opened("text-classification", folders["pair"])
    with pytest.raises(InputError, match=re.escape(message.removeprefix("pair: "))):
        ours(given)


def test_a_foreign_classifier_of_two_labels_reads_single_texts_too(tmp_path: Path) -> None:
    """It may be one of sentiment: nothing in the folder says that it is for pairs."""
    folder = write_small(tmp_path / "m", "pair", outputs=2, labels=["负面", "正面"], similar_label=1)
    (folder / "jinyi.json").unlink()
    ours, expected = opened("sentiment-analysis", folder), theirs("sentiment-analysis", folder)
    for given in (TEXTS, TEXTS[0], NAMED):
        assert_same(ours(given, top_k=None), expected(given, top_k=None))


def test_equal_rows_are_one(folders: dict[str, Path]) -> None:
    ours = opened("text-classification", folders["classes"])
    assert ours([TEXTS[0], NAMED[0], TEXTS[0], NAMED[0]]) == ours([TEXTS[0], NAMED[0]]) * 2
    assert ours([]) == []


def test_long_rows(folders: dict[str, Path]) -> None:
    ours, expected = (
        opened("text-classification", folders["classes"]),
        theirs("text-classification", folders["classes"]),
    )
    rows = [TEXTS[0], LONG, {"text": LONG, "text_pair": TEXTS[0]}]
    with pytest.warns(TruncationWarning, match=r"2 of 3 texts cut.*rows 1, 2"):
        cut = ours(rows, top_k=None)
    assert_same(cut, expected(rows, top_k=None, truncation=True, max_length=48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        # Names of transformers, which go through to its tokenizer.
        short = ours(rows, top_k=None, truncation=True, max_length=12, padding=True, batch_size=2)
        assert_same(short, expected(rows, top_k=None, truncation=True, max_length=12))
        assert ours(TEXTS[0], truncation=True) == ours(TEXTS[0])
        assert ours(rows, truncation=None, tokenize_kwargs=None, top_k=None) == cut
        assert ours(rows, truncation="longest_first", top_k=None) == cut
    with pytest.raises(InputError, match="row 1, row 2: found"):
        ours(rows, truncate="error")
    with pytest.raises(InputError, match="row 1: found"):
        ours(rows[:2], truncation=False)
    with pytest.raises(InputError, match="Pairs are read whole or cut"):
        ours(rows, truncate="window")
    whole = ours([LONG], truncate="window", top_k=None)
    assert whole != cut[1:2] and sum(entry["score"] for entry in whole[0]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="truncate and truncation"):
        ours(TEXTS, truncate="warn", truncation=True)
    with pytest.raises(InputError, match="from 4 to 48 tokens"):
        ours(TEXTS, max_length=49)
