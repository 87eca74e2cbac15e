"""Ranges of the numbers in a recipe."""

from __future__ import annotations

import math
from typing import NamedTuple


class Range(NamedTuple):
    """Numbers from `low` to `high`; `open` ends ("low", "high", "both" or "") are excluded."""

    low: float
    high: float = math.inf
    open: str = ""

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, (int, float))
        above = number > self.low if self.open in ("low", "both") else number >= self.low
        below = number < self.high if self.open in ("high", "both") else number <= self.high
        return above and below

    def __str__(self) -> str:
        least = f"a number {'above' if self.open in ('low', 'both') else 'of at least'} {self.low:g}"
        if self.high == math.inf:
            return least
        return f"{least} and {'below' if self.open in ('high', 'both') else 'at most'} {self.high:g}"


_POSITIVE, _COUNT, _ZERO = Range(0, open="low"), Range(1), Range(0)
RANGES = {
    "seed": Range(0, 2**32 - 1),
    "data.temperature": _POSITIVE,
    "data.max_length": Range(3),
    "batch.rows": _COUNT,
    "batch.tokens": _COUNT,
    "batch.accumulate": _COUNT,
    "optimizer.lr": _POSITIVE,
    "optimizer.weight_decay": _ZERO,
    "optimizer.betas.0": Range(0, 1, "high"),
    "optimizer.betas.1": Range(0, 1, "high"),
    "optimizer.eps": _POSITIVE,
    "optimizer.clip": _POSITIVE,
    "optimizer.layer_decay": Range(0, 1, "low"),
    "schedule.steps": _COUNT,
    "schedule.epochs": _POSITIVE,
    "schedule.warmup": _ZERO,
    "schedule.decay": Range(0, 1, "low"),
    "schedule.minimum": Range(0, 1),
    "evaluation.every": _POSITIVE,
    "evaluation.patience": _COUNT,
    "evaluation.limit": _COUNT,
    "checkpoint.every": _POSITIVE,
    "checkpoint.minutes": _POSITIVE,
    "checkpoint.keep": _COUNT,
    "machine.threads": _COUNT,
    "output.max_length": Range(3),
    "objective.rate": Range(0, 1, "both"),
    "objective.ngram": _COUNT,
    "objective.kept": Range(0, 1),
    "objective.random": Range(0, 1),
    "objective.temperature": _POSITIVE,
    "objective.scale": _POSITIVE,
    "objective.infonce": _ZERO,
    "objective.mlm": _ZERO,
    "objective.cache": _COUNT,
    "objective.outputs": _COUNT,
    "objective.smoothing": Range(0, 1, "high"),
    "objective.gamma": _ZERO,
    "objective.prior": _ZERO,
    "objective.order_weight": _ZERO,
    "objective.propensity": _ZERO,
    "objective.dropout": Range(0, 1, "high"),
    "objective.labels": _ZERO,
    "objective.contrastive": _ZERO,
    "objective.views": Range(1, 2),
    "objective.random_mlm": _ZERO,
    "objective.hard": _ZERO,
    "objective.hidden": _ZERO,
    "source.weight": _POSITIVE,
    "source.limit": _COUNT,
}
"""Where a number has to lie, by dotted key; "source" stands for every train and dev file."""
