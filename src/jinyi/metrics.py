"""Scores of predictions against labels, with numpy alone.

Arguments are in scikit-learn's order, labels first. Values agree with scipy and scikit-learn; where those warn and give
NaN or 0, this module says what it does. Shares are from 0 to 1, not per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten

Values = npt.ArrayLike
Floats = npt.NDArray[np.float64]


def pearson(labels: Values, scores: Values) -> float:
    """Pearson's correlation, from -1 to 1.

    Args:
        labels: graded or binary numbers [n], at least two, not all equal.
        scores: predictions [n].

    Returns:
        The correlation. 0.0 when all scores are equal: such a model orders nothing (scipy gives NaN).

    Raises:
        InputError: lengths differ, fewer than two rows, a value that is not finite, or labels that are all equal.
    """
    x, y = _numbers(labels, "labels"), _numbers(scores, "scores")
    _same_length(x, y, least=2)
    _differ(x)
    if (y == y[0]).all():
        return 0.0
    return float(np.clip(_unit(x) @ _unit(y), -1.0, 1.0))


def spearman(labels: Values, scores: Values) -> float:
    """Spearman's rank correlation, equal values at the mean of their ranks. Arguments, result and errors: `pearson`."""
    x, y = _numbers(labels, "labels"), _numbers(scores, "scores")
    _same_length(x, y, least=2)
    _differ(x)
    return pearson(_ranks(x), _ranks(y))


def accuracy(labels: Values, predicted: Values) -> float:
    """Share of rows whose predicted class is the label.

    Args:
        labels, predicted: classes [n], numbers or text; at least one.

    Raises:
        InputError: lengths differ, no rows, or text on one side and numbers on the other.
    """
    x, y = _classes(labels, predicted)
    return float(np.mean(x == y))


def f1(labels: Values, predicted: Values, *, positive: Any = 1) -> float:
    """F1 of one class: harmonic mean of its precision and recall.

    Args:
        labels, predicted: classes [n], numbers or text; at least one.
        positive: the class.

    Returns:
        2 tp / (2 tp + fp + fn); 0.0 for a class that is neither among the labels nor predicted.

    Raises:
        InputError: as `accuracy`.
    """
    return macro_f1(labels, predicted, classes=[positive])


def macro_f1(labels: Values, predicted: Values, *, classes: Sequence[Any] | None = None) -> float:
    """Mean of the classes' F1.

    Args:
        labels, predicted: classes [n], numbers or text; at least one.
        classes: what is averaged over, each once; a class among them that does not occur counts as 0.0. None takes the
            classes that occur among labels or predictions.

    Raises:
        InputError: as `accuracy`; no classes, or text where labels are numbers.
    """
    x, y = _classes(labels, predicted)
    found = np.unique(np.concatenate((x, y))) if classes is None else np.asarray(classes)
    if not len(found) or (found.dtype.kind == "U") != (x.dtype.kind == "U"):
        raise InputError(
            found=f"classes {shorten(classes)} for labels of type {x.dtype}",
            expected="at least one class, named as the labels name it",
            fix="Give the classes in the form the labels have.",
        )
    scores = []
    for each in found:
        true, said = x == each, y == each
        total = int(true.sum() + said.sum())
        scores.append(2 * int((true & said).sum()) / total if total else 0.0)
    return float(np.mean(scores))


