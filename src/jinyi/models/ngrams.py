"""Token n-grams as sparse rows: the ids of single tokens and of neighbours, weighted by TF-IDF.

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


def count_ngrams(
    ids: Sequence[Sequence[int]], owners: npt.NDArray[np.int64], count: int, vocab_size: int
) -> SparseRows:
    """Count the tokens and the pairs of neighbours in each text.

    Args:
        ids: token ids of each entry, [CLS] and [SEP] included, as in `jinyi.tokens.Encoded`.
        owners: the text of each entry, ascending; the windows of a text count together.
        count: number of texts.
        vocab_size: number of ids.

    Returns:
        [count, vocab_size * (vocab_size + 1)]: column t is token t, column (t + 1) * vocab_size + u is t before u.
        Values are numbers of occurrences, columns ascend within a row.
    """
    sizes = np.fromiter(map(len, ids), np.int64, len(ids))
    tokens = np.fromiter(chain.from_iterable(ids), np.int64, int(sizes.sum()))
    ends = sizes.cumsum()
    inner = np.ones(len(tokens), bool)
    inner[ends - sizes] = inner[ends - 1] = False  # [CLS] and [SEP]
    texts = np.repeat(owners, sizes)
    pair = np.flatnonzero(inner[:-1] & inner[1:])
    keys = np.concatenate([tokens[inner], (tokens[pair] + 1) * vocab_size + tokens[pair + 1]])
    rows = np.concatenate([texts[inner], texts[pair]])
    width = vocab_size * (vocab_size + 1)
    cells, occurrences = np.unique(rows * width + keys, return_counts=True)
    rows, columns = np.divmod(cells, width)
    starts = _starts(np.bincount(rows, minlength=count))
    return SparseRows(starts, columns, occurrences.astype(np.float32), width)


@dataclass(frozen=True, eq=False)
class NgramWeights:
    """TF-IDF of n-grams: 1 + ln(occurrences), times 1 + ln((1 + texts) / (1 + texts with it)), rows of length 1.

    Args:
        keys: int64 [m], the columns of `count_ngrams` that are kept, ascending.
        rarity: float32 [m], the second factor.
    """

    keys: npt.NDArray[np.int64]
    rarity: FloatArray

    @classmethod
    def fit(cls, counts: SparseRows, *, least: int, most: int) -> NgramWeights:
        """Learn the vocabulary from the counts of the training texts.

        Args:
            counts: from `count_ngrams`.
            least: an n-gram is kept if so many texts have it.
            most: number of n-grams kept, those in the most texts; the smaller key where that is equal.
        """
        keys, texts = np.unique(counts.columns, return_counts=True)
        kept = np.flatnonzero(texts >= least)
        if len(kept) > most:
            kept = np.sort(kept[np.argsort(-texts[kept], kind="stable")[:most]])
        rarity = 1.0 + np.log((1.0 + len(counts)) / (1.0 + texts[kept]))
        return cls(keys[kept], rarity.astype(np.float32))

    def transform(self, counts: SparseRows) -> SparseRows:
        """Return weighted rows [n, m]; a row without known n-grams is empty."""
        count, width = len(counts), len(self.keys)
        if not width:
            return SparseRows(
                np.zeros(count + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), 0
            )
        places = np.minimum(np.searchsorted(self.keys, counts.columns), width - 1)
        known = self.keys[places] == counts.columns
        rows = np.repeat(np.arange(count), np.diff(counts.starts))[known]
        columns = places[known]
        values = (1.0 + np.log(counts.values[known])) * self.rarity[columns]
        lengths = np.sqrt(np.bincount(rows, values.astype(np.float64) ** 2, minlength=count))
        starts = _starts(np.bincount(rows, minlength=count))
        return SparseRows(starts, columns, (values / lengths[rows]).astype(np.float32), width)


def _starts(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
