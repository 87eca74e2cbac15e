"""How far probabilities hold: their scores, the reliability plot, and folds to measure a calibration honestly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.evals.result import Figure
from jinyi.metrics import brier_score, expected_calibration_error, log_loss, reliability_bins

FOLDS: Final = 5
LEAST_ROWS: Final = 10
Indices = npt.NDArray[np.int64]


def probability_scores(labels: npt.ArrayLike, probabilities: npt.NDArray[Any]) -> dict[str, float]:
    """Return expected calibration error, Brier score and accuracy x100, and log loss.

    Args:
        labels: 0 and 1 [n], or numbers of classes [n].
        probabilities: of label 1 [n], or of each class [n, classes]; the calibration error of these is that of the most
            likely class (Guo et al. 2017), the accuracy that of P > 0.5 or of the most likely class.
    """
    targets = np.asarray(labels)
    if probabilities.ndim == 1:
        right: npt.NDArray[np.bool_] = (probabilities > 0.5) == (targets == 1)
        error = expected_calibration_error(targets, probabilities)
    else:
        right = probabilities.argmax(axis=1) == targets
        error = expected_calibration_error(right, probabilities.max(axis=1))
    return {
        "ECE": 100 * error,
        "Brier": 100 * brier_score(targets, probabilities),
        "log loss": log_loss(targets, probabilities),
        "accuracy": 100 * float(right.mean()),
    }


def error_of_chance(probabilities: npt.NDArray[Any], *, seed: int = 0, draws: int = 100) -> float:
    """Return the expected calibration error x100 of a model whose probabilities hold, on so many rows.

    Args:
        probabilities: [n]; labels are drawn by them.
        seed: of the draws.
        draws: how many are averaged.
    """
    rng, p = np.random.default_rng(seed), np.asarray(probabilities, np.float64)
    errors = [expected_calibration_error(rng.random(len(p)) < p, p) for _ in range(draws)]
    return 100 * float(np.mean(errors))


def reliability_figure(
    title: str,
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    bins: int = 15,
    caption: str = "",
) -> Figure:
    """Return a reliability plot.

    Args:
        title: above it.
        curves: {name: (labels 0 and 1 [n], probabilities of 1 [n])}.
        bins: of equal width, as for the expected calibration error.
        caption: below it.
    """
    drawn = {}
    for name, (labels, probabilities) in curves.items():
        found = reliability_bins(labels, probabilities, bins=bins)
        drawn[name] = {
            "predicted": found.predicted.tolist(),
            "observed": found.observed.tolist(),
            "count": found.count.tolist(),
        }
    return Figure(kind="reliability", title=title, values={"curves": drawn}, caption=caption)


def stratified_folds(targets: npt.ArrayLike, *, seed: int = 0, folds: int = FOLDS) -> Indices:
    """Return the fold of each row, 0 to folds - 1: rows of every label are dealt out in random order.

    Args:
        targets: label of each row [n], whole numbers.
        seed: of the order.
        folds: how many.
    """
    labels = np.asarray(targets)
    order = np.random.default_rng(seed).permutation(len(labels))
    dealt = order[np.argsort(labels[order], kind="stable")]
    result = np.empty(len(labels), np.int64)
    result[dealt] = np.arange(len(labels)) % folds
    return result


def cross_fitted(
    folds: Indices, fit: Callable[[Indices], Callable[[Indices], npt.NDArray[Any]]]
) -> npt.NDArray[Any]:
    """Return for every row what a calibration says that was fitted on the other folds.

    Args:
        folds: fold of each row [n].
        fit: fits on rows and returns what gives the probabilities of other rows.
    """
    parts: dict[int, npt.NDArray[Any]] = {}
    for fold in np.unique(folds).tolist():
        parts[fold] = fit(np.flatnonzero(folds != fold))(np.flatnonzero(folds == fold))
    whole = np.concatenate([parts[fold] for fold in sorted(parts)])
    order = np.concatenate([np.flatnonzero(folds == fold) for fold in sorted(parts)])
    result = np.empty_like(whole)
    result[order] = whole
    return result


def told_of_gain(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return a sentence on a calibration that is no better than none, if it is so."""
    if after["log loss"] < before["log loss"]:
        return []
    return [
        f"Calibration does not help here: a cross-fitted log loss of {after['log loss']:.4f}, and "
        f"{before['log loss']:.4f} without it. The probabilities held before, or there are too few rows."
    ]


def told_of_cut(cut: int, rows: int) -> list[str]:
    """Return a sentence on rows that were longer than the model reads, if there are any."""
    return [f"{cut:,} of {rows:,} rows were longer than the model reads and were cut."] if cut else []


def check_enough(counts: Mapping[str, int], where: str) -> None:
    """Refuse too few rows to calibrate on.

    Args:
        counts: rows by what must be there.
        where: the files.

    Raises:
        InputError: fewer than `LEAST_ROWS` of one of them.
    """
    few = {name: count for name, count in counts.items() if count < LEAST_ROWS}
    if few:
        raise InputError(
            found=", ".join(f"{count} {name}" for name, count in few.items()),
            expected=f"at least {LEAST_ROWS}",
            fix="Calibrate on more labelled rows; a few hundred make it worth while.",
            where=where,
        )
