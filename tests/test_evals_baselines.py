"""Baselines without a model: equal to scikit-learn, and to plain loops over the definition."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from eval_pairs import random_pairs
from jinyi.evals.baselines import bm25_overlap, majority_share, tfidf_cosine

texts = st.text(alphabet="今天气好ABß囧  \t\n12", max_size=12)


def by_scikit_learn(a: list[str], b: list[str]) -> np.ndarray:
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit_transform(a + b)
    return np.asarray(vectors[: len(a)].multiply(vectors[len(a) :]).sum(1)).ravel()


def test_tfidf_is_scikit_learns() -> None:
    a, b, _ = random_pairs(300)
    assert np.abs(tfidf_cosine(a, b) - by_scikit_learn(a, b)).max() < 1e-12


@settings(max_examples=60)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_tfidf_is_scikit_learns_on_odd_texts(pairs: list[tuple[str, str]]) -> None:
    a, b = ["好" + first for first, _ in pairs], [second for _, second in pairs]
    assert np.abs(tfidf_cosine(a, b) - by_scikit_learn(a, b)).max() < 1e-12


def grams(text: str) -> Counter[str]:
    return Counter([*text, *map("".join, zip(text, text[1:], strict=False))])


def bm25(query: str, document: str, collection: list[str]) -> float:
    """Robertson & Zaragoza 2009 with Lucene's idf, written out."""
    sizes = [sum(grams(text).values()) for text in collection]
    mean, length = sum(sizes) / len(sizes), sum(grams(document).values())
    total = 0.0
    for gram in grams(query):
        frequency = sum(gram in grams(text) for text in collection)
        idf = math.log(1 + (len(collection) - frequency + 0.5) / (frequency + 0.5))
        times = grams(document)[gram]
        total += idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))
    return total


def test_bm25_is_the_mean_of_both_ways() -> None:
    a, b, _ = random_pairs(40)
    collection = a + b
    expected = [
        (bm25(x, y, collection) / bm25(x, x, collection) + bm25(y, x, collection) / bm25(y, y, collection))
        / 2
        for x, y in zip(a, b, strict=True)
    ]
    assert np.abs(bm25_overlap(a, b) - expected).max() < 1e-12
    assert np.abs(bm25_overlap(b, a) - bm25_overlap(a, b)).max() < 1e-12


@pytest.mark.parametrize("function", [tfidf_cosine, bm25_overlap])
def test_equal_and_foreign_texts(function) -> None:
    found = function(["今天天气", "今天", "很好a"], ["今天天气", "心情", "心情b"])
    assert found[0] == pytest.approx(1) and found[1:].tolist() == [0, 0]


def test_majority() -> None:
    assert majority_share([0, 0, 1]) == pytest.approx(2 / 3)
    assert majority_share(["a"]) == 1
