"""Calibration of pair scores: a map of log-odds to log-odds whose probabilities hold, in the same order.

By isotonic regression or by Platt's two parameters, fitted in float64 with numpy alone. `jinyi calibrate` measures it
and puts it into the model folder. For topics: `jinyi.models.temperature`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError, InputError, shorten

Floats = npt.NDArray[np.float64]

PAIR_METHODS: Final = ("isotonic", "platt")
_BLOCKS = 100  # knots of an isotonic map: finer steps are noise of the labelled rows
_FLAT = 1e-9  # log-odds a standard deviation of the scores: less is what rounding leaves of none at all
_ROUNDS = 100


@dataclass(frozen=True, eq=False)
class PairCalibration:
    """A map from the log-odds that a pair model gives to calibrated ones: straight between knots and beyond them.

    It rises strictly wherever `slope` is above 0, so that no two pairs change places.

    Args:
        method: "isotonic" or "platt".
        scores: float64 [k], log-odds of the model, rising.
        log_odds: float64 [k], calibrated, rising.
        slope: of the line below the first knot and above the last, 0 or more.
    """

    method: str
    scores: Floats
    log_odds: Floats
    slope: float

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Return calibrated log-odds of a model's log-odds, float64 of the same shape."""
        z, x, y = np.asarray(logits, np.float64), self.scores, self.log_odds
        left = np.clip(np.searchsorted(x, z) - 1, 0, max(len(x) - 2, 0))
        right = np.minimum(left + 1, len(x) - 1)
        gap = np.where(right > left, x[right] - x[left], 1.0)
        share = np.clip((z - x[left]) / gap, 0.0, 1.0)
        # Rounding must not lift a value above the next knot.
        inside = np.minimum(y[left] + (y[right] - y[left]) * share, y[right])
        beyond = np.minimum(z - x[0], 0.0) + np.maximum(z - x[-1], 0.0)
        return np.asarray(inside + self.slope * beyond, np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in `jinyi.json`."""
        return {
            "method": self.method,
            "scores": self.scores.tolist(),
            "log_odds": self.log_odds.tolist(),
            "slope": self.slope,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], where: str) -> PairCalibration:
        """Read it from `jinyi.json`.

        Raises:
            FolderError: another method, or numbers that are no rising map.
        """
        method, slope = saved.get("method"), saved.get("slope")
        knots = [finite_numbers(saved.get(name)) for name in ("scores", "log_odds")]
        good = (
            method in PAIR_METHODS
            and isinstance(slope, (int, float))
            and np.isfinite(slope)
            and slope >= 0
            and len(knots[0]) == len(knots[1]) > 0
            and bool((np.diff(knots[0]) > 0).all() and (np.diff(knots[1]) >= 0).all())
        )
        if not good:
            raise damaged(saved, "a rising map of pair scores (isotonic or platt)", where)
        return cls(str(method), knots[0], knots[1], float(saved["slope"]))


def fit_isotonic(logits: npt.ArrayLike, labels: npt.ArrayLike) -> PairCalibration:
    """Fit by isotonic regression (Zadrozny & Elkan 2002), centred (Oron & Flournoy 2017).

    The blocks of `pool_adjacent_violators` become knots at their mean score. Between them log-odds are interpolated, so
    that scores inside a block keep their order; beyond them Platt's slope goes on. Blocks are merged, at the least
    loss of squares, until 100 are left. In the first and last block half a row is counted for the other label:
    nothing is certain.

    Args:
        logits: log-odds of the model [n].
        labels: 0 and 1 [n].

    Raises:
        InputError: one label alone, or scores that do not rise with the labels.
    """
    z, ones = _binary(logits, labels)
    scores, inverse, counts = np.unique(z, return_inverse=True, return_counts=True)
    similar = np.bincount(inverse.reshape(-1), weights=ones).astype(np.float64)
    centres, rows, hits = _blocks(scores, counts.astype(np.float64), similar)
    # With half a row added an outer block of few rows may fall behind its neighbour.
    centres, rows, hits = _blocks(centres, rows, np.clip(hits, 0.5, rows - 0.5))
    while len(rows) > _BLOCKS:
        gaps = np.diff(hits / rows)
        least = int(np.argmin(gaps**2 * rows[:-1] * rows[1:] / (rows[:-1] + rows[1:])))
        starts = np.delete(np.arange(len(rows)), least + 1)
        centres, rows, hits = _merged(starts, centres, rows, hits)
    if len(rows) < 2:
        raise _does_not_rise("isotonic regression finds no score that tells the labels apart")
    slope, _ = platt_parameters(z, ones)
    return PairCalibration("isotonic", centres, np.log(hits / (rows - hits)), max(slope, 0.0))


def fit_platt(logits: npt.ArrayLike, labels: npt.ArrayLike) -> PairCalibration:
    """Fit log-odds a z + b (Platt 1999); see `platt_parameters`.

    Raises:
        InputError: one label alone, or a slope that is not above 0.
    """
    z, ones = _binary(logits, labels)
    slope, intercept = platt_parameters(z, ones)
    if slope <= 0:
        raise _does_not_rise(f"Platt's slope is {slope:.3g}")
    return PairCalibration("platt", np.zeros(1), np.array([intercept]), slope)


def platt_parameters(logits: Floats, labels: Floats) -> tuple[float, float]:
    """Return a and b of the log-odds a z + b with the least log loss, by Newton's method (Lin, Lin & Weng 2007).

    The labels 1 and 0 count as (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), as in Platt (1999): the fit stays finite where a
    threshold separates the labels.

    Args:
        logits: scores z [n], float64.
        labels: 0.0 and 1.0 [n].
    """
    n1 = float(labels.sum())
    n0 = len(labels) - n1
    target = np.where(labels == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    mean, scale = float(logits.mean()), float(logits.std()) or 1.0
    design = np.stack([(logits - mean) / scale, np.ones(len(logits))])
    at = np.array([0.0, np.log((n1 + 1) / (n0 + 1))])

    def loss(parameters: Floats) -> float:
        odds = parameters @ design
        return float(np.sum(np.logaddexp(0.0, odds) - target * odds))

    now = loss(at)
    for _ in range(_ROUNDS):
        share = _sigmoid(at @ design)
        gradient = design @ (share - target)
        if np.abs(gradient).max() <= 1e-12 * len(target):
            break
        curvature = (design * (share * (1.0 - share))) @ design.T + 1e-12 * np.eye(2)
        step, length = np.linalg.solve(curvature, gradient), 1.0
        while (then := loss(at - length * step)) > now and length > 1e-10:
            length /= 2
        if then > now:
            break
        at, now = at - length * step, then
    if abs(at[0]) < _FLAT:
        at[0] = 0.0
    return float(at[0] / scale), float(at[1] - at[0] * mean / scale)


def pool_adjacent_violators(totals: Floats, weights: Floats) -> npt.NDArray[np.int64]:
    """Return the blocks of an isotonic regression: how many places each of them joins, in their order.

    The regression is constant on a block, at its weighted mean; means rise strictly from block to block. Cost: linear.

    Args:
        totals: value times weight of each place [n], in the order in which values are to rise; for shares the number
            of hits, which keeps comparisons exact.
        weights: [n], above 0.
    """
    blocks: list[tuple[float, float, int]] = []
    for total, weight in zip(totals.tolist(), weights.tolist(), strict=True):
        count = 1
        while blocks and blocks[-1][0] * weight >= total * blocks[-1][1]:
            before = blocks.pop()
            total, weight, count = total + before[0], weight + before[1], count + before[2]
        blocks.append((total, weight, count))
    return np.array([count for _, _, count in blocks], np.int64)


def _blocks(centres: Floats, rows: Floats, hits: Floats) -> tuple[Floats, Floats, Floats]:
    lengths = pool_adjacent_violators(hits, rows)
    return _merged(np.cumsum(lengths) - lengths, centres, rows, hits)


def _merged(
    starts: npt.NDArray[np.int64], centres: Floats, rows: Floats, hits: Floats
) -> tuple[Floats, Floats, Floats]:
    """Join neighbours: centre, rows and hits of the blocks that begin at `starts`."""
    total = np.add.reduceat(rows, starts)
    middle = np.add.reduceat(centres * rows, starts) / total
    last = np.append(starts[1:], len(rows)) - 1
    return np.clip(middle, centres[starts], centres[last]), total, np.add.reduceat(hits, starts)


def _binary(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Floats]:
    z, ones = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if (
        z.ndim != 1
        or z.shape != ones.shape
        or not np.isfinite(z).all()
        or not np.isin(ones, (0.0, 1.0)).all()
    ):
        raise InputError(
            found=f"scores of shape {z.shape} and labels of shape {ones.shape}",
            expected="as many finite scores as labels 0 and 1",
            fix="Give one label for each score.",
        )
    if len(ones) == 0 or (ones == ones[0]).all():
        raise InputError(
            found=f"{len(ones)} labels that are all {int(ones[0])}" if len(ones) else "no rows",
            expected="labels 0 and 1",
            fix="Calibrate on rows like those of later use, similar pairs and others.",
        )
    return z, ones


def _does_not_rise(found: str) -> InputError:
    return InputError(
        found=f"scores that do not rise with the labels: {found}",
        expected="similar pairs to score higher than others as a rule",
        fix="Check that label 1 means similar; if it does, this model cannot tell these pairs apart.",
    )


def finite_numbers(values: Any) -> Floats:
    """Return finite numbers as an array; an empty one for anything else."""
    numeric = isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
        for value in values
    )
    return np.asarray(values if numeric else [], np.float64)


def damaged(saved: Mapping[str, Any], expected: str, where: str) -> FolderError:
    """Return the error of a damaged entry `calibration`."""
    return FolderError(
        found=f"calibration {shorten(dict(saved), 80)}",
        expected=expected,
        fix="Calibrate the model again with `jinyi calibrate`.",
        where=where,
    )


def _sigmoid(odds: Floats) -> Floats:
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, small) / (1.0 + small)
