"""What a model has to beat: similarity of two texts by the characters they share, and the majority class.

Texts are counted as scikit-learn's `TfidfVectorizer(analyzer="char", ngram_range=(1, 2))` does: lower case, runs of
white space as one blank, single characters and pairs of neighbours. Document frequencies come from the scored texts
themselves, without labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

K1, B = 1.2, 0.75
"""BM25's usual constants (Robertson & Zaragoza 2009): saturation of repeated terms, weight of the length."""

_BLANKS = re.compile(r"\s\s+")


class _Counts:
    """How often each n-gram occurs in each of n documents.

    Attributes:
        documents: int64 [m], the document of each entry, ascending.
        grams: int64 [m], its n-gram, ascending within a document.
        times: float64 [m], how often it occurs there.
        frequency: int64 [v], number of documents that hold each n-gram.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        owners, grams, times = [], [], []
        for owner, text in enumerate(texts):
            for gram, count in Counter(_grams(text)).items():
                owners.append(owner)
                grams.append(numbers.setdefault(gram, len(numbers)))
                times.append(count)
        keys = np.asarray(owners, np.int64) * len(numbers) + np.asarray(grams, np.int64)
        order = np.argsort(keys)
        self.size = len(texts)
        self.documents, self.grams = np.divmod(keys[order], max(len(numbers), 1))
        self.times = np.asarray(times, np.float64)[order]
        self.frequency = np.bincount(self.grams, minlength=len(numbers))

    def per_document(self, values: Floats) -> Floats:
        """Sum values of entries by document."""
        return np.asarray(np.bincount(self.documents, values, minlength=self.size), np.float64)

    def shared(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return, for documents a_0..a_n b_0..b_n, what both sides of a pair hold: pair, entry in a, entry in b."""
        half, width = self.size // 2, len(self.frequency)
        keys = (self.documents % half) * width + self.grams
        border = int(np.searchsorted(self.documents, half))
        common, in_a, in_b = np.intersect1d(
            keys[:border], keys[border:], assume_unique=True, return_indices=True
        )
        return common // width, in_a, in_b + border


def tfidf_cosine(a: Sequence[str], b: Sequence[str]) -> Floats:
    """Return the cosine of the TF-IDF vectors of each pair.

    Equal to scikit-learn's with its defaults (smoothed idf, raw counts, unit length), fitted on all texts of a and b.

    Args:
        a, b: texts [n].

    Returns:
        float64 [n], from 0 to 1. Cost: about 20 microseconds a text, no other library.
    """
    counts = _Counts([*a, *b])
    idf = np.log((1 + counts.size) / (1 + counts.frequency)) + 1
    weights = counts.times * idf[counts.grams]
    lengths = np.sqrt(counts.per_document(weights**2))
    pairs, in_a, in_b = counts.shared()
    products = np.bincount(pairs, weights[in_a] * weights[in_b], minlength=len(a))
    below = lengths[: len(a)] * lengths[len(a) :]
    return np.asarray(np.divide(products, below, out=np.zeros(len(a)), where=below > 0))


def bm25_overlap(a: Sequence[str], b: Sequence[str]) -> Floats:
    """Return a symmetric BM25 of each pair, as a share of what a text scores against itself.

    s(q, d) is BM25 (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75, Lucene's idf log(1 + (N - df + 0.5) / (df + 0.5)))
    of the n-grams of q, each once, in d. It is neither symmetric nor comparable between queries, so what is returned is
    the mean of s(a, b) / s(a, a) and s(b, a) / s(b, b): 1 for equal texts, 0 for texts that share no character.

    Args:
        a, b: texts [n]; all 2 n of them are the collection that idf and the mean length are taken from.

    Returns:
        float64 [n], from 0; slightly above 1 is possible where one text holds the other.
    """
    counts = _Counts([*a, *b])
    half = len(a)
    idf = np.log(1 + (counts.size - counts.frequency + 0.5) / (counts.frequency + 0.5))
    length = counts.per_document(counts.times)
    floor = K1 * (1 - B + B * length / length.mean())
    weights = idf[counts.grams] * counts.times * (K1 + 1) / (counts.times + floor[counts.documents])
    own = counts.per_document(weights)
    pairs, in_a, in_b = counts.shared()
    a_in_b = np.bincount(pairs, weights[in_b], minlength=half) / own[:half]
    b_in_a = np.bincount(pairs, weights[in_a], minlength=half) / own[half:]
    return np.asarray((a_in_b + b_in_a) / 2)


def majority_share(labels: npt.ArrayLike) -> float:
    """Return the share of the most frequent label: the accuracy of a constant answer."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return float(counts.max() / counts.sum())


BASELINES = (
    ("character TF-IDF", "cosine, 1-2-grams", tfidf_cosine),
    ("character BM25", "overlap both ways, 1-2-grams", bm25_overlap),
)
"""System, protocol and function of what every table of pairs shows beside the models."""


def _grams(text: str) -> list[str]:
    text = _BLANKS.sub(" ", text.lower())
    return [*text, *(text[place : place + 2] for place in range(len(text) - 1))]
