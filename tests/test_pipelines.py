"""Pipelines give what transformers' own pipelines give for the same folder: keys, nesting, order, numbers."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from folder_tools import edit
from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.errors import FolderError, InputError, ModelNotFoundError, TruncationWarning
from jinyi.pipelines import TASKS
from small_models import VOCAB, write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好，abc 123", "新闻"]
PAIRS = [("怎么改密码", "如何修改登录密码？"), ("今天天气很好", "心情不好"), ("新闻", "财经新闻的一则")]
NAMED = [{"text": a, "text_pair": b} for a, b in PAIRS]
LONG = "今天天气很好，心情不好。" * 10
# Small random weights have extreme scores, where a difference of a float's last place shows less.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ["contradiction", "neutral", "entailment"]
    return write_small(tmp_path_factory.mktemp("nli") / "m", "classes", outputs=3, labels=labels)


@pytest.fixture(scope="module")
def folders(small_folders: Path, nli: Path) -> dict[str, Path]:
    names = ("embed", "pair", "pair1", "topic", "classes", "megatron")
    return {name: small_folders / name for name in names} | {"nli": nli}


def theirs(task: str, folder: Path, **options: Any) -> Any:
    from transformers import pipeline

    return pipeline(task, model=str(folder), device="cpu", **options)


@cache
def _opened(task: str, folder: Path) -> Any:
    return jinyi.pipeline(task, folder)


def opened(task: str, folder: Path, **options: Any) -> Any:
    """A pipeline; without options the same one again."""
    return jinyi.pipeline(task, folder, **options) if options else _opened(task, folder)


def assert_same(ours: Any, expected: Any, at: str = "") -> None:
    """Same types, keys in the same order, lengths and texts; numbers within CLOSE."""
    assert type(ours) is type(expected), (at, ours, expected)
    if isinstance(expected, dict):
        assert list(ours) == list(expected), at
        for key in expected:
            assert_same(ours[key], expected[key], f"{at}.{key}")
    elif isinstance(expected, list):
        assert len(ours) == len(expected), (at, ours, expected)
        for place, (own, other) in enumerate(zip(ours, expected, strict=True)):
            assert_same(own, other, f"{at}[{place}]")
    elif isinstance(expected, float):
        assert ours == pytest.approx(expected, abs=CLOSE), at
    else:
        assert ours == expected, at


# --------------------------------------------------------------------------------------- text-classification

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


# ------------------------------------------------------------------------------------ sentence-similarity


@pytest.mark.parametrize("model", ["pair", "pair1"])
def test_similarity_of_a_pair_model(folders: dict[str, Path], model: str) -> None:
    ours, scorer = opened("sentence-similarity", folders[model]), PairScorer.load(folders[model])
    scores = [float(score) for score in scorer.predict(PAIRS)]
    assert ours(PAIRS) == scores and ours([list(pair) for pair in PAIRS]) == scores
    assert ours(NAMED) == scores and ours(["[SEP]".join(pair) for pair in PAIRS]) == scores
    for single in (PAIRS[0], NAMED[0], "[SEP]".join(PAIRS[0])):
        one = ours(single)
        assert type(one) is float and one == pytest.approx(scores[0], abs=1e-6)
    asked = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    expected = scorer.predict([(TEXTS[0], text) for text in TEXTS]).tolist()
    assert ours(asked) == expected and ours([asked, asked]) == [expected, expected]
    mixed = ours([asked, PAIRS[0]])
    assert mixed[0] == pytest.approx(expected, abs=1e-6) and type(mixed[1]) is float
    assert ours({"source_sentence": TEXTS[0], "sentences": []}) == [] and ours([]) == []
    assert ours(PAIRS, symmetric=False) == scorer.predict(PAIRS, symmetric=False).tolist() != scores


def test_similarity_of_vectors(folders: dict[str, Path]) -> None:
    ours, encoder = (
        opened("sentence-similarity", folders["embed"]),
        SentenceEncoder.load(folders["embed"]),
    )
    asked = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    assert ours(asked) == pytest.approx(encoder.similarity(TEXTS[:1], TEXTS)[0].tolist(), abs=1e-6)
    assert ours(asked)[0] == pytest.approx(1, abs=1e-6)
    cosines = encoder.similarity_pairwise([a for a, _ in PAIRS], [b for _, b in PAIRS])
    assert ours(PAIRS, batch_size=2) == pytest.approx(cosines.tolist(), abs=1e-6)
    with pytest.raises(InputError, match="symmetric for a model of vectors"):
        ours(PAIRS, symmetric=True)
    with pytest.warns(TruncationWarning):
        ours((LONG, TEXTS[0]), max_length=20)


def test_similarity_asks_for_pooling(folders: dict[str, Path]) -> None:
    for name in ("classes", "topic"):
        with pytest.raises(FolderError, match="no word on pooling"):
            opened("sentence-similarity", folders[name])
    ours = opened("sentence-similarity", folders["topic"], pooling="cls")
    expected = SentenceEncoder.load(folders["topic"], pooling="cls").similarity_pairwise(
        *[[text] for text in PAIRS[0]]
    )
    assert ours(PAIRS[0]) == pytest.approx(float(expected[0]), abs=1e-6)


def test_similarity_by_a_classifier_of_several_labels(folders: dict[str, Path]) -> None:
    ours = opened("sentence-similarity", folders["classes"], similar_label="新闻")
    assert ours(PAIRS) == PairScorer.load(folders["classes"], similar_label=2).predict(PAIRS).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source_sentence": "a", "sentences": "b"}, "sentences being one text"),
        ({"source_sentence": "a"}, "found a dict with 'source_sentence'"),
        ({"source_sentence": "a", "sentences": None}, "None"),
        ({"source_sentence": "a", "sentences": ["b", ""]}, "row 0, sentence 1: found an empty text"),
        ({"source_sentence": "", "sentences": ["b"]}, "row 0, source_sentence: found an empty text"),
        ({"source": "a"}, "a dict with 'source'"),
        ({"text": "a"}, "row 0: found 'a' with no [SEP]"),
        (["a", "b"], "row 0: found 'a' with no [SEP]"),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["pair", "embed"])
def test_bad_input_of_similarity(folders: dict[str, Path], model: str, given: Any, message: str) -> None:
    ours = opened("sentence-similarity", folders[model])
    with pytest.raises(InputError, match=re.escape(message)):
        ours(given)


def test_similarity_of_pairs_has_no_max_length(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="max_length for a pair model"):
        opened("sentence-similarity", folders["pair"])(PAIRS, max_length=20)


# -------------------------------------------------------------------------------- zero-shot-classification

LABELS = ["体育", "财经", "天气", "心情"]
TEMPLATE = "这是关于{}的新闻。"


@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"hypothesis_template": TEMPLATE}], ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)], ids=str)
def test_zero_shot_by_entailment(tmp_path: Path, options: dict[str, Any], order: tuple[int, ...]) -> None:
    names = [["contradiction", "neutral", "Entailment"][place] for place in order]
    folder = write_small(tmp_path / "m", "classes", outputs=3, labels=names)
    expected, ours = (
        theirs("zero-shot-classification", folder),
        opened("zero-shot-classification", folder),
    )
    for given in (TEXTS[0], TEXTS, [TEXTS[1]]):
        for labels in (LABELS, "体育, 财经", ["体育"]):
            assert_same(
                ours(given, labels, **options), expected(given, labels, **options), f"{given} {labels}"
            )
    keyword = {"candidate_labels": LABELS, **options}
    assert_same(ours(TEXTS[0], **keyword), expected(TEXTS[0], **keyword))


def test_contradiction_is_found_by_its_name(tmp_path: Path) -> None:
    """transformers takes output 0 for it, or the last one, whatever the labels say."""
    folder = write_small(tmp_path / "m", "classes", outputs=3, labels=["中立", "矛盾", "蕴含"])
    english = write_small(
        tmp_path / "e", "classes", outputs=3, labels=["neutral", "contradiction", "entailment"]
    )
    answers = [
        opened("zero-shot-classification", path)(TEXTS, LABELS, multi_label=True)
        for path in (folder, english)
    ]
    assert_same(answers[0], answers[1])
    logits = opened("text-classification", english)(
        {"text": TEXTS[0], "text_pair": "This example is 体育."}, function_to_apply="none", top_k=None
    )
    by_name = {entry["label"]: entry["score"] for entry in logits}
    score = dict(zip(answers[0][0]["labels"], answers[0][0]["scores"], strict=True))["体育"]
    odds = by_name["entailment"] - by_name["contradiction"]
    assert score == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)


def test_two_labels_of_entailment(tmp_path: Path) -> None:
    folder = write_small(
        tmp_path / "m", "pair", outputs=2, labels=["not_entailment", "entailment"], similar_label=1
    )
    expected, ours = (
        theirs("zero-shot-classification", folder),
        opened("zero-shot-classification", folder),
    )
    for options in ({}, {"multi_label": True}):
        assert_same(ours(TEXTS, LABELS, **options), expected(TEXTS, LABELS, **options))


@pytest.mark.parametrize("labels", [LABELS, ["新闻", "天气很好", "体"]], ids=str)
def test_zero_shot_by_label_words(folders: dict[str, Path], labels: list[str]) -> None:
    ours = opened("zero-shot-classification", folders["topic"])
    for template in (None, "关于{}：{text}。"):
        proba = TopicClassifier.load(folders["topic"], labels=labels, prompt=template).predict_proba(TEXTS)
        answers = ours(TEXTS, labels, hypothesis_template=template)
        assert [answer["sequence"] for answer in answers] == TEXTS
        for row, answer in zip(proba, answers, strict=True):
            assert list(answer) == ["sequence", "labels", "scores"]
            assert answer["scores"] == sorted(answer["scores"], reverse=True)
            assert dict(zip(answer["labels"], answer["scores"], strict=True)) == pytest.approx(
                dict(zip(labels, row.tolist(), strict=True)), abs=1e-6
            )
    assert_same(ours(TEXTS[0], labels), ours(TEXTS, labels)[0])
    assert_same(ours(TEXTS[:1], labels), ours(TEXTS, labels)[:1])


def test_each_label_on_its_own(folders: dict[str, Path]) -> None:
    ours = opened("zero-shot-classification", folders["topic"])
    several = ours(TEXTS[0], LABELS, multi_label=True)
    scores = dict(zip(several["labels"], several["scores"], strict=True))
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)
    for label in LABELS:  # the others do not matter
        assert ours(TEXTS[0], [label])["scores"] == pytest.approx([scores[label]], abs=1e-6)
    # A text without content says nothing about any label.
    assert ours("。", LABELS, multi_label=True)["scores"] == pytest.approx([0.5] * 4, abs=1e-6)
    # The odds are those of the word with the text to without it, by the classifier's own numbers.
    pair = TopicClassifier.load(folders["topic"], labels=LABELS[:2])
    with_text, without = (np.log(pair.predict_proba(text).astype(np.float64)) for text in (TEXTS[0], "。"))
    odds = {label: np.log(scores[label] / (1 - scores[label])) for label in LABELS[:2]}
    difference = (with_text - without)[0] - (with_text - without)[1]
    assert odds["体育"] - odds["财经"] == pytest.approx(difference, abs=1e-3)


def test_commas_of_all_kinds(folders: dict[str, Path]) -> None:
    ours = opened("zero-shot-classification", folders["topic"], candidate_labels=LABELS)
    answer = ours(TEXTS[0])
    for labels in ("体育,财经,天气,心情", " 体育，财经、天气 , 心情,", tuple(LABELS), iter(LABELS)):
        assert ours(TEXTS[0], labels) == answer


@pytest.mark.parametrize(
    "labels", [None, "", ",", [], ["体育", ""], ["体育", 3], ["体育", "体育 "], {"体育": 1}, 3], ids=repr
)
@pytest.mark.parametrize("model", ["topic", "nli"])
def test_bad_labels(folders: dict[str, Path], model: str, labels: Any) -> None:
    ours = opened("zero-shot-classification", folders[model])
    with pytest.raises(InputError, match="candidate_labels"):
        ours(TEXTS, labels)


def test_bad_options_of_zero_shot(folders: dict[str, Path]) -> None:
    for model in ("topic", "nli"):
        ours = opened("zero-shot-classification", folders[model])
        for template in ("新闻", "{}{}", 3):
            with pytest.raises(InputError):
                ours(TEXTS, LABELS, hypothesis_template=template)
        with pytest.raises(InputError, match="row 1"):
            ours([TEXTS[0], ""], LABELS)
    with pytest.raises(InputError, match="max_length"):
        opened("zero-shot-classification", folders["topic"])(TEXTS, LABELS, max_length=20)
    with pytest.raises(InputError, match="characters outside this model's vocabulary"):
        opened("zero-shot-classification", folders["topic"])(TEXTS, ["龘", "体育"])
    for model, kind in (
        ("pair", "a classifier of not similar, similar"),
        ("classes", "体育, 财经"),
        ("embed", "an encoder"),
    ):
        with pytest.raises(FolderError, match=kind):
            opened("zero-shot-classification", folders[model])


def test_long_texts_of_zero_shot(folders: dict[str, Path]) -> None:
    for model in ("topic", "nli"):
        ours = opened("zero-shot-classification", folders[model])
        with pytest.warns(TruncationWarning, match="cut"):
            ours([TEXTS[0], LONG], LABELS, hypothesis_template="关于{}")
        with pytest.raises(InputError, match="tokens"):
            ours([TEXTS[0], LONG], LABELS, hypothesis_template="关于{}", truncate="error")
    windows = opened("zero-shot-classification", folders["topic"])(LONG, LABELS, truncate="window")
    proba = TopicClassifier.load(folders["topic"], labels=LABELS).predict_proba(LONG, truncate="window")
    assert windows["scores"] == pytest.approx(sorted(proba.tolist(), reverse=True), abs=1e-6)


# ------------------------------------------------------------------------------------- feature-extraction


@pytest.mark.parametrize("model", ["embed", "megatron", "topic", "pair"])
def test_feature_extraction(folders: dict[str, Path], model: str) -> None:
    expected, ours = (
        theirs("feature-extraction", folders[model]),
        opened("feature-extraction", folders[model]),
    )
    for given in (TEXTS[0], TEXTS, [TEXTS[1]], [TEXTS[0], TEXTS[0]]):
        assert_same(ours(given), expected(given))
    tensors, their_tensors = ours(TEXTS, return_tensors=True), expected(TEXTS, return_tensors=True)
    for own, other in zip(tensors, their_tensors, strict=True):
        assert own.shape == other.shape and own.dtype == other.dtype
        np.testing.assert_allclose(own, other, atol=1e-5)
    arrays = ours(TEXTS, return_tensors="np")
    assert all(isinstance(array, np.ndarray) and array.dtype == np.float32 for array in arrays)
    assert [array.tolist() for array in arrays] == ours(TEXTS)
    assert ours(TEXTS[0], return_tensors="np").shape == (1, 7, 32)


def test_the_pipelines_share_the_first_token_with_the_encoder(folders: dict[str, Path]) -> None:
    states = opened("feature-extraction", folders["embed"])(TEXTS, return_tensors="np")
    encoder = SentenceEncoder.load(folders["embed"], pooling="cls")
    first = np.stack([state[0, 0] for state in states])
    np.testing.assert_allclose(encoder.encode(TEXTS, normalize=False), first, atol=1e-5)


def test_arrays_of_equal_texts_are_not_shared(folders: dict[str, Path]) -> None:
    one, two = opened("feature-extraction", folders["embed"])([TEXTS[0]] * 2, return_tensors="np")
    one[:] = 0
    assert np.abs(two).max() > 0.1


def test_long_texts_of_feature_extraction(folders: dict[str, Path]) -> None:
    ours = opened("feature-extraction", folders["embed"])
    rows = [LONG, TEXTS[0], LONG]
    with pytest.warns(TruncationWarning, match="2 of 3 texts cut"):
        cut = ours(rows)
    assert [len(row[0]) for row in cut] == [48, 7, 48]
    expected = theirs("feature-extraction", folders["embed"])
    options = {"truncation": True, "tokenize_kwargs": {"max_length": 10}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        assert_same(ours(rows, **options), expected(rows, **options))
    with pytest.raises(InputError, match="row 0 has .*row 2 has"):
        ours(rows, truncate="error")
    with pytest.raises(InputError, match="no one row"):
        ours(rows, truncate="window")
    with pytest.raises(InputError, match="return_tensors"):
        ours(rows, return_tensors="tf")


# ------------------------------------------------------------------------------------------- all of them


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
