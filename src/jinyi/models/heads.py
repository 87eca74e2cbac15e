"""Heads of a fitted topic classifier: they turn sentence vectors into class probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.common import FloatArray, normalise_rows
from jinyi.models.logistic import fit_logistic
from jinyi.models.whitening import Whitening

Numbers = npt.NDArray[np.int64]

DECIDERS = ("prototype", "nearest", "knn")
_TEMPERATURE = 0.05  # of cosines, as in SimCSE's loss: cosines differ by a few hundredths between classes
_MANY = 1000  # texts of which one part tells enough
_FOLDS = 5
_HELD_OUT = 4000  # enough texts to choose one number
_ROWS = 4096  # texts compared with all references at a time


def softmax(scores: npt.NDArray[Any]) -> FloatArray:
    """Return the softmax of each row, float32."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    values: FloatArray = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return values


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What fits on the other texts say of some: what the head is worth on texts it has not seen.

    Args:
        rows: int64 [k], which texts.
        proba: float32 [k, classes].
    """

    rows: Numbers
    proba: FloatArray


def left_out_rows(targets: Numbers, many: int = _MANY) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield texts to fit on, and those left out of that fit: a fifth of every class, as far as it can be cut so.

    By chance alone the texts of one class would often be left out together, and a fit on the others would take the
    class for rarer than it is. Few texts are left out in turn, a fifth at a time; of many, one part is.

    Args:
        targets: class number of each text.
        many: so many texts and more are many.
    """
    count = len(targets)
    order = np.random.default_rng(0).permutation(count)
    order = order[np.argsort(targets[order], kind="stable")]  # neighbours are of one class
    few = count < many
    stride = _FOLDS if few else max(_FOLDS, count // _HELD_OUT)
    for first in range(min(_FOLDS, count) if few else 1):
        left_out = np.zeros(count, bool)
        left_out[order[first::stride]] = True
        yield np.flatnonzero(~left_out), np.flatnonzero(left_out)


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Multinomial logistic regression on standardised vectors.

    Args:
        weight: float32 [classes, d].
        bias: float32 [classes].
    """

    weight: FloatArray
    bias: FloatArray

    @classmethod
    def fit(cls, vectors: FloatArray, targets: npt.NDArray[np.int64], classes: int, C: float) -> LinearHead:
        """Fit on vectors [n, d] with class numbers [n]; C as in scikit-learn."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        scale = vectors.std(axis=0, dtype=np.float64)
        scale[scale == 0] = 1.0
        weight, bias = fit_logistic((vectors - mean) / scale, targets, classes, C=C)
        weight /= scale
        return cls(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))

    @classmethod
    def left_out(cls, vectors: FloatArray, targets: Numbers, classes: int, C: float) -> LeftOut:
        """Return what fits as by `fit` say of texts left out of them; costs as much as one to five of it."""
        rows, proba = [], []
        for kept, left_out in left_out_rows(targets):
            proba.append(cls.fit(vectors[kept], targets[kept], classes, C).proba(vectors[left_out]))
            rows.append(left_out)
        return LeftOut(np.concatenate(rows), np.concatenate(proba))

    def proba(self, vectors: FloatArray) -> FloatArray:
        """Return class probabilities, float32 [n, classes]."""
        return softmax(vectors @ self.weight.T + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` needs."""
        return {"weight": self.weight, "bias": self.bias}

    def settings(self) -> dict[str, Any]:
        """Return what `from_arrays` needs besides the arrays and the number of classes."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> LinearHead:
        """Rebuild a saved head."""
        return cls(arrays["weight"], arrays["bias"])


@dataclass(frozen=True, eq=False)
class ReferenceHead:
    """Compares a vector with labelled reference vectors by cosine, whitened or not (the TCBert protocol).

    Args:
        references: float32 [m, k], of length 1: the training vectors, or one mean per class.
        targets: int64 [m], class number of each reference.
        classes: number of classes.
        decider: "prototype" and "nearest" take the softmax over each class's best cosine; "knn" lets the
            `neighbors` nearest vote with weights softmax(-distance).
        neighbors: voters of "knn".
        kernel: float32 [d, k] of the whitening, or None.
        mean: float32 [d] of the whitening, or None.
    """

    references: FloatArray
    targets: npt.NDArray[np.int64]
    classes: int
    decider: str
    neighbors: int
    kernel: FloatArray | None = None
    mean: FloatArray | None = None

    @classmethod
    def fit(
        cls,
        vectors: FloatArray,
        targets: npt.NDArray[np.int64],
        classes: int,
        *,
        decider: str,
        neighbors: int,
        whitening: int | None,
    ) -> ReferenceHead:
        """Take vectors [n, d] with class numbers [n] as references; whiten to `whitening` columns if given."""
        kernel = mean = None
        if whitening is not None:
            fitted = Whitening(whitening).fit(vectors)
            kernel, mean = fitted.kernel_, fitted.mean_
            vectors = fitted.transform(vectors)
        units = normalise_rows(np.array(vectors, np.float32))
        if decider == "prototype":
            sums = np.zeros((classes, units.shape[1]), np.float32)
            np.add.at(sums, targets, units)
            units, targets = normalise_rows(sums), np.arange(classes)
        return cls(units, targets, classes, decider, neighbors, kernel, mean)

    def proba(self, vectors: FloatArray) -> FloatArray:
        """Return class probabilities, float32 [n, classes]."""
        parts = [self._proba(vectors[start : start + _ROWS]) for start in range(0, len(vectors), _ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, self.classes), np.float32)

    def _proba(self, vectors: FloatArray) -> FloatArray:
        if self.kernel is not None and self.mean is not None:
            vectors = np.matmul(vectors - self.mean, self.kernel)
        cosines: FloatArray = np.matmul(normalise_rows(np.array(vectors, np.float32)), self.references.T)
        if self.decider == "knn":
            voters = min(self.neighbors, len(self.targets))
            near = np.argpartition(-cosines, voters - 1, axis=1)[:, :voters]
            near_cosines = np.take_along_axis(cosines, near, axis=1)
            votes = softmax(-np.sqrt(np.maximum(2.0 - 2.0 * near_cosines, 0.0)))
            result = np.zeros((len(vectors), self.classes), np.float32)
            np.add.at(result, (np.arange(len(vectors))[:, None], self.targets[near]), votes)
            return result
        best = np.full((len(vectors), self.classes), -1.0, np.float32)
        for number in range(self.classes):
            best[:, number] = cosines[:, self.targets == number].max(axis=1)
        return softmax(best / _TEMPERATURE)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` needs besides the settings."""
        arrays: dict[str, npt.NDArray[Any]] = {"references": self.references, "targets": self.targets}
        if self.kernel is not None and self.mean is not None:
            arrays |= {"kernel": self.kernel, "mean": self.mean}
        return arrays

    def settings(self) -> dict[str, Any]:
        """Return what `from_arrays` needs besides the arrays and the number of classes."""
        return {"decider": self.decider, "neighbors": self.neighbors}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]
    ) -> ReferenceHead:
        """Rebuild a saved head."""
        return cls(
            arrays["references"],
            arrays["targets"],
            int(settings["classes"]),
            str(settings["decider"]),
            int(settings["neighbors"]),
            arrays.get("kernel"),
            arrays.get("mean"),
        )
