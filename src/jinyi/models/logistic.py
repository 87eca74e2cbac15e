"""Multinomial logistic regression in numpy, for topic classification on sentence vectors.

The core must not need scikit-learn for one convex fit; the objective is scikit-learn's: cross-entropy summed over
the rows times C, plus half the squared weights, the bias free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_MEMORY = 10  # pairs of differences kept by L-BFGS


def fit_logistic(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int,
    *,
    C: float = 1.0,
    tolerance: float = 1e-4,
    rounds: int = 200,
) -> tuple[FloatArray, FloatArray]:
    """Fit by L-BFGS (Liu and Nocedal 1989).

    Args:
        X: float [n, d].
        y: int [n], class numbers 0 .. classes - 1.
        classes: number of classes.
        C: inverse strength of the penalty on the weights.
        tolerance: stop when no entry of the mean gradient is larger.
        rounds: most iterations; one costs two products of X with [d, classes].

    Returns:
        weights float64 [classes, d] and bias float64 [classes]; scores are `X @ weights.T + bias`.
    """
    vectors = np.asarray(X, np.float64)
    rows, width = vectors.shape
    targets = np.zeros((rows, classes))
    targets[np.arange(rows), np.asarray(y)] = 1.0

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(classes, width + 1)
        logits = vectors @ weights[:, :width].T + weights[:, width]
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        residual = (np.exp(logs) - targets) / rows
        slope = np.empty_like(weights)
        slope[:, :width] = residual.T @ vectors + weights[:, :width] / (C * rows)
        slope[:, width] = residual.sum(axis=0)
        loss = -np.sum(targets * logs) / rows + 0.5 * np.sum(weights[:, :width] ** 2) / (C * rows)
        return float(loss), slope.ravel()

    best = _minimise(objective, np.zeros(classes * (width + 1)), tolerance, rounds).reshape(
        classes, width + 1
    )
    return best[:, :width].copy(), best[:, width].copy()


def _minimise(
    objective: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    tolerance: float,
    rounds: int,
) -> FloatArray:
    """Minimise a smooth convex function by L-BFGS with backtracking (Armijo) line search."""
    place = start
    loss, slope = objective(place)
    steps: list[tuple[FloatArray, FloatArray, float]] = []
    for _ in range(rounds):
        if np.abs(slope).max() <= tolerance:
            break
        direction = -slope
        passed: list[float] = []
        for step, change, scale in reversed(steps):
            passed.append(scale * float(step @ direction))
            direction = direction - passed[-1] * change
        if steps:
            step, change, scale = steps[-1]
            direction = direction / (scale * float(change @ change))
        for (step, change, scale), weight in zip(steps, reversed(passed), strict=True):
            direction = direction + (weight - scale * float(change @ direction)) * step
        descent = float(slope @ direction)
        length = 1.0
        while True:
            candidate = place + length * direction
            new_loss, new_slope = objective(candidate)
            if new_loss <= loss + 1e-4 * length * descent or length < 1e-10:
                break
            length /= 2
        step, change = candidate - place, new_slope - slope
        curvature = float(step @ change)
        if curvature > 1e-12:
            steps = [*steps[1 - _MEMORY :], (step, change, 1.0 / curvature)]
        place, loss, slope = candidate, new_loss, new_slope
    return place
