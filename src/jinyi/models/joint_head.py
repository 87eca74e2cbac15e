"""Classes from sentence vectors and token n-grams together: regularised least squares (Rifkin et al. 2003).

One linear system for all classes, solved by conjugate gradients in a few products with the training rows; on text it
is as good as a support vector machine. Least squares gives scores, not probabilities: the factor that makes their
softmax one is chosen on training rows that were left out of a fit, and so is the strength of the penalty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.common import FloatArray
from jinyi.models.heads import LeftOut, LinearHead, left_out_rows, softmax
from jinyi.models.ngrams import NgramWeights, SparseRows

FEATURES = ("both", "vectors", "ngrams")
_VECTOR_EXAMPLES = 2.0  # of each class, that vectors are worth beside n-grams; chosen on dev sets
_VECTOR_SHARES = (0.05, 0.5)  # of a row's squared length, the least and the most
_KNOWN_SHARE = 0.15  # of vectors that decide apart, where the encoder knows the texts; chosen on dev sets
_MOST_WEIGHTS = 1 << 23  # of n-grams times classes: 16 MB in the saved file
_ROUNDS = 20
_TOLERANCE = 1e-4  # of the squared residual; further rounds move no prediction
_FACTORS = np.geomspace(1.0, 64.0, 37)
_CHOICES = (0.1, 0.3, 1.0, 3.0)  # of C: wrong labels want the first ones, rare and clean ones the last
_MANY_CHOSEN = 5000  # texts of which one part tells enough for C
_COUNTED = 1000  # texts left out of a fit that are enough to count the errors
_TINY = float(np.finfo(np.float32).tiny)
_LEAST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class JointHead:
    """A linear model on vectors and n-grams.

    Args:
        vector_weight: float32 [d, classes]; d is 0 where n-grams alone decide.
        ngram_weight: float16 [m, classes].
        bias: float32 [classes].
        ngrams: their vocabulary and weighting.
        C: inverse strength of the penalty that they were fitted with.
        lead: whether n-grams that stand early in a text count more, as `find_ngrams` has it.
    """

    vector_weight: FloatArray
    ngram_weight: npt.NDArray[np.float16]
    bias: FloatArray
    ngrams: NgramWeights
    C: float
    lead: bool = True

    @classmethod
    def fit(
        cls,
        vectors: FloatArray,
        grams: SparseRows,
        targets: npt.NDArray[np.int64],
        classes: int,
        C: float | None = None,
        *,
        known: bool = False,
    ) -> tuple[JointHead, LeftOut]:
        """Fit on vectors [n, d] and n-grams of the same texts; the result depends on nothing random.

        Also return what fits on fewer of them say of the texts left out.

        Args:
            vectors: float32 [n, d]; d = 0 leaves them out.
            grams: from `find_ngrams`.
            targets: class number of each text.
            classes: number of classes.
            C: inverse strength of the penalty on the weights; rows have length 1. None takes the one of 0.1, 0.3, 1
                and 3 by which n-grams alone are best on the texts left out; vectors may know those texts from the
                encoder's training.
            known: they do. Nothing on these texts then tells what the vectors are worth: n-grams decide alone, a
                logistic regression on the vectors alone, and a weighted geometric mean of both is what is returned.
                What is said of texts left out is then that of the n-grams.
        """
        if known and vectors.shape[1]:
            head, left_out = cls.fit(vectors[:, :0], grams, targets, classes, C)
            return head._beside(LinearHead.fit(vectors, targets, classes, 1.0), _KNOWN_SHARE), left_out
        mean = vectors.mean(axis=0)
        share = _vector_share(len(vectors), classes) if vectors.shape[1] else 0.0
        centred = vectors - mean
        length = float(np.sqrt(np.mean(np.sum(centred**2, axis=1)))) or 1.0
        scale = np.float32(np.sqrt(share) / length)
        texts = _Texts(centred * scale, grams, targets, classes, np.float32(np.sqrt(1.0 - share)))
        choice = _CHOICES if C is None else (C,)
        if share == 0.0 or C is None:
            C, factor, left_out = _choose(texts.without_vectors(), choice)
        if share > 0.0:
            C, factor, left_out = _choose(texts, (C,))
        ngrams = texts.ngrams()
        (weight,), prior = texts.design(ngrams).solve(targets, classes, (C,))
        width = vectors.shape[1]
        vector_weight = weight[:width] * np.float32(factor * scale)
        head = cls(
            vector_weight,
            (weight[width:] * np.float32(factor * texts.ngram_scale)).astype(np.float16),
            (factor * prior - mean @ vector_weight).astype(np.float32),
            ngrams,
            C,
        )
        return head, left_out

    def _beside(self, other: LinearHead, share: float) -> JointHead:
        """Return the weighted geometric mean with what vectors alone say; a softmax makes it the mean of the scores."""
        ngram_weight = (np.float32(1.0 - share) * self.ngram_weight.astype(np.float32)).astype(np.float16)
        bias = np.float32(1.0 - share) * self.bias + np.float32(share) * other.bias
        # In the order that a saved one has: other orders give other last bits.
        vector_weight = np.ascontiguousarray(np.float32(share) * other.weight.T)
        return replace(self, vector_weight=vector_weight, ngram_weight=ngram_weight, bias=bias)

    def proba(self, vectors: FloatArray, grams: SparseRows) -> FloatArray:
        """Return class probabilities, float32 [n, classes]."""
        rows = self.ngrams.transform(grams)
        return softmax(vectors @ self.vector_weight + rows @ self.ngram_weight + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` needs."""
        return {
            "vector_weight": self.vector_weight,
            "ngram_weight": self.ngram_weight,
            "bias": self.bias,
            "keys": self.ngrams.keys,
            "worth": self.ngrams.worth,
        }

    def settings(self) -> dict[str, Any]:
        """Return what `from_arrays` needs besides the arrays."""
        return {"C": self.C, "lead": self.lead}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> JointHead:
        """Rebuild a saved head."""
        # Folders of before n-grams were weighted by what they say of the class.
        ngrams = NgramWeights(arrays["keys"], arrays["worth" if "worth" in arrays else "rarity"])
        C = float(settings.get("C", 1.0))  # folders of before it was chosen do not name it
        lead = bool(settings.get("lead", False))  # nor those of before places counted
        return cls(arrays["vector_weight"], arrays["ngram_weight"], arrays["bias"], ngrams, C, lead)


