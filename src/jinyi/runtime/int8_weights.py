"""Matrices in 8 bits, one scale a row: a quarter of float32's memory, and no calibration.

Only weights are rounded; kernels widen them as they multiply, so activations stay as exact as they were. A row with one
weight far greater than the others has steps too coarse for them, so a matrix of such rows is better left as it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST_ERROR = 0.02  # of a matrix that is rounded, relative; trained ones have 0.007 to 0.012 as a rule
_LEVELS = np.float32(127)  # of each sign; -128 is left out, so that zero is in the middle
_LEAST = np.float32(1e-30)  # of a row's reach: a row of zeros stays zeros
_BLOCK = 1 << 18  # numbers worked on at a time: they stay in the processor's cache


def round_rows(
    matrix: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], float]:
    """Round each row of a matrix to whole steps of a 127th of its greatest absolute value.

    Each weight moves by half a step at most. One pass over a mapped file; no float32 copy of it is made.

    Args:
        matrix: any float type, [rows, columns].

    Returns:
        steps int8 [rows, columns]; the size of a row's step, float32 [rows, 1]: `steps * sizes` is near `matrix`; and
        how near: the expected norm of the difference (remainders spread evenly over a step), relative to that of a
        normal matrix with the same mean absolute value, in which outliers count for little. A row with NaN or infinity
        has a step of that kind, so that what is computed from it shows it too.
    """
    rows = max(1, _BLOCK // matrix.shape[1])
    steps = np.empty(matrix.shape, np.int8)
    sizes = np.empty((len(matrix), 1), np.float32)
    total = 0.0  # of absolute values
    for start in range(0, len(matrix), rows):
        part = slice(start, start + rows)
        block = matrix[part].astype(np.float32)
        absolute = np.abs(block)
        total += float(absolute.sum())
        sizes[part] = size = np.maximum(absolute.max(axis=1, keepdims=True), _LEAST) / _LEVELS
        with np.errstate(invalid="ignore"):  # NaN and infinity
            block *= 1 / size
            steps[part] = np.rint(block, out=block)
    remainder = math.sqrt(float(np.vdot(sizes, sizes)) / len(sizes) / 12)
    spread = total / matrix.size * math.sqrt(math.pi / 2)
    return steps, sizes, remainder / spread if spread > 0 else 0.0
