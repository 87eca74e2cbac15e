"""Metrics equal scipy's and scikit-learn's, ties and odd input included."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi import metrics
from jinyi.errors import InputError

stats = pytest.importorskip("scipy.stats")
sk = pytest.importorskip("sklearn.metrics")

LIMIT = 1e-12

levels = st.integers(-3, 3).map(float)  # few of them, so that there are ties
scores = st.one_of(levels, st.floats(-1e6, 1e6, allow_subnormal=False))
rows = st.integers(2, 40).flatmap(
    lambda n: st.tuples(st.lists(scores, min_size=n, max_size=n), st.lists(scores, min_size=n, max_size=n))
)
classes = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)
)
ranked = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n), st.lists(scores, min_size=n, max_size=n)
    )
)


def theirs(metric: Callable[..., Any], *args: Any, **options: Any) -> float:
    """Value of another library, whose warnings (nearly constant input, classes never predicted) are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(metric(*args, **options))


@settings(max_examples=30)
@given(rows)
def test_correlations(pair: tuple[list[float], list[float]]) -> None:
    x, y = pair
    for ours, their in ((metrics.pearson, stats.pearsonr), (metrics.spearman, stats.spearmanr)):
        if len(set(x)) == 1:
            with pytest.raises(InputError, match="not defined"):
                ours(x, y)
        elif len(set(y)) == 1:
            assert ours(x, y) == 0.0
        else:
            expected = theirs(lambda a, b, their=their: their(a, b).statistic, x, y)
            # Values that differ in their last digits alone lose them in any mean: nothing is left to compare.
            steady = min(np.std(x) / max(map(abs, x)), np.std(y) / max(map(abs, y))) > 1e-3
            if steady or ours is metrics.spearman:
                assert abs(ours(x, y) - expected) <= LIMIT
            assert ours(y, x) == pytest.approx(ours(x, y), abs=LIMIT)


def test_correlation_of_huge_and_tiny_numbers() -> None:
    x, y = np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.1, 0.3, 0.2, 0.6])
    expected = metrics.pearson(x, y)
    assert metrics.pearson(x * 1e307, y * 1e-300) == pytest.approx(expected, abs=LIMIT)
    assert metrics.pearson(x, 3 * x) == pytest.approx(1.0, abs=LIMIT)
    assert metrics.pearson(x, -x) >= -1.0
    # Equal numbers whose mean is not exactly that number.
    assert metrics.pearson([0, 1, 1], [0.1, 0.1, 0.1]) == 0.0


@settings(max_examples=30)
@given(classes)
def test_classes(pair: tuple[list[int], list[int]]) -> None:
    true, said = pair
    assert abs(metrics.accuracy(true, said) - theirs(sk.accuracy_score, true, said)) <= LIMIT
    assert abs(metrics.macro_f1(true, said) - theirs(sk.f1_score, true, said, average="macro")) <= LIMIT
    fixed = theirs(sk.f1_score, true, said, average="macro", labels=[0, 1, 2, 7])
    assert abs(metrics.macro_f1(true, said, classes=[0, 1, 2, 7]) - fixed) <= LIMIT
    one = theirs(sk.f1_score, [c == 3 for c in true], [c == 3 for c in said])
    assert abs(metrics.f1(true, said, positive=3) - one) <= LIMIT


def test_classes_may_be_text() -> None:
    true, said = ["体育", "财经", "财经", "房产"], ["体育", "财经", "体育", "财经"]
    assert metrics.accuracy(true, said) == 0.5
    assert metrics.macro_f1(true, np.array(said)) == pytest.approx((2 / 3 + 0.5 + 0) / 3, abs=LIMIT)
    assert metrics.f1(true, said, positive="体育") == pytest.approx(2 / 3, abs=LIMIT)
    assert metrics.f1([0, 0], [0, 0]) == 0.0


@settings(max_examples=30)
@given(ranked)
def test_ranking(pair: tuple[list[int], list[float]]) -> None:
    true, score = pair
    if len(set(true)) == 2:
        assert abs(metrics.roc_auc(true, score) - theirs(sk.roc_auc_score, true, score)) <= LIMIT
    else:
        with pytest.raises(InputError, match="ROC AUC"):
            metrics.roc_auc(true, score)
    if any(true):
        ours = metrics.average_precision(true, score)
        assert abs(ours - theirs(sk.average_precision_score, true, score)) <= LIMIT
    else:
        with pytest.raises(InputError, match="average precision"):
            metrics.average_precision(true, score)


def test_many_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 20_000)
    y = np.round(x + 2 * rng.normal(size=20_000), 2)
    assert abs(metrics.roc_auc(x, y) - sk.roc_auc_score(x, y)) <= LIMIT
    assert abs(metrics.average_precision(x, y) - sk.average_precision_score(x, y)) <= LIMIT
    assert abs(metrics.spearman(x, y) - stats.spearmanr(x, y).statistic) <= LIMIT
    assert abs(metrics.pearson(x, y) - stats.pearsonr(x, y).statistic) <= LIMIT


CORRELATIONS = [metrics.pearson, metrics.spearman]
RANKINGS = [metrics.roc_auc, metrics.average_precision]
CLASSES = [metrics.accuracy, metrics.macro_f1, metrics.f1]


