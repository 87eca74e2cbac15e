"""Cosines between two sides, each of them texts or vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.models.common import FloatArray, as_list, normalise_rows

Encode = Callable[[list[str]], FloatArray]
"""Makes vectors of length 1 of texts."""


def cosine_matrix(a: Any, b: Any, encode: Encode) -> FloatArray:
    """Return the cosine of every a with every b, float32 [len(a), len(b)].

    Args:
        a: texts, or vectors [n, d] of any length.
        b: texts, or vectors [m, d].
        encode: for texts.

    Raises:
        InputError: neither texts nor vectors, or vectors of different models.
    """
    first, second = _both_sides(a, b, encode)
    result: FloatArray = np.matmul(first, second.T)
    return result


def cosines_by_row(a: Any, b: Any, encode: Encode) -> FloatArray:
    """Return the cosine of each a with the b in the same place, float32 [n]; arguments as in `cosine_matrix`.

    Raises:
        InputError: as `cosine_matrix`, or a and b differ in length.
    """
    first, second = _both_sides(a, b, encode)
    if len(first) != len(second):
        raise InputError(
            found=f"{len(first)} and {len(second)} rows",
            expected="as many a as b",
            fix="For all against all use similarity(a, b).",
        )
    result: FloatArray = np.einsum("nd,nd->n", first, second)
    return result


def _both_sides(a: Any, b: Any, encode: Encode) -> tuple[FloatArray, FloatArray]:
    first, second = _unit_vectors(a, "a", encode), _unit_vectors(b, "b", encode)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            found=f"vectors of {first.shape[1]} and of {second.shape[1]} numbers",
            expected="vectors of one model",
            fix="Encode both with this encoder.",
            where="a and b",
        )
    return first, second


def _unit_vectors(values: Any, name: str, encode: Encode) -> FloatArray:
    if isinstance(values, str):
        return encode([values])
    if not isinstance(values, np.ndarray) or values.dtype.kind in "UO":
        values = as_list(values, "texts or vectors")
        if not values or any(value is None or isinstance(value, str) for value in values):
            return encode(values)
    try:
        vectors: npt.NDArray[np.float32] = np.array(values, np.float32, ndmin=2)
    except (TypeError, ValueError):
        raise InputError(
            found=f"rows such as {shorten(values[0])}",
            expected="texts, or vectors [n, d]",
            fix="Pass what encode returned.",
            where=name,
        ) from None
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(
            found=f"an array of shape {vectors.shape}",
            expected="texts, or vectors [n, d]",
            fix="Pass what encode returned.",
            where=name,
        )
    return normalise_rows(vectors)
