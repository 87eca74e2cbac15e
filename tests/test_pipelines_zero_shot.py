"""The zero-shot-classification pipeline, beside that of transformers on the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi import TopicClassifier
from jinyi.errors import FolderError, InputError, TruncationWarning
from pipeline_tools import LABELS, LONG, TEXTS, assert_same, opened, theirs
from small_models import write_small

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