@dataclass(frozen=True, eq=False)
class _Texts:
    """Labelled texts to fit on.

    Args:
        vectors: float32 [n, d], centred and scaled.
        grams: n-grams of the texts.
        targets: class number of each.
        classes: number of classes.
        ngram_scale: factor of the n-grams' columns.
    """

    vectors: FloatArray
    grams: SparseRows
    targets: npt.NDArray[np.int64]
    classes: int
    ngram_scale: np.float32

    def take(self, rows: npt.NDArray[np.int64]) -> _Texts:
        return replace(
            self, vectors=self.vectors[rows], grams=self.grams.take(rows), targets=self.targets[rows]
        )

    def without_vectors(self) -> _Texts:
        return replace(self, vectors=self.vectors[:, :0], ngram_scale=np.float32(1.0))

    def ngrams(self) -> NgramWeights:
        return NgramWeights.fit(self.grams, self.targets, self.classes, most=_MOST_WEIGHTS // self.classes)

    def design(self, ngrams: NgramWeights) -> _Design:
        return _Design(self.vectors, ngrams.transform(self.grams), self.ngram_scale)


@dataclass(frozen=True, eq=False)
class _Design:
    """Rows of a linear model: dense columns beside sparse ones.

    Args:
        vectors: float32 [n, d], centred and scaled.
        ngrams: [n, m].
        ngram_scale: factor of the sparse columns.
    """

    vectors: FloatArray
    ngrams: SparseRows
    ngram_scale: np.float32

    def scores(self, weight: FloatArray) -> FloatArray:
        width = self.vectors.shape[1]
        scores: FloatArray = self.vectors @ weight[:width] + self.ngram_scale * (self.ngrams @ weight[width:])
        return scores

    def solve(
        self, targets: npt.NDArray[np.int64], classes: int, choices: Sequence[float]
    ) -> tuple[list[FloatArray], FloatArray]:
        """Return the weights [d + m, classes] by each C, and the classes' shares of the rows, which are the bias.

        Conjugate gradients, all classes side by side, for the weakest penalty; stronger ones add a multiple of the
        identity, so their solutions lie in the same Krylov spaces and cost no further product with the rows
        (multi-shift conjugate gradients, Jegerlehner 1996, arXiv hep-lat/9612014).
        """
        wanted = np.zeros((len(targets), classes), np.float32)
        wanted[np.arange(len(targets)), targets] = 1.0
        prior: FloatArray = wanted.mean(axis=0)
        wanted -= prior
        columns = self.ngrams.transposed()
        penalties = 1.0 / np.asarray(choices, np.float64)
        least = penalties.min()

        def back(rows: FloatArray) -> FloatArray:
            return np.concatenate([self.vectors.T @ rows, self.ngram_scale * (columns @ rows)])

        residual = back(wanted)
        weights = [np.zeros_like(residual) for _ in choices]
        directions = [residual.copy() for _ in choices]
        weakest = directions[int(penalties.argmin())]
        # The residual of each choice is `shrunk` times that of the weakest penalty, for which it stays 1.
        shrunk = shrunk_before = np.ones((len(choices), classes))
        step_before, turn = np.ones(classes), np.zeros(classes)
        squared = start = _squares(residual)
        for _ in range(_ROUNDS):
            if np.all(squared <= _TOLERANCE * start):
                break
            change = back(self.scores(weakest)) + np.float32(least) * weakest
            step = squared / np.maximum(np.einsum("mk,mk->k", weakest, change).astype(np.float64), _TINY)
            shift = 1.0 + (penalties - least)[:, None] * step
            past = shrunk_before * step_before
            shrunk_after = shrunk * past / (step * turn * (shrunk_before - shrunk) + past * shift + _LEAST)
            shrunk_after = np.where(past > 0, np.maximum(shrunk_after, _TINY), shrunk)  # 0: a class is solved
            residual -= step.astype(np.float32) * change
            before, squared = squared, _squares(residual)
            turn = squared / np.maximum(before, _TINY)
            for weight, direction, now, after in zip(weights, directions, shrunk, shrunk_after, strict=True):
                weight += (step * after / now).astype(np.float32) * direction
                direction *= (turn * (after / now) ** 2).astype(np.float32)
                direction += after.astype(np.float32) * residual
            shrunk_before, shrunk, step_before = shrunk, shrunk_after, step
        return weights, prior


def _squares(columns: FloatArray) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64] = np.einsum("mk,mk->k", columns, columns).astype(np.float64)
    return sums


