"""Token n-grams as sparse rows: the ids of single tokens and of neighbours, by number, place, rarity and class.

Sentence vectors say what a text is about in general, n-grams name it: a club, a drug, a brand. They are made from the
ids that the encoder reads, so there is one path from text to tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
_LEAST_SAID = 0.5  # n-grams that all classes have alike keep so much of their rarity
_MORE = 1.0  # texts of average class that each n-gram is thought to have besides its own
_LEAD = 60  # tokens: what stands before them counts up to twice as much as what stands far behind
_GATHERED = 1 << 23  # numbers gathered at a time in a product with a dense matrix: 32 MB


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse float32 matrix [n, m], row after row (CSR).

    Args:
        starts: int64 [n + 1], where each row begins in `columns` and `values`.
        columns: int64 [entries].
        values: float32 [entries].
        width: m.
    """

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: FloatArray
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __matmul__(self, dense: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Multiply with a dense matrix [m, k] of float32 or float16: float32 [n, k], in working memory of 32 MB."""
        count = len(self)
        out = np.zeros((count, dense.shape[1]), np.float32)
        most = max(1, _GATHERED // max(1, dense.shape[1]))
        first = 0
        while first < count:
            reached = int(np.searchsorted(self.starts, self.starts[first] + most, side="right")) - 1
            last = max(first + 1, min(reached, count))
            begin, end = self.starts[first], self.starts[last]
            products = self.values[begin:end, None] * dense[self.columns[begin:end]]
            # `reduceat` has no notion of an empty sum, so empty rows are left out.
            filled = np.flatnonzero(self.starts[first + 1 : last + 1] > self.starts[first:last])
            if filled.size:
                out[first + filled] = np.add.reduceat(products, self.starts[first + filled] - begin, axis=0)
            first = last
        return out

    def transposed(self) -> SparseRows:
        """Return the same matrix column after column, [m, n]."""
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        return SparseRows(
            _starts(np.bincount(self.columns, minlength=self.width)),
            rows[order],
            self.values[order],
            len(self),
        )

    def take(self, rows: npt.NDArray[np.int64]) -> SparseRows:
        """Return some rows, in the order given."""
        sizes = np.diff(self.starts)[rows]
        starts = _starts(sizes)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return SparseRows(starts, self.columns[places], self.values[places], self.width)


def stack(parts: Sequence[SparseRows]) -> SparseRows:
    """Return the rows of several matrices of one width below each other."""
    return SparseRows(
        _starts(np.concatenate([np.diff(part.starts) for part in parts])),
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].width,
    )


def find_ngrams(ids: Sequence[Sequence[int]], vocab_size: int, *, lead: bool = True) -> SparseRows:
    """Find the tokens and the pairs of neighbours in each text, and how often and how early they stand there.

    The value of an n-gram is 1 + ln(occurrences); with `lead` also times 1 + 1 / (1 + (place / 60)²), `place` being the
    number of tokens before its first occurrence: long texts say what they are about at the start. In short ones that
    factor is nearly the same everywhere.

    Args:
        ids: token ids of each text, without [CLS] and [SEP], as `jinyi.tokens.Tokenizer.read` gives them.
        vocab_size: number of ids.
        lead: whether the place counts.

    Returns:
        [n, vocab_size * (vocab_size + 1)]: column t is token t, column (t + 1) * vocab_size + u is t before u.
        Columns ascend within a row.
    """
    count = len(ids)
    sizes = np.fromiter(map(len, ids), np.int64, count)
    tokens = np.fromiter(chain.from_iterable(ids), np.int64, int(sizes.sum()))
    texts = np.repeat(np.arange(count), sizes)
    pair = np.flatnonzero(texts[:-1] == texts[1:])
    keys = np.concatenate([tokens, (tokens[pair] + 1) * vocab_size + tokens[pair + 1]])
    rows = np.concatenate([texts, texts[pair]])
    width = vocab_size * (vocab_size + 1)
    # The first of equal cells is the one that stands first, for a text's tokens and its pairs are in order.
    cells, first, occurrences = np.unique(rows * width + keys, return_index=True, return_counts=True)
    values = 1.0 + np.log(occurrences)
    if lead:
        places = np.arange(len(tokens)) - np.repeat(_starts(sizes)[:-1], sizes)
        values *= 1.0 + 1.0 / (1.0 + (np.concatenate([places, places[pair]])[first] / _LEAD) ** 2)
    rows, columns = np.divmod(cells, width)
    starts = _starts(np.bincount(rows, minlength=count))
    return SparseRows(starts, columns, values.astype(np.float32), width)


@dataclass(frozen=True, eq=False)
class NgramWeights:
    """The values of `find_ngrams`, times what an n-gram is worth, rows of length 1.

    Worth is rarity, 1 + ln((1 + texts) / (1 + texts with it)), times a half plus what it says of the class: the
    Kullback-Leibler divergence of the classes of the texts with it from those of all texts, by ln(classes), as if one
    more text of average class had it. That is supervised term weighting (Debole and Sebastiani 2003).

    Args:
        keys: int64 [m], the columns of `find_ngrams` that are kept, ascending.
        worth: float32 [m].
    """

    keys: npt.NDArray[np.int64]
    worth: FloatArray

    @classmethod
    def fit(
        cls, grams: SparseRows, targets: npt.NDArray[np.int64], classes: int, *, most: int
    ) -> NgramWeights:
        """Learn the vocabulary and its worth from training texts.

        Texts left out of a fit must not be among them: their classes are in the worth.

        Args:
            grams: from `find_ngrams`.
            targets: class number of each text.
            classes: number of classes, at least two.
            most: number of n-grams kept, those in the most texts; the smaller key where that is equal.
        """
        keys, places, texts = np.unique(grams.columns, return_inverse=True, return_counts=True)
        rarity = 1.0 + np.log((1.0 + len(grams)) / (1.0 + texts))
        owners = np.repeat(targets, np.diff(grams.starts))
        worth = rarity * (_LEAST_SAID + _said(places, owners, texts, np.bincount(targets, minlength=classes)))
        if len(keys) > most:
            kept = np.sort(np.argsort(-texts, kind="stable")[:most])
            keys, worth = keys[kept], worth[kept]
        return cls(keys, worth.astype(np.float32))

    def transform(self, grams: SparseRows) -> SparseRows:
        """Return weighted rows [n, m]; a row without known n-grams is empty."""
        count, width = len(grams), len(self.keys)
        if not width:
            return SparseRows(
                np.zeros(count + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), 0
            )
        places = np.minimum(np.searchsorted(self.keys, grams.columns), width - 1)
        known = self.keys[places] == grams.columns
        rows = np.repeat(np.arange(count), np.diff(grams.starts))[known]
        columns = places[known]
        values = grams.values[known] * self.worth[columns]
        lengths = np.sqrt(np.bincount(rows, values.astype(np.float64) ** 2, minlength=count))
        starts = _starts(np.bincount(rows, minlength=count))
        return SparseRows(starts, columns, (values / lengths[rows]).astype(np.float32), width)


def _said(
    places: npt.NDArray[np.int64],
    owners: npt.NDArray[np.int64],
    texts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return what each n-gram says of the class, 0 and more.

    Args:
        places: number of the n-gram of each entry [entries].
        owners: class of the entry's text.
        texts: number of texts with each n-gram [m].
        sizes: number of texts of each class [classes].
    """
    classes = len(sizes)
    prior = sizes / sizes.sum()
    cells, counts = np.unique(places * classes + owners, return_counts=True)
    where, which = np.divmod(cells, classes)
    share = (counts + _MORE * prior[which]) / (texts[where] + _MORE)
    divergence = np.bincount(where, share * np.log(share / prior[which]), minlength=len(texts))
    # All classes that no text with it has: their shares of the text more.
    absent = 1.0 - np.bincount(where, prior[which], minlength=len(texts))
    share_of_more = _MORE / (texts + _MORE)
    divergence += np.maximum(absent, 0.0) * share_of_more * np.log(share_of_more)
    said: npt.NDArray[np.float64] = divergence / np.log(classes)
    return said


def _starts(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
