"""Random numbers that are functions of their place.

A generator's numbers depend on how many were drawn before. These depend on nothing but a key (seed, step...) and their
own place, so that a process that computes some rows of a batch draws for them what one process would draw, and a
resumed run needs no state. Each is a hash by the output function of SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def uniform(key: Sequence[int], *places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Numbers spread evenly over [0, 1).

    Args:
        key: whole numbers from 0, such as (seed, step, purpose).
        places: arrays of whole numbers from 0 that broadcast together, such as rows [R, 1] and columns [L]; one at
            least.

    Returns:
        float64, of the shape the places broadcast to. About 20 ns a number.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        state = _mix(state + np.uint64(part))
    for place in places:
        state = _mix(state + place.astype(np.uint64))
    numbers: npt.NDArray[np.float64] = (state >> np.uint64(11)) * 2.0**-53
    return numbers


def below(limit: int, key: Sequence[int], *places: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Whole numbers from 0 to `limit` - 1; the other arguments as for `uniform`."""
    return (uniform(key, *places) * limit).astype(np.int64)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    mixed: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed
