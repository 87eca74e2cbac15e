"""The metrics of `jinyi.metrics` on many draws of the same rows at once.

A draw is how often each row was taken: counts [draws, n]. Each function here prepares the rows (sorts them, for metrics
that go by order) and returns a function from counts to scores [draws]. Scores equal `jinyi.metrics` on the drawn rows
to 1e-12; where that raises for rows without a score, they are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi import metrics

Floats = npt.NDArray[np.float64]
OnDraws = Callable[[Floats], Floats]


def counts(rows: npt.NDArray[np.int64]) -> Floats:
    """How often each row was drawn.

    Args:
        rows: [draws, n], numbers from 0 to n - 1.

    Returns:
        float64 [draws, n].
    """
    draws, n = rows.shape
    places = rows + n * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def pearson(labels: npt.ArrayLike, scores: npt.ArrayLike) -> OnDraws:
    """`jinyi.metrics.pearson`."""
    x, y = _centred(labels), _centred(scores)
    moments = np.stack((x, y, x * x, y * y, x * y), axis=1)
    varies_x, varies_y = _varies(x), _varies(y)

    def on(drawn: Floats) -> Floats:
        sums = drawn @ moments / len(x)
        mean_x, mean_y = sums[:, 0], sums[:, 1]
        covariance = sums[:, 4] - mean_x * mean_y
        spread = (sums[:, 2] - mean_x**2) * (sums[:, 3] - mean_y**2)
        return _correlation(covariance, spread, varies_x(drawn), varies_y(drawn))

    return on


def spearman(labels: npt.ArrayLike, scores: npt.ArrayLike) -> OnDraws:
    """`jinyi.metrics.spearman`: ranks within each draw come from running sums over the sorted rows."""
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    ranks_x, ranks_y = _drawn_ranks(x), _drawn_ranks(y)
    varies_x, varies_y = _varies(x), _varies(y)

    def on(drawn: Floats) -> Floats:
        # A draw of n rows has ranks of mean (n + 1) / 2 whatever its ties.
        a, b = ranks_x(drawn) - (len(x) + 1) / 2, ranks_y(drawn) - (len(x) + 1) / 2
        covariance = np.einsum("dn,dn,dn->d", drawn, a, b)
        spread = np.einsum("dn,dn,dn->d", drawn, a, a) * np.einsum("dn,dn,dn->d", drawn, b, b)
        return _correlation(covariance, spread, varies_x(drawn), varies_y(drawn))

    return on


def accuracy(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> OnDraws:
    """`jinyi.metrics.accuracy`."""
    right = (np.asarray(labels) == np.asarray(predicted)).astype(np.float64)
    return lambda drawn: drawn @ right / len(right)


def f1(labels: npt.ArrayLike, predicted: npt.ArrayLike, *, positive: Any = 1) -> OnDraws:
    """`jinyi.metrics.f1`."""
    return macro_f1(labels, predicted, classes=[positive])


def macro_f1(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, *, classes: Sequence[Any] | None = None
) -> OnDraws:
    """`jinyi.metrics.macro_f1`."""
    x, y = np.asarray(labels), np.asarray(predicted)
    names = np.unique(np.concatenate((x, y))) if classes is None else np.asarray(classes)
    true = (x[:, None] == names).astype(np.float64)
    said = (y[:, None] == names).astype(np.float64)
    hit, either = true * said, true + said

    def on(drawn: Floats) -> Floats:
        total = drawn @ either
        each = np.divide(2 * (drawn @ hit), total, out=np.zeros_like(total), where=total > 0)
        if classes is not None:
            return np.asarray(each.mean(axis=1))
        return np.asarray(each.sum(axis=1) / (total > 0).sum(axis=1))  # classes that occur in the draw

    return on


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> OnDraws:
    """`jinyi.metrics.roc_auc`."""
    order, starts = _by_score(scores)
    positive = np.asarray(labels, dtype=np.float64)[order]

    def on(drawn: Floats) -> Floats:
        weights = drawn[:, order]
        ones = np.add.reduceat(weights * positive, starts, axis=1)
        zeros = np.add.reduceat(weights * (1 - positive), starts, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros / 2
        possible = ones.sum(axis=1) * zeros.sum(axis=1)
        return _divided((ones * below).sum(axis=1), possible)

    return on


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> OnDraws:
    """`jinyi.metrics.average_precision`."""
    order, starts = _by_score(-np.asarray(scores, dtype=np.float64))
    positive = np.asarray(labels, dtype=np.float64)[order]

    def on(drawn: Floats) -> Floats:
        weights = drawn[:, order]
        gained = np.add.reduceat(weights * positive, starts, axis=1)
        seen = np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1)
        found = np.cumsum(gained, axis=1)
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        return _divided((gained * precision).sum(axis=1), found[:, -1])

    return on


def _centred(values: npt.ArrayLike) -> Floats:
    """Values around 0 and at most 1 large: the moments of a draw then lose no digits."""
    array = np.asarray(values, dtype=np.float64)
    array = array - array.mean()
    largest = np.abs(array).max()
    return np.asarray(array / largest if largest else array)


def _by_score(scores: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The order of rows by score, lowest first, and where each group of equal scores begins in it."""
    array = np.asarray(scores, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    ranked = array[order]
    return order, np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))


def _drawn_ranks(values: Floats) -> OnDraws:
    order, starts = _by_score(values)
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))

    def on(drawn: Floats) -> Floats:
        each = np.add.reduceat(drawn[:, order], starts, axis=1)
        middle = np.cumsum(each, axis=1) - (each - 1) / 2
        return np.asarray(middle[:, group])

    return on


def _varies(values: Floats) -> Callable[[Floats], npt.NDArray[np.bool_]]:
    """Whether more than one value was drawn."""
    order, starts = _by_score(values)

    def on(drawn: Floats) -> npt.NDArray[np.bool_]:
        return np.asarray((np.add.reduceat(drawn[:, order], starts, axis=1) > 0).sum(axis=1) > 1)

    return on


def _correlation(
    covariance: Floats, spread: Floats, labels_vary: npt.NDArray[np.bool_], scores_vary: npt.NDArray[np.bool_]
) -> Floats:
    """Labels that are all equal have no correlation (NaN); scores that are, correlate with nothing (0)."""
    defined = labels_vary & scores_vary & (spread > 0)
    values = np.divide(
        covariance,
        np.sqrt(spread, where=defined, out=np.ones_like(spread)),
        where=defined,
        out=np.zeros_like(covariance),
    )
    return np.where(labels_vary, np.clip(values, -1.0, 1.0), np.nan)


def _divided(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


BY_METRIC: Final[dict[Callable[..., float], Callable[..., OnDraws]]] = {
    metrics.pearson: pearson,
    metrics.spearman: spearman,
    metrics.accuracy: accuracy,
    metrics.f1: f1,
    metrics.macro_f1: macro_f1,
    metrics.roc_auc: roc_auc,
    metrics.average_precision: average_precision,
}