def roc_auc(labels: Values, scores: Values) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, equal scores half.

    Args:
        labels: 0 and 1 (or bool) [n], both of them.
        scores: [n], higher for 1.

    Raises:
        InputError: lengths differ, a score that is not finite, a label that is not 0 or 1, or one class alone.
    """
    positive, y = _binary(labels, scores)
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        raise _undefined(
            f"{len(positive)} labels that are all {int(positive[0])}", "labels 0 and 1", "ROC AUC"
        )
    above = float(_ranks(y)[positive].sum()) - ones * (ones + 1) / 2
    return above / ones / zeros


def average_precision(labels: Values, scores: Values) -> float:
    """Sum over the distinct scores, from the highest, of precision there times the recall gained there.

    Args:
        labels: 0 and 1 (or bool) [n], at least one 1.
        scores: [n], higher for 1.

    Raises:
        InputError: as `roc_auc`, but only 1s are fine (1.0).
    """
    positive, y = _binary(labels, scores)
    if not positive.any():
        raise _undefined(f"{len(positive)} labels that are all 0", "at least one 1", "average precision")
    order = np.argsort(-y, kind="stable")
    ranked = y[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(positive[order])[last]
    gained = np.diff(found, prepend=0) / found[-1]
    return float(np.sum(gained * (found / (last + 1))))


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBins:
    """Rows by their probability, in bins of equal width that have rows.

    Args:
        predicted: float64 [k], mean probability.
        observed: float64 [k], share of rows with label 1.
        count: int64 [k], rows.
    """

    predicted: Floats
    observed: Floats
    count: npt.NDArray[np.int64]


def reliability_bins(labels: Values, probabilities: Values, *, bins: int = 15) -> ReliabilityBins:
    """Put rows into bins of equal width, each with its upper edge: (0, 1/15], (1/15, 2/15], ...; 0 is in the first.

    Args:
        labels: 0 and 1 (or bool) [n], at least one.
        probabilities: of label 1 [n], from 0 to 1. For the top label of many classes: its probability, and as labels
            whether it is right.
        bins: how many.

    Raises:
        InputError: lengths differ, no rows, a label that is not 0 or 1, or a probability outside 0 to 1.
    """
    ones, p = _binary(labels, probabilities)
    _probable(p)
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], p, side="left")
    count = np.bincount(place, minlength=bins)
    there = np.flatnonzero(count)
    predicted = np.bincount(place, weights=p, minlength=bins)[there] / count[there]
    observed = np.bincount(place, weights=ones, minlength=bins)[there] / count[there]
    return ReliabilityBins(predicted, observed, count[there])


def expected_calibration_error(labels: Values, probabilities: Values, *, bins: int = 15) -> float:
    """Mean distance of observed share and mean probability over the rows' bins (Naeini et al. 2015), from 0 to 1.

    Arguments and errors: `reliability_bins`. It is above 0 for a perfect model too, the more the fewer rows there are.
    """
    found = reliability_bins(labels, probabilities, bins=bins)
    return float(np.abs(found.predicted - found.observed) @ found.count / found.count.sum())


def brier_score(labels: Values, probabilities: Values) -> float:
    """Mean squared distance of probabilities and labels (Brier 1950), lower is better.

    Args:
        labels: 0 and 1 [n], or column numbers [n] for probabilities with a column for each class.
        probabilities: of label 1 [n], then from 0 to 1; or [n, classes], squares summed over classes, from 0 to 2.

    Raises:
        InputError: lengths differ, no rows, a label that is no class, or a probability outside 0 to 1.
    """
    own, p = _own_class(labels, probabilities)
    return float(np.mean((p - own) ** 2) if p.ndim == 1 else np.mean(np.sum((p - own) ** 2, axis=1)))


def log_loss(labels: Values, probabilities: Values) -> float:
    """Mean negative logarithm of the right label's probability, lower is better; 0 counts as 2.2e-16.

    Arguments and errors: `brier_score`.
    """
    own, p = _own_class(labels, probabilities)
    right = np.where(own == 1, p, 1.0 - p) if p.ndim == 1 else p[own == 1]
    return float(-np.mean(np.log(np.maximum(right, np.finfo(np.float64).eps))))


def _own_class(labels: Values, probabilities: Values) -> tuple[Floats, Floats]:
    """Return labels as 0 and 1 in the shape of the probabilities, and those in float64."""
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2:
        ones, p = _binary(labels, p)
        return ones.astype(np.float64), _probable(p)
    columns = _numbers(labels, "labels")
    _same_length(columns, p, least=1)
    wrong = np.flatnonzero(~np.isin(columns, np.arange(p.shape[1])))
    if len(wrong):
        raise InputError(
            found=f"label {columns[wrong[0]]:g}",
            expected=f"the number of a column, 0 to {p.shape[1] - 1}",
            fix="Give for each row the number of its class.",
            where=f"row {wrong[0]}",
        )
    own = np.zeros_like(p)
    own[np.arange(len(p)), columns.astype(np.int64)] = 1.0
    return own, _probable(p)


def _probable(p: Floats) -> Floats:
    outside = ~((p >= 0) & (p <= 1))  # NaN too
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        raise InputError(
            found=f"{p[outside][0]:g} among the probabilities",
            expected="numbers from 0 to 1",
            fix="Give probabilities, not logits or scores x100.",
            where=f"row {row}",
        )
    return p


def _numbers(values: Values, name: str) -> Floats:
    given = np.asarray(values)
    if given.ndim != 1 or given.dtype.kind not in "biuf":
        raise InputError(
            found=f"{name} of shape {given.shape} and type {given.dtype}",
            expected="a list of numbers",
            fix=f"Give one number for each row as {name}.",
        )
    array = given.astype(np.float64)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(
            found=f"{array[row]} among the {name}",
            expected="finite numbers",
            fix="A model whose outputs are not finite is broken; look at its weights and its training log.",
            where=f"row {row}",
        )
    return array


def _same_length(x: npt.NDArray[Any], y: npt.NDArray[Any], *, least: int) -> None:
    if len(x) != len(y):
        raise InputError(
            found=f"{len(x)} labels and {len(y)} predictions",
            expected="as many of both",
            fix="Give one prediction for each label, in the same order.",
        )
    if len(x) < least:
        raise InputError(found=f"{len(x)} rows", expected=f"at least {least}", fix="Give more rows to score.")


def _classes(labels: Values, predicted: Values) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    pair = []
    for values, name in ((labels, "labels"), (predicted, "predictions")):
        each = np.asarray(values, dtype=object)
        # Looked at one by one: numpy would turn [1, "1"] into text without a word.
        text = all(isinstance(value, str) for value in each.flat)
        numbers = all(isinstance(value, (int, float, np.number, np.bool_)) for value in each.flat)
        if each.ndim != 1 or not (text or numbers) or (each != each).any():
            raise InputError(
                found=f"{name} {shorten(each.tolist())} of shape {each.shape}",
                expected="a list of numbers or a list of texts",
                fix=f"Give one class for each row as {name}.",
            )
        pair.append(np.asarray(each.tolist()))
    x, y = pair
    _same_length(x, y, least=1)
    if (x.dtype.kind == "U") != (y.dtype.kind == "U"):
        raise InputError(
            found=f"labels of type {x.dtype} and predictions of type {y.dtype}",
            expected="both text or both numbers",
            fix="Name classes in the same way on both sides.",
        )
    return x, y


def _binary(labels: Values, scores: Values) -> tuple[npt.NDArray[np.bool_], Floats]:
    x, y = _numbers(labels, "labels"), _numbers(scores, "scores")
    _same_length(x, y, least=1)
    other = ~np.isin(x, (0.0, 1.0))
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise InputError(
            found=f"label {x[row]:g}", expected="0 or 1", fix="Map labels to 0 and 1.", where=f"row {row}"
        )
    return x == 1, y


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values at the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    ranks: Floats = means[inverse.reshape(-1)]
    return ranks


def _unit(values: Floats) -> Floats:
    """Deviations from the mean, divided by their length; scaled first, so that no sum or square overflows."""
    values = values / np.abs(values).max()
    gaps = values - values.mean()
    gaps /= np.abs(gaps).max()
    unit: Floats = gaps / np.sqrt(gaps @ gaps)
    return unit


def _differ(labels: Floats) -> None:
    if (labels == labels[0]).all():
        found = f"{len(labels)} labels that are all {labels[0]:g}"
        raise _undefined(found, "labels that differ", "correlation")


def _undefined(found: str, expected: str, metric: str) -> InputError:
    return InputError(found=found, expected=expected, fix=f"The {metric} of such rows is not defined.")
