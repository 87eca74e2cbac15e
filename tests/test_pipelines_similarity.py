"""The sentence-similarity pipeline, beside that of transformers on the same folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jinyi import PairScorer, SentenceEncoder
from jinyi.errors import FolderError, InputError, TruncationWarning
from pipeline_tools import LONG, NAMED, PAIRS, TEXTS, opened


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
