"""BERT-whitening (Su et al. 2021, arXiv 2103.15316): a linear map that makes vectors isotropic.

Vectors of a language model crowd into a narrow cone, so that unrelated sentences have cosine 0.7. With mean mu and
covariance U diag(lambda) U^T of some vectors, y = (x - mu) U diag(lambda^-1/2) has mean 0 and covariance 1; keeping
the first k columns also shortens the vectors. It is a dense layer and is saved as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.arguments import whole_number
from jinyi.errors import InputError, NotFittedError

EIGENVALUE_FLOOR = 1e-9
"""Directions without variance are not blown up beyond 1 / sqrt of this."""


class Whitening:
    """Whitening of vectors, with scikit-learn's conventions for transformers.

    Args:
        dimension: columns to keep, those with the largest variance first; None keeps all.

    Attributes:
        mean_: float32 [d], mean of the fitted vectors.
        kernel_: float32 [d, k], the map; `transform(x)` is `(x - mean_) @ kernel_`.
        n_features_in_: d.
    """

    mean_: npt.NDArray[np.float32]
    kernel_: npt.NDArray[np.float32]
    n_features_in_: int

    def __init__(self, dimension: int | None = None) -> None:
        self.dimension = dimension

    def fit(self, X: npt.ArrayLike, y: object = None) -> Whitening:
        """Learn mean and kernel from vectors.

        Which vectors are used is part of a result's protocol: published Chinese tables fit on the texts of the test
        set as well.

        Args:
            X: float [n, d], more different rows than `dimension` (or than d).
            y: ignored.

        Raises:
            InputError: too few rows, wrong shape, or `dimension` larger than d.
        """
        vectors = np.asarray(X, np.float64)
        if vectors.ndim != 2:
            raise InputError(
                found=f"an array of shape {vectors.shape}",
                expected="vectors [n, d]",
                fix="Encode texts first.",
            )
        rows, width = vectors.shape
        keep = width
        if self.dimension is not None:
            keep = whole_number(self.dimension, "dimension", most=width, fix="Choose a smaller one.")
        # Equal vectors add no direction: a direction without variance would be noise, blown up.
        different = len({hash(row.tobytes()) for row in vectors})
        if different <= keep:
            raise InputError(
                found=f"{different} different vectors among {rows}",
                expected=f"more than the {keep} dimensions to keep",
                fix="Give more different texts or a smaller dimension.",
            )
        mean = vectors.mean(axis=0)
        values, directions = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(width, width))
        order = np.argsort(-values, kind="stable")[:keep]
        kernel = directions[:, order] / np.sqrt(np.maximum(values[order], EIGENVALUE_FLOOR))
        # An eigenvector's sign is arbitrary; fixing it makes two fits on the same vectors equal on every machine.
        signs = np.sign(kernel[np.abs(kernel).argmax(axis=0), np.arange(keep)])
        self.mean_ = mean.astype(np.float32)
        self.kernel_ = (kernel * signs).astype(np.float32)
        self.n_features_in_ = width
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the whitened vectors, float32 [n, k], not normalised."""
        self._check_fitted()
        result: npt.NDArray[np.float32] = np.matmul(np.asarray(X, np.float32) - self.mean_, self.kernel_)
        return result

    def fit_transform(self, X: npt.ArrayLike, y: object = None) -> npt.NDArray[np.float32]:
        """Fit on vectors and return them whitened."""
        return self.fit(X, y).transform(X)

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return vectors in the space before whitening; exact only where no column was dropped."""
        self._check_fitted()
        back = np.asarray(X, np.float64) @ np.linalg.pinv(self.kernel_.astype(np.float64)) + self.mean_
        return back.astype(np.float32)

    def dense(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the same map as a dense layer: weight [k, d] and bias [k]."""
        self._check_fitted()
        weight = np.ascontiguousarray(self.kernel_.T)
        return weight, -(weight.astype(np.float64) @ self.mean_.astype(np.float64)).astype(np.float32)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"dimension": self.dimension}

    def set_params(self, **params: Any) -> Whitening:
        """Set constructor arguments."""
        for name, value in params.items():
            if name != "dimension":
                raise InputError(found=f"parameter {name}", expected="dimension", fix="Correct the name.")
            self.dimension = value
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "kernel_"):
            raise NotFittedError(
                found="a whitening without a kernel", expected="a fitted one", fix="Call fit(vectors) first."
            )
