"""Rows apart from the engine: what `prepare` and `finish` give is what the models compute themselves."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi import InputError, PairScorer, SentenceEncoder, TopicClassifier
from jinyi.batches import Batch
from jinyi.models.open_labels import OpenLabels
from jinyi.models.source import FolderEngine, Source
from jinyi.models.work import Outputs, run
from jinyi.pipelines import pipeline
from jinyi.runtime import Head, Output

TEXTS = ["今天心情不好", "怎么改密码？", "主队赢了", "怎么改密码？", "面条很好吃，就是排队太久" * 30]
PAIRS = [("今天心情不好", "今天很开心"), ("怎么改密码？", "如何修改密码"), ("主队赢了", "股票涨了" * 80)]
LABELS = ["体育", "财经", "好", "新闻"]


class Counting:
    """An engine that hands batches on and counts their rows, as one of another place would."""

    def __init__(self, source: Source, head: Head) -> None:
        self._inner = FolderEngine(replace(source, opener=None), head)
        self.precision = self._inner.precision
        self.rows = 0

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        for batch, output in self._inner.run(batches, shared=shared):
            self.rows += len(batch.rows)
            yield batch, output

    def info(self) -> dict[str, Any]:
        return {"device": "elsewhere"}


def test_vectors(folders: dict[str, Path]) -> None:
    encoder = SentenceEncoder.load(folders["embed"])
    for options in (
        {},
        {"normalize": False, "truncate_dim": 5},
        {"truncate": "window"},
        {"prompt": "查询："},
    ):
        work = encoder.prepare(TEXTS, **options)
        expected = encoder.encode(TEXTS, **{"truncate": "warn", **options}) if "truncate" in options else None
        if expected is None:
            with pytest.warns(UserWarning, match="cut"):
                expected = encoder.encode(TEXTS, **options)
            assert work.report.rows.tolist() == [4]
        np.testing.assert_allclose(run(work), expected, atol=1e-6)
    assert work.tokens == sum(len(ids) for ids in work.passes[0].encoded.ids) > len(TEXTS)
    with pytest.raises(InputError) as caught:
        encoder.prepare(TEXTS, truncate="error")
    assert caught.value.rows == (4,)


def test_states_of_tokens(folders: dict[str, Path]) -> None:
    encoder = SentenceEncoder.load(folders["embed"])
    work = encoder.prepare_tokens(TEXTS)
    states = run(work)
    expected = pipeline("feature-extraction", folders["embed"])(TEXTS[:4])
    assert [len(state) for state in states] == [len(ids) for ids in work.passes[0].encoded.ids]
    for state, wanted in zip(states, expected, strict=False):
        np.testing.assert_allclose(state, np.asarray(wanted)[0], atol=1e-6)
    with pytest.raises(InputError, match="truncate"):
        encoder.prepare_tokens(TEXTS, truncate="window")


@pytest.mark.parametrize("name", ["pair", "pair1"])
def test_pairs(folders: dict[str, Path], name: str) -> None:
    scorer = PairScorer.load(folders[name])
    for options in ({}, {"symmetric": False}, {"raw_scores": True}, {"segment_ids": "zeros"}):
        work = scorer.prepare(PAIRS, **options)
        with pytest.warns(UserWarning, match="cut"):
            np.testing.assert_allclose(run(work), scorer.predict(PAIRS, **options), atol=1e-6)
        assert work.report.rows.tolist() == [2] and work.report.total == 3
    with pytest.raises(InputError) as caught:
        scorer.prepare(PAIRS, truncate="error")
    assert caught.value.rows == (2,)


def test_topics(folders: dict[str, Path]) -> None:
    zero_shot = TopicClassifier.load(folders["topic"], labels=LABELS)
    classes = TopicClassifier.load(folders["classes"])
    texts, labels = TEXTS[:4] * 2, ["a", "b", "a", "c"] * 2
    joint = TopicClassifier.load(folders["topic"]).fit(texts, labels)
    ngrams = TopicClassifier.load(folders["topic"], features="ngrams").fit(texts, labels)
    reference = TopicClassifier.load(folders["topic"], method="reference").fit(texts, labels)
    for classifier in (zero_shot, classes, joint, ngrams, reference):
        work = classifier.prepare(TEXTS[:4])
        np.testing.assert_allclose(run(work), classifier.predict_proba(TEXTS[:4]), atol=1e-6)
        if classifier is not ngrams:
            with pytest.raises(InputError) as caught:
                classifier.prepare(TEXTS, truncate="error")
            assert caught.value.rows == (4,)
    whole = ngrams.prepare(TEXTS, truncate="error")
    assert not whole.passes and not whole.report.cut, "n-grams are of whole texts"


def test_open_labels_are_those_of_a_classifier(folders: dict[str, Path]) -> None:
    model = OpenLabels(Source.open(folders["topic"], "topic"))
    for labels in (LABELS, LABELS[:2], ["好", "新闻"]):
        work = model.prepare(TEXTS[:4], labels, prompt="关于{}的")
        expected = TopicClassifier.load(folders["topic"], labels=labels, prompt="关于{}的")
        np.testing.assert_allclose(run(work), expected.predict_proba(TEXTS[:4]), atol=1e-5)
        # An engine elsewhere sends back the scores of these words, not of a vocabulary.
        asked = [len(part.words) for part in work.passes if part.words is not None]
        assert len(asked) == len(work.passes) and max(asked) <= 2 * len(labels)
    alone = run(model.prepare(TEXTS[:4], LABELS, multi_label=True))
    expected = pipeline("zero-shot-classification", folders["topic"])(TEXTS[:4], LABELS, multi_label=True)
    for row, answer in zip(alone, expected, strict=True):
        assert dict(zip(LABELS, row.tolist(), strict=True)) == pytest.approx(
            dict(zip(answer["labels"], answer["scores"], strict=True)), abs=1e-6
        )


@pytest.mark.parametrize("prompt", ["没有", "{}和{}", 3])
def test_open_labels_refuse_a_prompt(folders: dict[str, Path], prompt: Any) -> None:
    model = OpenLabels(Source.open(folders["topic"], "topic"))
    with pytest.raises(InputError, match="prompt"):
        model.prepare(["好"], LABELS, prompt=prompt)


def test_nothing_is_refused(folders: dict[str, Path]) -> None:
    topics = OpenLabels(Source.open(folders["topic"], "topic"))
    calls: list[Any] = [
        lambda: SentenceEncoder.load(folders["embed"]).prepare([]),
        lambda: SentenceEncoder.load(folders["embed"]).prepare_tokens([]),
        lambda: PairScorer.load(folders["pair"]).prepare([]),
        lambda: TopicClassifier.load(folders["classes"]).prepare([]),
        lambda: topics.prepare([], LABELS),
        lambda: topics.prepare(["好"], []),
    ]
    for call in calls:
        with pytest.raises(InputError, match="found no"):
            call()


def test_engines_may_be_elsewhere() -> None:
    opened: list[Counting] = []

    def opener(source: Source, head: Head) -> Counting:
        opened.append(Counting(source, head))
        return opened[-1]

    encoder = SentenceEncoder.load(opener=opener)
    scorer = PairScorer.load(opener=opener)
    topics = TopicClassifier.load(labels=LABELS, opener=opener)
    golden = [engine.rows for engine in opened]
    assert len(opened) == 3 and all(golden)  # the golden sentences went through them
    calls = (
        (encoder.encode, SentenceEncoder.load().encode, TEXTS[:4]),
        (scorer.predict, PairScorer.load().predict, PAIRS[:2]),
        (
            topics.predict_proba,
            TopicClassifier.load(labels=LABELS).predict_proba,
            TEXTS[:4],
        ),
    )
    for ours, plain, inputs in calls:
        np.testing.assert_allclose(ours(inputs), plain(inputs), atol=1e-6)
    assert all(engine.rows > before for engine, before in zip(opened, golden, strict=True))
    assert encoder.info() == {"device": "elsewhere"}
    # A pickle goes where this opener is not.
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(encoder)).encode(TEXTS[:2]), encoder.encode(TEXTS[:2]), atol=1e-6
    )


def test_outputs_come_in_any_order() -> None:
    lengths = np.asarray([2, 1], np.int32)
    vectors = Outputs(3, ragged=True)
    vectors.put(np.asarray([2, 0]), lengths, np.asarray([[2.0], [0.0]], np.float32))
    vectors.put(np.asarray([1]), lengths[:1], np.asarray([[1.0]], np.float32))
    assert vectors.rows().tolist() == [[0.0], [1.0], [2.0]]
    states = Outputs(2, ragged=True)
    states.put(np.asarray([1, 0]), lengths, np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    assert [state.tolist() for state in states.rows()] == [[[4.0, 5.0]], [[0.0, 1.0], [2.0, 3.0]]]
    scores = Outputs(1, ragged=False)
    scores.put(
        np.zeros(1, np.int64), lengths[:1], (np.ones((1, 2, 3), np.float32), np.zeros((1, 2), np.float32))
    )
    assert [part.shape for part in scores.rows()] == [(1, 2, 3), (1, 2)]
    assert Outputs(0, ragged=False).rows().shape == (0, 0)


@pytest.mark.parametrize("pair", [False, True])
def test_outputs_are_copied(pair: bool) -> None:
    """Who finishes a work writes into them, while a server keeps the rows it was given for others."""
    given = np.ones((1, 3), np.float32)
    given.flags.writeable = False
    for count in (1, 2):
        outputs = Outputs(count, ragged=True)
        for row in range(count):
            outputs.put(np.array([row]), np.array([5], np.int32), (given, given) if pair else given)
        found = outputs.rows()
        for array in found if isinstance(found, tuple) else (found,):
            assert isinstance(array, np.ndarray)
            np.testing.assert_array_equal(array, np.ones((count, 3)))
            array *= 2
    assert given.sum() == 3
