"""Scores and labels for tests of calibration."""

from __future__ import annotations

import numpy as np


def drawn(
    count: int, slope: float = 0.6, shift: float = -0.8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a model that is too sure of itself, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, count)
    return logits, (rng.random(count) < 1 / (1 + np.exp(-slope * logits - shift))).astype(np.int64)
