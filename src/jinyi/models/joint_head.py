"""Classes from sentence vectors and token n-grams together: regularised least squares (Rifkin et al. 2003).

One linear system for all classes, solved by conjugate gradients in a few products with the training rows; on text it
is as good as a support vector machine. Least squares gives scores, not probabilities: the factor that makes their
softmax one is chosen on training rows that were left out of a fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.common import FloatArray
from jinyi.models.heads import LeftOut, left_out_rows, softmax
from jinyi.models.ngrams import NgramWeights, SparseRows

FEATURES = ("both", "vectors", "ngrams")
_VECTOR_SHARE = (
    0.2  # of a row's squared length; 0.1 to 0.35 are alike, more lets the vectors drown the n-grams
)
_MOST_WEIGHTS = 1 << 23  # of n-grams times classes: 16 MB in the saved file
_RARE_FROM = 1000  # texts from which on n-grams of a single text are dropped: they say nothing about others
_ROUNDS = 20
_TOLERANCE = 1e-4  # of the squared residual; further rounds move no prediction
_FACTORS = np.geomspace(1.0, 64.0, 37)


@dataclass(frozen=True, eq=False)
class JointHead:
    """A linear model on vectors and n-grams.

    Args:
        vector_weight: float32 [d, classes]; d is 0 where n-grams alone decide.
        ngram_weight: float16 [m, classes].
        bias: float32 [classes].
        ngrams: their vocabulary and weighting.
    """

    vector_weight: FloatArray
    ngram_weight: npt.NDArray[np.float16]
    bias: FloatArray
    ngrams: NgramWeights

    @classmethod
    def fit(
        cls, vectors: FloatArray, counts: SparseRows, targets: npt.NDArray[np.int64], classes: int, C: float
    ) -> tuple[JointHead, LeftOut]:
        """Fit on vectors [n, d] and n-gram counts of the same texts; the result depends on nothing random.

        Also return what fits on fewer of them say of the texts left out.

        Args:
            vectors: float32 [n, d]; d = 0 leaves them out.
            counts: from `count_ngrams`.
            targets: class number of each text.
            classes: number of classes.
            C: inverse strength of the penalty on the weights; rows have length 1.
        """
        least = 2 if len(counts) >= _RARE_FROM else 1
        ngrams = NgramWeights.fit(counts, least=least, most=_MOST_WEIGHTS // classes)
        rows = ngrams.transform(counts)
        mean = vectors.mean(axis=0)
        share = _VECTOR_SHARE if vectors.shape[1] else 0.0
        centred = vectors - mean
        length = float(np.sqrt(np.mean(np.sum(centred**2, axis=1)))) or 1.0
        scale = np.float32(np.sqrt(share) / length)
        design = _Design(centred * scale, rows, np.float32(np.sqrt(1.0 - share)))
        factor, left_out = _choose_factor(design, targets, classes, C)
        vector_weight, ngram_weight, prior = design.solve(targets, classes, C)
        vector_weight = vector_weight * np.float32(factor * scale)
        head = cls(
            vector_weight,
            (ngram_weight * np.float32(factor * design.ngram_scale)).astype(np.float16),
            (factor * prior - mean @ vector_weight).astype(np.float32),
            ngrams,
        )
        return head, left_out

    def proba(self, vectors: FloatArray, counts: SparseRows) -> FloatArray:
        """Return class probabilities, float32 [n, classes]."""
        rows = self.ngrams.transform(counts)
        return softmax(vectors @ self.vector_weight + rows @ self.ngram_weight + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` needs."""
        return {
            "vector_weight": self.vector_weight,
            "ngram_weight": self.ngram_weight,
            "bias": self.bias,
            "keys": self.ngrams.keys,
            "rarity": self.ngrams.rarity,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> JointHead:
        """Rebuild a saved head."""
        ngrams = NgramWeights(arrays["keys"], arrays["rarity"])
        return cls(arrays["vector_weight"], arrays["ngram_weight"], arrays["bias"], ngrams)


@dataclass(frozen=True, eq=False)
class _Design:
    """Training rows: dense columns beside sparse ones.

    Args:
        vectors: float32 [n, d], centred and scaled.
        ngrams: [n, m].
        ngram_scale: factor of the sparse columns.
    """

    vectors: FloatArray
    ngrams: SparseRows
    ngram_scale: np.float32

    def take(self, rows: npt.NDArray[np.int64]) -> _Design:
        return _Design(self.vectors[rows], self.ngrams.take(rows), self.ngram_scale)

    def scores(self, vector_weight: FloatArray, ngram_weight: FloatArray) -> FloatArray:
        scores: FloatArray = self.vectors @ vector_weight + self.ngram_scale * (self.ngrams @ ngram_weight)
        return scores

    def solve(
        self, targets: npt.NDArray[np.int64], classes: int, C: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return weights [d, classes] and [m, classes], and the classes' shares of the rows, which are the bias."""
        wanted = np.zeros((len(targets), classes), np.float32)
        wanted[np.arange(len(targets)), targets] = 1.0
        prior: FloatArray = wanted.mean(axis=0)
        wanted -= prior
        width, columns = self.vectors.shape[1], self.ngrams.transposed()
        penalty = np.float32(1.0 / C)

        def back(rows: FloatArray) -> FloatArray:
            return np.concatenate([self.vectors.T @ rows, self.ngram_scale * (columns @ rows)])

        # Conjugate gradients, all classes side by side.
        residual = back(wanted)
        weights, direction = np.zeros_like(residual), residual.copy()
        squared = start = _squares(residual)
        for _ in range(_ROUNDS):
            if np.all(squared <= _TOLERANCE * start):
                break
            change = back(self.scores(direction[:width], direction[width:])) + penalty * direction
            step = squared / np.maximum(np.einsum("mk,mk->k", direction, change), np.finfo(np.float32).tiny)
            weights += step * direction
            residual -= step * change
            before, squared = squared, _squares(residual)
            direction *= squared / np.maximum(before, np.finfo(np.float32).tiny)
            direction += residual
        return weights[:width], weights[width:], prior


def _squares(columns: FloatArray) -> FloatArray:
    sums: FloatArray = np.einsum("mk,mk->k", columns, columns)
    return sums


def _choose_factor(
    design: _Design, targets: npt.NDArray[np.int64], classes: int, C: float
) -> tuple[float, LeftOut]:
    """Return the factor of the scores whose softmax has the least log loss on rows left out of a fit; and that."""
    chosen, scores = [], []
    for kept, left_out in left_out_rows(len(targets)):
        vector_weight, ngram_weight, prior = design.take(kept).solve(targets[kept], classes, C)
        scores.append(design.take(left_out).scores(vector_weight, ngram_weight) + prior)
        chosen.append(left_out)
    numbers, rows = np.concatenate(chosen), np.concatenate(scores).astype(np.float64)
    rows -= rows[np.arange(len(rows)), targets[numbers]][
        :, None
    ]  # the log loss is then the log of the sum of exp
    losses = [float(np.mean(np.log(np.exp(factor * rows).sum(axis=1)))) for factor in _FACTORS]
    factor = float(_FACTORS[int(np.argmin(losses))])
    return factor, LeftOut(numbers, softmax(factor * rows))
