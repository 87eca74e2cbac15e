"""What scores of pairs come to: metrics, thresholds chosen on other rows, and answers worth reading."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi import metrics
from jinyi.evals.bootstrap import interval
from jinyi.evals.labelled_pairs import LabelledPairs
from jinyi.evals.result import Example

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Metric = Callable[..., float]

CUT = 0.5
"""Above this P a pair is taken for similar where no threshold was chosen."""
TUNED = {"accuracy, tuned": metrics.accuracy, "F1, tuned": metrics.f1}
"""Metrics at the threshold that is best for them on the rows given for choosing."""
WORDS = ("not similar", "similar")


def score_pairs(
    labels: npt.NDArray[np.float64],
    scores: Scores,
    *,
    probability: bool,
    thresholds: dict[str, float] | None,
    seed: int | None,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Score a system on one set.

    Args:
        labels: 0 and 1 [n], both of them.
        scores: [n], higher for similar.
        probability: whether scores are P(similar), so that 0.5 means something.
        thresholds: by metric of `TUNED`, from `choose_thresholds` on other rows; None where there are none.
        seed: of the bootstrap, None for no intervals.

    Returns:
        metrics x100 in the order of the tables, and 95% intervals of those that are shares.
    """
    parts: dict[str, tuple[Metric, npt.NDArray[Any]]] = {
        "AUC": (metrics.roc_auc, scores),
        "average precision": (metrics.average_precision, scores),
    }
    if probability:
        said = (scores > CUT).astype(np.int64)
        parts = {"accuracy": (metrics.accuracy, said), "F1": (metrics.f1, said), **parts}
    exact = scores.astype(np.float64)  # a threshold just above a float32 score would be rounded down to it
    for name, threshold in (thresholds or {}).items():
        parts[name] = (TUNED[name], (exact >= threshold).astype(np.int64))
    values = {name: 100 * metric(labels, given) for name, (metric, given) in parts.items()}
    intervals = {}
    if seed is not None:
        intervals = {
            name: interval(metric, labels, given, seed=seed, scale=100)
            for name, (metric, given) in parts.items()
        }
    if probability:
        values["ECE"] = 100 * metrics.expected_calibration_error(labels, scores)
    return values, intervals


def choose_thresholds(labels: npt.NDArray[np.float64], scores: Scores) -> dict[str, float]:
    """Return, for each metric of `TUNED`, the threshold with the best value: scores at or above it are similar.

    Between two scores the middle is taken; among equally good thresholds the highest. Nothing accepted (a threshold
    above all scores) may be best for the accuracy.

    Args:
        labels: 0 and 1 [n].
        scores: [n], higher for similar.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, ones = scores[order].astype(np.float64), labels[order] == 1
    last = np.append(np.flatnonzero(ranked[1:] < ranked[:-1]), len(ranked) - 1)
    correct = np.append(0, np.cumsum(ones)[last])
    accepted = np.append(0, last + 1)
    values = np.append(ranked[last], -np.inf)
    between = np.append(np.nextafter(ranked[0], np.inf), (values[:-1] + values[1:]) / 2)
    between[-1] = ranked[-1]  # all are accepted
    similar = int(ones.sum())
    hits = correct + (len(ones) - similar) - (accepted - correct)
    f1 = 2 * correct / np.maximum(accepted + similar, 1)
    return dict(zip(TUNED, (float(between[hits.argmax()]), float(between[f1.argmax()])), strict=True))


def wrong_answers(data: LabelledPairs, probability: Scores, threshold: float, count: int) -> list[Example]:
    """Return pairs that say most about a model: wrong answers it is surest of, and some that it nearly got right.

    Args:
        data: the set.
        probability: P(similar) [n].
        threshold: above it the answer is "similar".
        count: at most so many; two thirds are the surest wrong answers, of both kinds in turn, the rest the wrong ones
            nearest the threshold.
    """
    said = probability > threshold
    wrong = np.flatnonzero(said != (data.labels == 1))
    near = wrong[np.argsort(np.abs(probability[wrong] - threshold), kind="stable")]
    sure = near[::-1]
    kinds = [sure[said[sure]].tolist(), sure[~said[sure]].tolist()]
    turns = [row for pair in zip_longest(*kinds) for row in pair if row is not None]
    chosen = turns[: count - count // 3]
    chosen += [row for row in near.tolist() if row not in chosen][: count - len(chosen)]
    return [
        Example(
            data=data.name,
            texts={"a": data.a[row], "b": data.b[row]},
            expected=WORDS[int(data.labels[row])],
            found=WORDS[int(said[row])],
            score=float(probability[row] if said[row] else 1 - probability[row]),
            place=data.place(row),
        )
        for row in chosen
    ]
