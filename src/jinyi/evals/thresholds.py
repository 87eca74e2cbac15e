"""What thresholds of a pair model give: in the table of a calibration, and in its figures."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.evals.naming import sampled
from jinyi.evals.reliability import FOLDS, Indices
from jinyi.evals.result import Figure
from jinyi.models.operating_points import OperatingPoint, OperatingPoints

_AIMS: Final = (
    ("best F1", None, None),
    *((f"precision {share:g}", share, None) for share in (0.8, 0.9, 0.95, 0.99)),
    *((f"recall {share:g}", None, share) for share in (0.9, 0.95)),
)


def measure_thresholds(
    points: OperatingPoints, own: npt.NDArray[np.float32], labels: Indices, folds: Indices
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Say what usual aims come to, on the rows the thresholds were chosen on and held out.

    Args:
        points: of all rows.
        own: probabilities before calibration [n], which order the rows as those after it do.
        labels: 0 and 1 [n].
        folds: fold of each row [n].

    Returns:
        for each aim within reach the scores, intervals and n of its row in the table; and a sentence on the others.
    """
    held_out = _held_out(own, labels, folds)
    found: dict[str, dict[str, Any]] = {}
    missed = []
    for aim, precision, recall in _AIMS:
        point = _choose(points, precision, recall)
        if point is None:
            missed.append(aim)
            continue
        scores = {
            "threshold": point.threshold,
            "precision": 100 * point.precision,
            "recall": 100 * point.recall,
        }
        accepted, correct = (sum(column) for column in zip(*held_out[aim], (0, 0), strict=True))
        if len(held_out[aim]) == FOLDS and accepted:
            scores["precision held out"] = 100 * correct / accepted
        intervals = {"precision": point.precision_interval, "recall": point.recall_interval}
        found[aim] = {
            "scores": scores,
            "n": point.accepted,
            "intervals": {name: (100 * low, 100 * high) for name, (low, high) in intervals.items()},
            "settings": {"interval": "Wilson", "compared": False},
        }
    best = max(points.points, key=lambda point: point.precision)
    told = (
        f"Not reached: {', '.join(missed)}. The highest precision is {100 * best.precision:.1f}, on {best.accepted:,} "
        f"rows with P >= {best.threshold:.4f}."
    )
    return found, [told] if missed else []


def precision_figure(points: OperatingPoints) -> Figure:
    """Return precision and recall by threshold."""
    x = sampled([point.threshold for point in points.points])
    return Figure(
        kind="curve",
        title="Precision and recall by threshold",
        values={
            "lines": {
                "precision": {"x": x, "y": sampled([point.precision for point in points.points])},
                "recall": {"x": x, "y": sampled([point.recall for point in points.points])},
            },
            "x": "threshold on calibrated P(similar)",
            "y": "share",
        },
        caption="On the rows the thresholds were chosen on, without those that another beats in both.",
    )


def histogram_figure(labels: Indices, probabilities: npt.NDArray[Any], points: OperatingPoints) -> Figure:
    """Return the calibrated probabilities by label, with two thresholds."""
    chosen = {"best F1": _choose(points, None, None), "precision 0.95": _choose(points, 0.95, None)}
    return Figure(
        kind="histogram",
        title="Calibrated P(similar) by label",
        values={
            "groups": {
                name: sampled(probabilities[labels == label])
                for label, name in enumerate(("not similar", "similar"))
            },
            "unit": "P(similar), cross-fitted",
            "lines": {name: point.threshold for name, point in chosen.items() if point is not None},
        },
    )


def _choose(points: OperatingPoints, precision: float | None, recall: float | None) -> OperatingPoint | None:
    if precision is not None:
        reached = max(point.precision for point in points.points)
        return points.at_precision(precision) if reached >= precision else None
    return points.best_f1() if recall is None else points.at_recall(recall)


def _held_out(
    own: npt.NDArray[np.float32], labels: Indices, folds: Indices
) -> dict[str, list[tuple[int, int]]]:
    """Return accepted and correct rows of each fold, by thresholds chosen on the others, for each aim."""
    counts: dict[str, list[tuple[int, int]]] = {aim: [] for aim, _, _ in _AIMS}
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        points = OperatingPoints.measure(labels[inside], own[inside])
        for aim, precision, recall in _AIMS:
            point = _choose(points, precision, recall)
            if point is not None:
                taken = own[outside] >= point.threshold
                counts[aim].append((int(taken.sum()), int(labels[outside][taken].sum())))
    return counts
