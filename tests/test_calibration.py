"""Calibration: fits equal references, order kept, saved with the folder, thresholds, the command, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calibration_tools import drawn
from jinyi.errors import FolderError, InputError
from jinyi.evals.reliability import cross_fitted, error_of_chance, stratified_folds
from jinyi.models.calibration import (
    PairCalibration,
    fit_isotonic,
    fit_platt,
    platt_parameters,
    pool_adjacent_violators,
)
from jinyi.models.operating_points import OperatingPoints, wilson
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.temperature import TopicCalibration, fit_temperature

optimize = pytest.importorskip("scipy.optimize")
isotonic = pytest.importorskip("sklearn.isotonic")

scored = st.lists(
    st.tuples(st.one_of(st.floats(-30, 30), st.integers(-3, 3).map(float)), st.booleans()),
    min_size=2,
    max_size=80,
)


def theirs(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return isotonic.IsotonicRegression(out_of_bounds="clip").fit(logits, labels).predict(logits)


@given(scored)
def test_blocks_are_scikit_learns_isotonic_regression(rows: list[tuple[float, bool]]) -> None:
    # scikit-learn joins scores that differ in their last digits.
    logits, labels = np.array([round(z, 3) for z, _ in rows]), np.array([float(y) for _, y in rows])
    scores, place, counts = np.unique(logits, return_inverse=True, return_counts=True)
    hits, weights = np.bincount(place, labels), counts.astype(np.float64)
    lengths = pool_adjacent_violators(hits, weights)
    assert lengths.sum() == len(scores)
    starts = np.cumsum(lengths) - lengths
    means = np.add.reduceat(hits, starts) / np.add.reduceat(weights, starts)
    assert (np.diff(means) > 0).all()
    assert np.abs(np.repeat(means, lengths)[place] - theirs(logits, labels)).max() < 1e-9


@example([(1.0, False), (-1.0, False), (0.0, True)], [0.0, 0.0])  # no slope, but for rounding
@given(scored, st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_order_is_never_inverted(rows: list[tuple[float, bool]], others: list[float]) -> None:
    logits, labels = np.array([z for z, _ in rows]), np.array([int(y) for _, y in rows])
    for fit in (fit_isotonic, fit_platt):
        try:
            fitted = fit(logits, labels)
        except InputError:  # one label alone, or scores that do not rise with it
            continue
        asked = np.sort(np.concatenate([others, logits, fitted.scores, np.nextafter(fitted.scores, np.inf)]))
        values = fitted.apply(asked)
        assert np.isfinite(values).all()
        assert (np.diff(values) >= 0).all()
        assert (np.diff(sigmoid(values)) >= 0).all()
        if fitted.slope > 0:
            assert (np.diff(fitted.apply(np.linspace(-40, 40, 30))) > 0).all()


def test_isotonic_holds_what_the_blocks_say() -> None:
    logits, labels = drawn(20_000)
    fitted = fit_isotonic(logits, labels)
    assert 10 < len(fitted.scores) <= 100
    truth = 1 / (1 + np.exp(-0.6 * logits + 0.8))
    assert np.abs(sigmoid(fitted.apply(logits)) - truth).mean() < 0.02
    assert np.abs(sigmoid(fitted.apply(logits)) - theirs(logits, labels)).mean() < 0.02
    # Inside a block scikit-learn's steps make ties, ours do not.
    assert len(np.unique(fitted.apply(logits))) == len(logits)


def test_many_blocks_are_merged() -> None:
    rng = np.random.default_rng(0)
    logits = np.sort(rng.normal(size=300_000))
    labels = (rng.random(len(logits)) < np.linspace(0.01, 0.99, len(logits))).astype(int)
    fitted = fit_isotonic(logits, labels)
    assert len(fitted.scores) == 100
    assert np.abs(sigmoid(fitted.apply(logits)) - np.linspace(0.01, 0.99, len(logits))).max() < 0.05


def test_nothing_is_certain() -> None:
    fitted = fit_isotonic([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    # Half a row of two for the other label.
    assert sigmoid(fitted.apply(fitted.scores)).tolist() == pytest.approx([0.25, 0.75])
    lonely = fit_isotonic([0.0, *np.linspace(1, 2, 20), 3.0], [0, *[0, 1, 1, 1] * 5, 1])
    assert 0.5 < sigmoid(lonely.apply([50.0]))[0] <= 1.0
    assert (np.diff(lonely.log_odds) > 0).all()


@pytest.mark.parametrize(
    "count,slope,shift", [(40, 2.0, 0.0), (500, 0.6, -0.8), (500, 5.0, 3.0), (5000, 0.05, 0)]
)
def test_platt_equals_a_reference(count: int, slope: float, shift: float) -> None:
    logits, labels = drawn(count, slope, shift)
    target = np.where(labels == 1, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((labels == 0).sum() + 2))

    def loss(parameters: np.ndarray) -> float:
        odds = parameters[0] * logits + parameters[1]
        return float(np.mean(np.logaddexp(0, odds) - target * odds))

    def gradient(parameters: np.ndarray) -> np.ndarray:
        gap = 1 / (1 + np.exp(-parameters[0] * logits - parameters[1])) - target
        return np.array([np.mean(gap * logits), np.mean(gap)])

    found = optimize.minimize(loss, [0.1, 0.0], jac=gradient, method="BFGS", options={"gtol": 1e-12})
    assert platt_parameters(logits, labels.astype(float)) == pytest.approx(found.x, abs=1e-6)
    from sklearn.calibration import _SigmoidCalibration

    sk = _SigmoidCalibration().fit(logits, labels)
    assert platt_parameters(logits, labels.astype(float)) == pytest.approx(
        (-sk.a_, -sk.b_), rel=1e-3, abs=1e-3
    )


def test_platt_of_separated_labels_is_finite() -> None:
    fitted = fit_platt(np.array([-500.0, -400.0, 400.0, 500.0]), [0, 0, 1, 1])
    assert np.isfinite(fitted.slope) and 0 < fitted.slope < 1
    assert np.all(np.abs(sigmoid(fitted.apply([-450, 450])) - [0.25, 0.75]) < 0.05)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_equals_a_reference(true: float) -> None:
    rng = np.random.default_rng(0)
    logs = rng.normal(0, 2, (600, 7))
    proba = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    targets = (logs / true + rng.gumbel(size=logs.shape)).argmax(1)

    def loss(temperature: float) -> float:
        scaled = logs / temperature
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(600), targets]))

    found = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}).x
    fitted = fit_temperature(proba, targets)
    assert fitted == pytest.approx(found, rel=1e-5)
    assert fitted == pytest.approx(true, rel=0.2)
    tempered = TopicCalibration(fitted, {}).apply(proba)
    assert tempered.dtype == np.float32 and np.allclose(tempered.sum(1), 1, atol=1e-6)
    assert (tempered.argmax(1) == proba.argmax(1)).all()


def test_temperature_at_its_ends() -> None:
    sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert fit_temperature(sure, np.array([0, 1, 0])) == 0.05  # always right: as sure as it may be
    zero = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.4, 0.0]])
    fitted = fit_temperature(zero, np.array([0, 1, 2]))  # a class of probability 0 is right
    assert 1 < fitted <= 20 and np.isfinite(TopicCalibration(fitted, {}).apply(zero)).all()
    with pytest.raises(InputError, match="no higher for the right label"):
        fit_temperature(sure, np.array([1, 0, 1]))
    for targets in (np.zeros(3, np.int64), np.empty(0, np.int64)):
        with pytest.raises(InputError, match="two classes"):
            fit_temperature(sure[: len(targets)], targets)


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
def test_bad_rows_are_refused(fit) -> None:
    with pytest.raises(InputError, match="labels that are all 1|labels 0 and 1"):
        fit([0.1, 0.2], [1, 1])
    with pytest.raises(InputError, match="no rows"):
        fit([], [])
    with pytest.raises(InputError, match="as many finite scores"):
        fit([0.1, np.nan], [0, 1])
    with pytest.raises(InputError, match="as many finite scores"):
        fit([0.1, 0.2], [0, 2])
    with pytest.raises(InputError, match="as many finite scores"):
        fit([0.1, 0.2], [0, 1, 1])
    with pytest.raises(InputError, match="do not rise with the labels"):
        fit([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0])


def test_maps_come_back_from_json() -> None:
    logits, labels = drawn(800)
    for fitted in (fit_isotonic(logits, labels), fit_platt(logits, labels)):
        again = PairCalibration.from_dict(json.loads(json.dumps(fitted.to_dict())), "jinyi.json")
        assert np.array_equal(again.apply(logits), fitted.apply(logits))
    topic = TopicCalibration(1.5, {"classes": ["a", 3]})
    assert TopicCalibration.from_dict(json.loads(json.dumps(topic.to_dict())), "") == topic


@pytest.mark.parametrize(
    "change",
    [
        {"method": "temperature"},
        {"scores": [2.0, 1.0]},
        {"scores": [1.0]},
        {"log_odds": [1.0, 0.0]},
        {"scores": []},
        {"scores": ["a", "b"]},
        {"log_odds": [0.0, float("nan")]},
        {"slope": -1.0},
        {"slope": None},
    ],
    ids=str,
)
def test_a_damaged_map_is_refused(change: dict) -> None:
    good = {"method": "isotonic", "scores": [0.0, 1.0], "log_odds": [-1.0, 1.0], "slope": 1.0}
    assert PairCalibration.from_dict(good, "").apply(0.5) == pytest.approx(0.0)
    with pytest.raises(FolderError, match="jinyi calibrate"):
        PairCalibration.from_dict(good | change, "jinyi.json")


def test_operating_points_are_the_frontier() -> None:
    logits, labels = drawn(900)
    probabilities = np.round(sigmoid(logits), 2)  # with ties
    points = OperatingPoints.measure(labels, probabilities)
    every = []
    for value in np.unique(probabilities):
        taken = probabilities >= value
        if taken.sum() >= 10:
            every.append((labels[taken].mean(), labels[taken].sum() / labels.sum()))
    for point in points.points:
        taken = probabilities >= np.float32(point.threshold)
        assert (taken.sum(), labels[taken].sum()) == (point.accepted, point.correct)
        own = (point.precision, point.recall)
        assert not [other for other in every if other != own and other[0] >= own[0] and other[1] >= own[1]]
    for precision in (0.3, 0.6, 0.8, 0.9):
        best = max(r for p, r in every if p >= precision)
        assert points.at_precision(precision).recall == pytest.approx(best)
    for recall in (0.2, 0.5, 0.9, 1.0):
        best = max(p for p, r in every if r >= recall)
        assert points.at_recall(recall).precision == pytest.approx(best)
    assert points.best_f1().f1 == pytest.approx(max(2 * p * r / (p + r) for p, r in every))
    again = OperatingPoints.from_dict(json.loads(json.dumps(points.to_dict())), "")
    assert again.points == points.points


def test_neighbouring_scores_are_told_apart() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    probabilities = np.array([low] * 20 + [high] * 20, np.float32)
    labels = np.array([0] * 20 + [1] * 20)
    (point,) = OperatingPoints.measure(labels, probabilities).points
    assert (point.accepted, point.correct) == (20, 20)
    assert (probabilities >= point.threshold).sum() == 20


def test_many_operating_points_are_thinned() -> None:
    rng = np.random.default_rng(0)
    count = 400_000
    probabilities = rng.random(count).astype(np.float32)
    labels = (rng.random(count) < probabilities).astype(int)
    points = OperatingPoints.measure(labels, probabilities)
    assert 100 < len(points.points) <= 200
    assert points.at_recall(1.0).recall == 1.0
    assert points.at_precision(0.9).precision == pytest.approx(0.9, abs=0.01)


def test_wilson_interval() -> None:
    from scipy.stats import binomtest

    for hits, rows in ((0, 10), (10, 10), (7, 21), (950, 1000)):
        theirs = binomtest(hits, rows).proportion_ci(method="wilson")
        assert wilson(hits, rows) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_folds_deal_out_every_label() -> None:
    labels = np.array([0] * 53 + [1] * 12)
    folds = stratified_folds(labels, seed=3)
    assert np.array_equal(folds, stratified_folds(labels, seed=3))
    for label in (0, 1):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    seen = cross_fitted(
        folds, lambda rows: lambda others: np.array([len(np.intersect1d(rows, [o])) for o in others])
    )
    assert (seen == 0).all() and len(seen) == 65
    assert np.array_equal(cross_fitted(folds, lambda rows: lambda others: others), np.arange(65))


def test_error_of_chance() -> None:
    probabilities = np.random.default_rng(1).random(50_000)
    assert error_of_chance(probabilities) < 1
    # In a single row of P = 0.5 one half is missing whatever the label.
    assert error_of_chance(np.array([0.5])) == 50.0
