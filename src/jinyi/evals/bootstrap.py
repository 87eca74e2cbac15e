"""How far a score may be chance: percentile bootstrap over the rows of a data set (Efron, 1979).

Rows are drawn with replacement, as many as there are, and the score is computed again; the interval holds the middle of
the scores of all draws. Only the rows vary: an interval says nothing about another training run or another domain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.evals import counted

_CELLS = 500_000  # counts held at once: 4 MB
_PATIENCE = 20


def interval(
    metric: Callable[..., float],
    *arrays: npt.ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    scale: float = 1.0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a score.

    The metrics of `jinyi.metrics` (also as `functools.partial` with their keywords) are computed from how often each
    row was drawn, for many draws at once; rows are sorted once, so Spearman's correlation on 9,000 rows and 1,000 draws
    takes about a second. Any other function is called once a draw. Both see the same draws.

    A draw on which the metric is not defined (an InputError: all labels of one class, say) is drawn again, so the
    interval is that of the draws on which it is defined.

    Args:
        metric: function of the arrays, as `jinyi.metrics.spearman`.
        arrays: what the metric takes, each with n rows.
        resamples: draws.
        seed: of the draws; the same seed draws the same rows for every metric and system, so that systems on one data
            set are compared on the same draws.
        level: share of the draws inside the interval.
        scale: what both ends are multiplied by, 100 for per cent.

    Returns:
        lower and upper end.

    Raises:
        InputError: arrays of different lengths or without rows, a metric that is not defined on the rows themselves or
            on nearly all draws, or arguments out of range.
    """
    columns = [np.asarray(array) for array in arrays]
    _check(columns, resamples, level)
    metric(*columns)  # bad rows are told as the metric tells them
    n = len(columns[0])
    draws = np.random.default_rng(seed)
    compute = _prepared(metric, columns)
    values: list[float] = []
    tried = 0
    while len(values) < resamples:
        if tried >= _PATIENCE * resamples:
            raise InputError(
                found=f"{n} rows with {len(values)} of {tried} draws on which the score is defined",
                expected="rows whose draws have a score",
                fix="Give more rows, or leave the interval out.",
                where="bootstrap",
            )
        block = min(resamples - len(values), max(1, _CELLS // n))
        found = compute(np.stack([draws.integers(0, n, n) for _ in range(block)]))
        tried += block
        values += found[~np.isnan(found)].tolist()
    ends = np.quantile(values, ((1 - level) / 2, (1 + level) / 2)) * scale
    return float(ends[0]), float(ends[1])


def _prepared(
    metric: Callable[..., float], columns: list[npt.NDArray[Any]]
) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]:
    """The function from draws [block, n] to scores [block], NaN where the score is not defined."""
    plain = metric.func if isinstance(metric, partial) else metric
    keywords = metric.keywords if isinstance(metric, partial) and not metric.args else {}
    if plain in counted.BY_METRIC and not (isinstance(metric, partial) and metric.args):
        fast = counted.BY_METRIC[plain](*columns, **keywords)
        return lambda rows: fast(counted.counts(rows))

    def one_by_one(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return np.array([_score(metric, [column[row] for column in columns]) for row in rows])

    return one_by_one


def _score(metric: Callable[..., float], columns: list[npt.NDArray[Any]]) -> float:
    try:
        return metric(*columns)
    except InputError:  # not defined on this draw
        return float("nan")


def _check(columns: list[npt.NDArray[Any]], resamples: int, level: float) -> None:
    lengths = [column.shape[:1] for column in columns]
    if not lengths or len(set(lengths)) != 1 or lengths[0] in ((), (0,)):
        raise InputError(
            found=f"arrays of {', '.join(str(length[0] if length else 0) for length in lengths) or 'no'} rows",
            expected="arrays with as many rows, at least one",
            fix="Give labels and scores of the same rows.",
            where="bootstrap",
        )
    if resamples < 1 or not 0 < level < 1:
        raise InputError(
            found=f"resamples={resamples}, level={level}",
            expected="at least one draw and a level between 0 and 1",
            fix="1000 draws and a level of 0.95 are usual.",
            where="bootstrap",
        )