@pytest.mark.parametrize("metric", CORRELATIONS + RANKINGS + CLASSES)
def test_rows_must_fit(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="2 labels and 3 predictions"):
        metric([0, 1], [0, 1, 1])
    with pytest.raises(InputError, match="0 rows"):
        metric([], [])


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_equal_labels_are_told_as_they_are(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="3 labels that are all 5"):
        metric([5, 5, 5], [0, 1, 2])


@pytest.mark.parametrize("metric", CORRELATIONS + RANKINGS)
def test_scores_must_be_finite_numbers(metric: Callable[..., float]) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="row 1.*among the scores"):
            metric([0, 1, 1], [0.1, bad, 0.2])
    with pytest.raises(InputError, match="a list of numbers"):
        metric([0, 1], ["0.1", "0.2"])
    with pytest.raises(InputError, match="a list of numbers"):
        metric([0, 1], [[0.1], [0.2]])


@pytest.mark.parametrize("metric", RANKINGS)
def test_rankings_need_labels_0_and_1(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="row 2.*label 2"):
        metric([0, 1, 2], [0.1, 0.2, 0.3])
    assert metric(np.array([False, True]), [0.1, 0.2]) == 1.0


@pytest.mark.parametrize("metric", CLASSES)
@pytest.mark.parametrize(
    "bad", [[1, "1"], ["1", None], [[1], [0]], [[1, 2], [3]], [1.0, np.nan], [1, b"1"]], ids=str
)
def test_classes_must_be_numbers_or_text(metric: Callable[..., float], bad: list[Any]) -> None:
    with pytest.raises(InputError, match="a list of numbers or a list of texts"):
        metric([0, 1], bad)


def test_text_and_numbers_do_not_mix() -> None:
    with pytest.raises(InputError, match="both text or both numbers"):
        metrics.accuracy(["0", "1"], [0, 1])
    with pytest.raises(InputError, match="as the labels name it|form the labels have"):
        metrics.f1(["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="at least one class"):
        metrics.macro_f1([0, 1], [0, 1], classes=[])


shares = st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda k: k / 15))
judged = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n), st.lists(shares, min_size=n, max_size=n)
    )
)


@given(judged, st.integers(1, 20))
def test_calibration_error_is_a_plain_loop_over_bins(rows: tuple[list[int], list[float]], bins: int) -> None:
    labels, p = map(np.array, rows)
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for place in range(bins):
        inside = (p > edges[place]) & (p <= edges[place + 1]) | ((place == 0) & (p == 0))
        if inside.any():
            total += inside.mean() * abs(labels[inside].mean() - p[inside].mean())
    assert abs(metrics.expected_calibration_error(labels, p, bins=bins) - total) <= LIMIT
    found = metrics.reliability_bins(labels, p, bins=bins)
    assert found.count.sum() == len(p) and (found.count > 0).all()
    assert found.predicted @ found.count == pytest.approx(p.sum())
    assert found.observed @ found.count == pytest.approx(labels.sum())


@given(judged)
def test_probability_scores(rows: tuple[list[int], list[float]]) -> None:
    labels, p = rows
    assert abs(metrics.brier_score(labels, p) - theirs(sk.brier_score_loss, labels, p)) <= LIMIT
    expected = theirs(sk.log_loss, labels, p, labels=[0, 1])
    assert abs(metrics.log_loss(labels, p) - expected) <= 1e-9


def test_probability_scores_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), 500)
    labels = rng.integers(0, 6, 500)
    assert abs(metrics.log_loss(labels, p) - sk.log_loss(labels, p)) <= LIMIT
    assert abs(metrics.brier_score(labels, p) - np.mean(((p - np.eye(6)[labels]) ** 2).sum(1))) <= LIMIT
    one = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    own = (labels == 0).astype(int)
    assert metrics.log_loss(own, one) == pytest.approx(metrics.log_loss(own, p[:, 0]), abs=LIMIT)
    assert np.isfinite(metrics.log_loss([0, 1], [1.0, 0.0]))


def test_probabilities_must_be_probabilities() -> None:
    for metric in (metrics.expected_calibration_error, metrics.brier_score, metrics.log_loss):
        with pytest.raises(InputError, match="row 1.*probabilities"):
            metric([0, 1], [0.5, 1.5])
        with pytest.raises(InputError, match="row 1"):
            metric([0, 1], [0.5, np.nan])
        with pytest.raises(InputError, match="label 2"):
            metric([0, 2], [0.5, 0.5])
        with pytest.raises(InputError, match="0 rows"):
            metric([], [])
    for metric in (metrics.brier_score, metrics.log_loss):
        with pytest.raises(InputError, match="row 1.*label 3.*0 to 2"):
            metric([0, 3], np.full((2, 3), 1 / 3))
        with pytest.raises(InputError, match="row 0.*probabilities"):
            metric([0, 1], [[np.nan, 0.5], [0.5, 0.5]])
        with pytest.raises(InputError, match="2 labels and 3 predictions"):
            metric([0, 1], np.full((3, 3), 1 / 3))
