"""Multinomial logistic regression in numpy, for topic classification on sentence vectors.

The core must not need scikit-learn for one convex fit; the objective is scikit-learn's: cross-entropy summed over
the rows times C, plus half the squared weights, the bias free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray, float]]
_MEMORY = 10  # pairs of differences kept by L-BFGS
_FLOAT32_FROM = 1e-6  # tolerances from here on are far above the rounding of float32 products


def fit_logistic(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int,
    *,
    C: float = 1.0,
    tolerance: float = 1e-5,
    rounds: int = 200,
) -> tuple[FloatArray, FloatArray]:
    """Fit by L-BFGS (Liu and Nocedal 1989) in coordinates in which the objective is nearly round.

    The Hessian is close to a multiple of the covariance of X plus the penalty, in every class; weights are searched
    along its eigenvectors, each in units of its curvature. Ten rounds then come as far as a hundred in plain
    coordinates. Products with X are in float32 unless `tolerance` asks for more; sums are in float64.

    Args:
        X: float [n, d].
        y: int [n], class numbers 0 .. classes - 1.
        classes: number of classes.
        C: inverse strength of the penalty on the weights.
        tolerance: stop when no entry of the mean gradient is larger. At 1e-4 (scikit-learn's default) probabilities
            may still be off by a hundredth; the last rounds cost little in these coordinates.
        rounds: most iterations; one costs two products of X with [d, classes].

    Returns:
        weights float64 [classes, d] and bias float64 [classes]; scores are `X @ weights.T + bias`.
    """
    kind = np.float32 if tolerance >= _FLOAT32_FROM else np.float64
    vectors = np.asarray(X, np.float64)
    mean = vectors.mean(axis=0)
    vectors = np.ascontiguousarray(vectors - mean, kind)  # the bias is free, so this changes it alone
    rows, width = vectors.shape
    decay = 1.0 / (C * rows)
    targets = np.asarray(y)
    own = np.arange(rows), targets
    curvature, axes = np.linalg.eigh((vectors.T @ vectors).astype(np.float64) / rows)
    axes /= np.sqrt(np.maximum(curvature, 0.0) / classes + decay)

    def unfold(flat: FloatArray) -> tuple[FloatArray, FloatArray]:
        place = flat.reshape(classes, width + 1)
        return place[:, :width] @ axes.T, place[:, width] * np.sqrt(classes)

    def objective(flat: FloatArray) -> tuple[float, FloatArray, float]:
        weights, bias = unfold(flat)
        logits = vectors @ weights.T.astype(kind) + bias.astype(kind)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[own].sum(dtype=np.float64)
        residual = np.exp(logits, out=logits)
        total = residual.sum(axis=1, keepdims=True)
        loss = (np.log(total).sum(dtype=np.float64) - chosen) / rows + 0.5 * decay * np.sum(weights**2)
        residual /= total
        residual[own] -= 1.0
        slope = (residual.T @ vectors).astype(np.float64) / rows + decay * weights
        bias_slope = residual.sum(axis=0, dtype=np.float64) / rows
        steepest = max(np.abs(slope).max(), np.abs(bias_slope).max())
        scaled = np.column_stack([slope @ axes, bias_slope * np.sqrt(classes)])
        return float(loss), scaled.ravel(), float(steepest)

    best = _minimise(objective, np.zeros(classes * (width + 1)), tolerance, rounds)
    weights, bias = unfold(best)
    return weights, bias - weights @ mean


def _minimise(objective: Objective, start: FloatArray, tolerance: float, rounds: int) -> FloatArray:
    """Minimise a smooth convex function by L-BFGS with backtracking (Armijo) line search.

    `objective` returns the value, the gradient, and what must fall to `tolerance`.
    """
    place = start
    loss, slope, steepest = objective(place)
    steps: list[tuple[FloatArray, FloatArray, float]] = []
    for _ in range(rounds):
        if steepest <= tolerance:
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
            new_loss, new_slope, steepest = objective(candidate)
            if new_loss <= loss + 1e-4 * length * descent or length < 1e-10:
                break
            length /= 2
        step, change = candidate - place, new_slope - slope
        curvature = float(step @ change)
        if curvature > 1e-12:
            steps = [*steps[1 - _MEMORY :], (step, change, 1.0 / curvature)]
        place, loss, slope = candidate, new_loss, new_slope
    return place
