"""What systems are called in tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.errors import InputError
from jinyi.registry import default_model

POOLING_NAMES = {
    "cls": "[CLS]",
    "pooler": "[CLS] through the pooler",
    "mean": "mean",
    "first_last": "first and last layer",
    "max": "maximum",
}
"""How tables name poolings."""


def model_names(models: Sequence[str | os.PathLike[str] | None], task: str) -> list[str]:
    """Return short names that tell models apart: the folder's own name where no other has it, else what was given.

    Args:
        models: names or folders; None is the shipped model of the task.
        task: "embed", "pair" or "topic".

    Raises:
        InputError: no models, or one twice.
    """
    given = [default_model(task) if model is None else os.fspath(model) for model in models]
    if not given or len(set(given)) < len(given):
        raise InputError(
            found="no model"
            if not given
            else f"{next(name for name in given if given.count(name) > 1)} twice",
            expected="models that differ",
            fix="Name each model once.",
            where="model",
        )
    short = [Path(name).name or name for name in given]
    return [name if short.count(name) == 1 else whole for name, whole in zip(short, given, strict=True)]


def sampled(values: Any, digits: int = 4) -> list[float]:
    """Return numbers for a figure, rounded so that a report stays small."""
    return [float(value) for value in np.round(np.asarray(values, np.float64), digits)]
