"""Pair scores: forms of input, both orders, ranking."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from jinyi import PairScorer, SentenceEncoder
from jinyi.errors import InputError, TruncationWarning
from jinyi.models import common
from small_models import random_texts, write_small


@pytest.fixture(scope="module")
def pair(small_folders: Path) -> PairScorer:
    return PairScorer.load(small_folders / "pair")


PAIRS = [("怎么改密码", "如何修改登录密码"), ("今天", "天气很好"), ("天气很好", "今天"), ("好", "好")]


def test_pair_scores(pair: PairScorer) -> None:
    scores = pair.predict(PAIRS)
    assert scores.shape == (4,) and scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    assert scores[1] == scores[2]
    logits = pair.predict(PAIRS, raw_scores=True)
    assert np.allclose(1 / (1 + np.exp(-logits)), scores, atol=1e-6)
    ahead = pair.predict(PAIRS, raw_scores=True, symmetric=False)
    behind = pair.predict([(b, a) for a, b in PAIRS], raw_scores=True, symmetric=False)
    assert np.allclose((ahead + behind) / 2, logits, atol=1e-5)
    assert abs(ahead[1] - ahead[2]) > 1e-4
    zeros = pair.predict(PAIRS, segment_ids="zeros")
    assert np.abs(zeros - scores).max() > 1e-4
    assert pair.predict([]).shape == (0,)


@pytest.mark.parametrize(
    "one", [("今天", "天气很好"), ["今天", "天气很好"], "今天[SEP]天气很好", " 今天 [SEP] 天气很好 "], ids=str
)
def test_one_pair_is_a_number(pair: PairScorer, one) -> None:
    score = pair.predict(one)
    assert isinstance(score, float)
    assert score == pytest.approx(pair.predict(PAIRS)[1], abs=1e-6)


def test_lists_of_pairs(pair: PairScorer) -> None:
    expected = pair.predict(PAIRS)
    for form in (
        [list(row) for row in PAIRS],
        np.array(PAIRS),
        ["[SEP]".join(row) for row in PAIRS],
        iter(PAIRS),
    ):
        assert np.allclose(pair.predict(form), expected, atol=1e-6)
    assert pair.predict(["今天[SEP]好", "好[SEP]今天"]).shape == (2,)
    # Inside a pair, a typed control token is text.
    assert pair.predict(("今天[SEP]好", "好")) != pytest.approx(pair.predict(("今天 好", "好")), abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (["今天", "明天", "后天"], "no [SEP]"),
        ([("今天",)], "row 0"),
        ([("今天", "好"), ("今天", None)], "row 1, second text"),
        (("今天", None), "pair, second text: found None"),
        ((3, "今天"), "pair, first text: found 3"),
        (["今天", None], "pair, second text: found None"),
        (["今天[SEP]好", None], "row 1: found None"),
        ([("今天", "好"), ("", "好")], "row 1, first text"),
        ([("今天", "好", "坏")], "row 0"),
        ([None], "row 0"),
        (None, "NoneType"),
        (None, "Pass two texts (a, b)"),
        (3, "int"),
        ("今天", "[SEP]"),
        ("今天[SEP]", "second text"),
        ("a[SEP]b[SEP]c", "[SEP]"),
        ({"今天": "好"}, "dict"),
        ([("今天", "\ud83d")], "row 0, second text"),
    ],
    ids=str,
)
def test_bad_pairs(pair: PairScorer, bad, part: str) -> None:
    with pytest.raises(InputError) as caught:
        pair.predict(bad)
    assert part in str(caught.value)


def test_options_of_pairs(pair: PairScorer) -> None:
    with pytest.raises(InputError, match="segment_ids"):
        pair.predict(PAIRS, segment_ids="ones")
    with pytest.raises(InputError, match="segment_ids"):
        pair.predict([], segment_ids="ones")
    with pytest.raises(InputError, match="truncate"):
        pair.predict(PAIRS, truncate="window")
    long = [("今天", "好"), ("今天" * 40, "天气")]
    with pytest.raises(InputError, match="row 1"):
        pair.predict(long, truncate="error")
    with pytest.warns(TruncationWarning, match="1 of 2") as caught:
        _, report = pair.predict(long, return_report=True)
    assert len(caught) == 1 and report.rows.tolist() == [1]
    assert report.lost.tolist() == [80 + 2 + 3 - 48]


def test_heads_with_one_and_three_outputs(small_folders: Path, tmp_path: Path) -> None:
    one = PairScorer.load(small_folders / "pair1")
    logits = one.predict(PAIRS, raw_scores=True)
    assert np.allclose(1 / (1 + np.exp(-logits)), one.predict(PAIRS), atol=1e-6)
    folder = write_small(
        tmp_path / "three",
        "pair",
        outputs=3,
        labels=["irrelevant", "related", "equal"],
        similar_label="equal",
    )
    three = PairScorer.load(folder)
    from jinyi.models.common import run_rows

    encoded = three._source.tokenizer.encode_pairs(PAIRS)
    raw = run_rows(three._engine, encoded, 0)
    softmax = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    assert np.allclose(three.predict(PAIRS, symmetric=False), softmax[:, 2], atol=1e-6)
    other = PairScorer.load(folder, similar_label=0)
    assert np.allclose(other.predict(PAIRS, symmetric=False), softmax[:, 0], atol=1e-6)


def test_rank(pair: PairScorer) -> None:
    documents = ["如何修改登录密码", "今天天气很好", "密码", "今天天气很好"]
    ranked = pair.rank("怎么改密码", documents)
    assert [set(hit) for hit in ranked] == [{"corpus_id", "score", "text"}] * 4
    assert sorted(hit["corpus_id"] for hit in ranked) == [0, 1, 2, 3]
    scores = [hit["score"] for hit in ranked]
    assert scores == sorted(scores, reverse=True)
    expected = pair.predict([("怎么改密码", text) for text in documents])
    assert all(hit["score"] == pytest.approx(expected[hit["corpus_id"]], abs=1e-6) for hit in ranked)
    assert all(documents[hit["corpus_id"]] == hit["text"] for hit in ranked)
    places = [hit["corpus_id"] for hit in ranked]
    assert places.index(1) < places.index(3), "equal scores keep their order"
    assert pair.rank("怎么改密码", documents, top_k=2) == ranked[:2]
    assert pair.rank("怎么改密码", documents, top_k=99) == ranked
    assert pair.rank("怎么改密码", []) == []
    with pytest.raises(InputError, match="top_k"):
        pair.rank("怎么改密码", documents, top_k=0)
    with pytest.raises(InputError, match="document 1"):
        pair.rank("怎么改密码", ["今天", None])
    with pytest.raises(InputError, match="query"):
        pair.rank("", documents)


@pytest.mark.slow
def test_against_sentence_transformers(small_folders: Path) -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    texts = random_texts(60, longest=40)
    theirs = SentenceTransformer(str(small_folders / "embed"), device="cpu").encode(
        texts, normalize_embeddings=True
    )
    assert np.abs(SentenceEncoder.load(small_folders / "embed").encode(texts) - theirs).max() < 1e-5
    pairs = list(zip(random_texts(40, 1, 15), random_texts(40, 2, 15), strict=True))
    theirs = CrossEncoder(str(small_folders / "pair1"), device="cpu").predict(pairs)
    ours = PairScorer.load(small_folders / "pair1").predict(pairs, symmetric=False)
    assert np.abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("name", ["show_progress", "show_progress_bar"])
def test_the_bar_goes_by_both_names(pair: PairScorer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shown = []

    def progress(label: str, count: int, show: bool | None):
        shown.append(show)
        return nullcontext(lambda rows: None)

    monkeypatch.setattr(common, "progress", progress)
    for value in (True, False):
        pair.predict(PAIRS, **{name: value})  # type: ignore[arg-type]
        pair.rank("今天", ["天气很好", "今天"], **{name: value})  # type: ignore[arg-type]
    assert shown == [True, True, False, False]
    for call in (
        lambda **both: pair.predict(PAIRS, **both),
        lambda **both: pair.rank("今天", ["今天"], **both),
    ):
        with pytest.raises(InputError, match="show_progress and show_progress_bar"):
            call(show_progress=True, show_progress_bar=True)
    with pytest.raises(TypeError, match="'progress'"):
        pair.rank("今天", ["今天"], progress=True)  # type: ignore[call-arg]
