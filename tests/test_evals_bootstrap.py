"""Bootstrap intervals: equal to a plain loop, to a known case, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi import InputError, metrics
from jinyi.evals import counted
from jinyi.evals.bootstrap import interval

Metric = Callable[..., float]
METRICS: dict[str, tuple[Metric, str]] = {
    "pearson": (metrics.pearson, "graded"),
    "spearman": (metrics.spearman, "graded"),
    "accuracy": (metrics.accuracy, "classes"),
    "f1": (metrics.f1, "classes"),
    "f1 of 2": (partial(metrics.f1, positive=2), "classes"),
    "macro F1": (metrics.macro_f1, "classes"),
    "macro F1 of given classes": (partial(metrics.macro_f1, classes=[0, 1, 2, 7]), "classes"),
    "AUC": (metrics.roc_auc, "binary"),
    "average precision": (metrics.average_precision, "binary"),
}


def rows(kind: str, n: int, seed: int = 0) -> tuple[Any, Any]:
    chance = np.random.default_rng(seed)
    if kind == "classes":
        return chance.integers(0, 3, n), chance.integers(0, 4, n)
    labels = chance.integers(0, 2 if kind == "binary" else 5, n)
    # Rounded, so that scores are equal now and then; far from 0, where moments would lose digits.
    return labels, np.round(labels * 0.4 + chance.normal(size=n), 1) + 1000.0


def loop(metric: Metric, *arrays: Any, resamples: int, seed: int) -> list[float]:
    """The definition, without any cleverness."""
    chance = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < resamples:
        drawn = chance.integers(0, len(arrays[0]), len(arrays[0]))
        try:
            values.append(metric(*(np.asarray(array)[drawn] for array in arrays)))
        except InputError:
            continue
    return values


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("n", [5, 60])
def test_fast_metrics_equal_a_plain_loop(name: str, n: int) -> None:
    metric, kind = METRICS[name]
    labels, scores = rows(kind, n, seed=3)
    values = loop(metric, labels, scores, resamples=200, seed=7)
    found = interval(metric, labels, scores, resamples=200, seed=7)
    assert found == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-12)


@given(
    st.sampled_from(sorted(METRICS)),
    st.integers(2, 12),
    st.integers(0, 2**32),
)
def test_each_draw_equals_the_metric(name: str, n: int, seed: int) -> None:
    metric, kind = METRICS[name]
    labels, scores = rows(kind, n, seed)
    plain = metric.func if isinstance(metric, partial) else metric
    fast = counted.BY_METRIC[plain](
        labels, scores, **(metric.keywords if isinstance(metric, partial) else {})
    )
    drawn = np.random.default_rng(seed + 1).integers(0, n, (20, n))
    for row, value in zip(drawn, fast(counted.counts(drawn)), strict=True):
        try:
            wanted = metric(labels[row], scores[row])
        except InputError:
            wanted = float("nan")
        assert value == pytest.approx(wanted, abs=1e-9, nan_ok=True)


def test_classes_may_be_text() -> None:
    labels, said = ["体育", "财经", "体育", "房产"] * 5, ["体育", "体育", "体育", "房产"] * 5
    low, high = interval(metrics.accuracy, labels, said, scale=100)
    assert low < 75 < high
    assert interval(metrics.macro_f1, labels, said, scale=100) == pytest.approx(
        [100 * end for end in interval(metrics.macro_f1, labels, said)]
    )


def test_any_function_is_taken() -> None:
    def share(values: Any) -> float:
        return float(np.mean(values))

    values = np.random.default_rng(0).random(40)
    wanted = np.quantile(loop(share, values, resamples=300, seed=1), (0.05, 0.95))
    assert interval(share, values, resamples=300, seed=1, level=0.9) == pytest.approx(tuple(wanted))


def test_seeds() -> None:
    labels, scores = rows("graded", 80)
    first = interval(metrics.spearman, labels, scores, seed=1)
    assert first == interval(metrics.spearman, labels, scores, seed=1)
    assert first != interval(metrics.spearman, labels, scores, seed=2)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = rows("binary", 30)
    whole = interval(metrics.roc_auc, labels, scores, resamples=100)
    monkeypatch.setattr("jinyi.evals.bootstrap._CELLS", 90)
    assert interval(metrics.roc_auc, labels, scores, resamples=100) == pytest.approx(whole, abs=1e-12)


def test_coverage_of_a_share() -> None:
    """Of a share of 0.7 over 150 rows, about 95% of the intervals hold the true value."""
    chance = np.random.default_rng(11)
    inside = 0
    for seed in range(300):
        right = (chance.random(150) < 0.7).astype(int)
        low, high = interval(metrics.accuracy, np.ones(150, int), right, resamples=300, seed=seed)
        inside += low <= 0.7 <= high
    assert 0.91 <= inside / 300 <= 0.98


def test_draws_without_a_score_are_drawn_again() -> None:
    labels, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.95])
    values = loop(metrics.roc_auc, labels, scores, resamples=200, seed=0)
    assert interval(metrics.roc_auc, labels, scores, resamples=200) == pytest.approx(
        tuple(np.quantile(values, (0.025, 0.975)))
    )


def test_bad_rows() -> None:
    with pytest.raises(InputError, match="all 1"):
        interval(metrics.roc_auc, [1, 1, 1], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="as many"):
        interval(metrics.accuracy, [1, 0], [1])
    with pytest.raises(InputError, match="at least one"):
        interval(metrics.accuracy, [], [])
    with pytest.raises(InputError, match="at least one draw"):
        interval(metrics.accuracy, [1, 0], [1, 0], resamples=0)

    calls = []

    def once(values: Any) -> float:
        calls.append(1)
        if len(calls) > 1:
            raise InputError(found="a draw", expected="another", fix="None.")
        return 1.0

    with pytest.raises(InputError, match="0 of .* draws"):
        interval(once, [1, 2, 3], resamples=5)


def test_nine_thousand_rows_take_seconds() -> None:
    labels, scores = rows("graded", 9000)
    begin = perf_counter()
    interval(metrics.spearman, labels, scores)
    assert perf_counter() - begin < 20
