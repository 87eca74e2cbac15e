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
from jinyi.errors import InputError, NotFittedError, shorten

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

        Returns:
            this object.

        Raises:
            InputError: no numbers, NaN or infinity, wrong shape, too few different rows, or `dimension` larger than d.
        """
        vectors = _numbers(X).astype(np.float64, copy=False)
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise InputError(
                found=f"an array of shape {vectors.shape}",
                expected="vectors [n, d]",
                fix="Encode texts first.",
                where="X",
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
        """Return vectors whitened, not normalised.

        Args:
            X: float [n, d], or one vector [d].

        Returns:
            float32 [n, k]; [k] for one vector.

        Raises:
            NotFittedError: `fit` has not run.
            InputError: no numbers, NaN or infinity, or vectors of another length than those of `fit`.
        """
        self._check_fitted()
        vectors = _of_width(X, self.n_features_in_, "Give vectors of the model that fit was given.")
        centred = vectors.astype(np.float32, copy=False) - self.mean_
        result: npt.NDArray[np.float32] = np.matmul(centred, self.kernel_)
        return result

    def fit_transform(self, X: npt.ArrayLike, y: object = None) -> npt.NDArray[np.float32]:
        """Fit on vectors and return them whitened.

        Args:
            X: as in `fit`.
            y: ignored.

        Returns:
            float32 [n, k].

        Raises:
            InputError: as `fit`.
        """
        return self.fit(X, y).transform(X)

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return vectors in the space before whitening; exact only where no column was dropped.

        Args:
            X: whitened vectors, float [n, k], or one [k].

        Returns:
            float32 [n, d]; [d] for one vector.

        Raises:
            NotFittedError: `fit` has not run.
            InputError: no numbers, NaN or infinity, or vectors of another length than k.
        """
        self._check_fitted()
        vectors = _of_width(X, self.kernel_.shape[1], "Give what transform returned.")
        back = (
            vectors.astype(np.float64, copy=False) @ np.linalg.pinv(self.kernel_.astype(np.float64))
            + self.mean_
        )
        return back.astype(np.float32)

    def dense(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the same map as a dense layer: `transform(x)` is `x @ weight.T + bias`.

        Returns:
            weight, float32 [k, d], and bias, float32 [k].

        Raises:
            NotFittedError: `fit` has not run.
        """
        self._check_fitted()
        weight = np.ascontiguousarray(self.kernel_.T)
        return weight, -(weight.astype(np.float64) @ self.mean_.astype(np.float64)).astype(np.float32)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments.

        Args:
            deep: ignored; scikit-learn passes it.

        Returns:
            {"dimension": as given}.
        """
        return {"dimension": self.dimension}

    def set_params(self, **params: Any) -> Whitening:
        """Set constructor arguments; what was fitted stays until the next `fit`.

        Args:
            **params: `dimension`.

        Returns:
            this object.

        Raises:
            InputError: another parameter.
        """
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


def _numbers(X: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return X as an array of finite numbers, float32 where it is that and else float64.

    Raises:
        InputError: no numbers, rows of unequal length, or NaN, infinity or more than a float32 holds; names the rows.
    """
    try:
        given = np.asarray(X)
        if given.dtype.kind not in "fiubO":
            raise TypeError
        vectors = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError(
            found=f"{shorten(X)} of type {type(X).__name__}",
            expected="vectors [n, d] of numbers",
            fix="Encode texts first.",
            where="X",
        ) from None
    with np.errstate(over="ignore"):
        finite = np.isfinite(vectors.astype(np.float32, copy=False))
    if not finite.all() and vectors.ndim:
        rows = ~finite.reshape(len(vectors), -1).all(axis=1)
        wrong: list[int] = np.flatnonzero(rows).tolist() if vectors.ndim > 1 else []
        error = InputError(
            found="NaN, infinity or a number beyond float32",
            expected="finite numbers",
            fix="Leave such vectors out.",
            where=", ".join(f"row {row}" for row in wrong[:5]) + (" ..." if len(wrong) > 5 else "") or "X",
        )
        error.rows = tuple(wrong)
        raise error
    return vectors


def _of_width(X: npt.ArrayLike, width: int, fix: str) -> npt.NDArray[Any]:
    """Return vectors [n, width], or one [width].

    Raises:
        InputError: as `_numbers`, or another shape.
    """
    vectors = _numbers(X)
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != width:
        raise InputError(
            found=f"an array of shape {vectors.shape}",
            expected=f"vectors [n, {width}]",
            fix=fix,
            where="X",
        )
    return vectors