def _vector_share(count: int, classes: int) -> float:
    """Return the vectors' share of a row's squared length: the more examples, the more the n-grams know themselves.

    Few examples share few n-grams with other texts, and vectors are all that is alike in them. Of many, n-grams tell as
    much or more; and vectors of texts that the encoder has learnt from know their classes, so they look better than
    they are.
    """
    least, most = _VECTOR_SHARES
    return min(max(_VECTOR_EXAMPLES / (_VECTOR_EXAMPLES + count / classes), least), most)


def _choose(texts: _Texts, choices: Sequence[float]) -> tuple[float, float, LeftOut]:
    """Return what is best on texts left out of a fit: C, and the factor of the scores; and what they say by these.

    The factor is the one whose softmax has the least log loss. C tells most of the texts rightly, or has the least log
    loss where they are too few for that.
    """
    targets, classes = texts.targets, texts.classes
    places: list[npt.NDArray[np.int64]] = []
    scores: list[list[FloatArray]] = [[] for _ in choices]
    rounds = left_out_rows(targets, _MANY_CHOSEN) if len(choices) > 1 else left_out_rows(targets)
    for kept, left_out in rounds:
        fitted = texts.take(kept)
        ngrams = fitted.ngrams()
        weights, prior = fitted.design(ngrams).solve(fitted.targets, classes, choices)
        seen = texts.take(left_out).design(ngrams)
        for part, weight in zip(scores, weights, strict=True):
            part.append(seen.scores(weight) + prior)
        places.append(left_out)
    numbers = np.concatenate(places)
    count, right = len(numbers), targets[numbers]
    found = []
    for C, part in zip(choices, scores, strict=True):
        rows = np.concatenate(part).astype(np.float64)
        wrong = np.mean(rows.argmax(axis=1) != right) if count >= _COUNTED else 0.0
        rows -= rows[np.arange(count), right][:, None]  # the log loss is then the log of the sum of exp
        # As if one label more were wrong (after Platt 1999): else a few texts told rightly make the fit sure of all.
        doubt = rows.mean() * classes / (classes - 1) / (count + 2)
        losses = [np.mean(np.log(np.exp(factor * rows).sum(axis=1))) - factor * doubt for factor in _FACTORS]
        best = int(np.argmin(losses))
        found.append((wrong, losses[best], float(C), float(_FACTORS[best]), rows))
    _, _, C, factor, rows = min(found, key=lambda one: one[:2])
    return C, factor, LeftOut(numbers, softmax(factor * rows))
