"""Calibration of topics: a temperature for class probabilities, fitted on labelled texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.models.calibration import Floats, damaged, finite_numbers

_LEAST_PROBABILITY = 1e-9  # a voter of "knn" may say 0, of which there is no logarithm
_COLDEST, _HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class TopicCalibration:
    """A temperature for class probabilities (Guo et al. 2017): their logarithms are divided by it.

    The most likely class stays the most likely.

    Args:
        temperature: above 1 makes a model less sure, below 1 surer.
        fits: what the probabilities came from when it was fitted (`TopicClassifier.state`); it is applied to nothing
            else.
    """

    temperature: float
    fits: Mapping[str, Any]

    def apply(self, proba: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return calibrated probabilities of a model's [n, classes], float32."""
        logs = _logs(proba) / self.temperature
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in `jinyi.json`."""
        return {"method": "temperature", "temperature": self.temperature, "fits": dict(self.fits)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], where: str) -> TopicCalibration:
        """Read it from `jinyi.json`.

        Raises:
            FolderError: another method, or a temperature that is none.
        """
        value, fits = saved.get("temperature"), saved.get("fits")
        number = finite_numbers([value])
        if (
            saved.get("method") != "temperature"
            or not len(number)
            or number[0] <= 0
            or not isinstance(fits, Mapping)
        ):
            raise damaged(saved, "a temperature above 0 and what it was fitted for", where)
        return cls(float(number[0]), dict(fits))


def fit_temperature(proba: npt.NDArray[Any], targets: npt.NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss (Guo et al. 2017), from 0.05 to 20.

    Args:
        proba: probabilities [n, classes].
        targets: number of the right class [n].

    Raises:
        InputError: no rows, one class alone among the labels, or probabilities that say nothing about the labels.
    """
    if len(targets) == 0 or (targets == targets[0]).all():
        raise InputError(
            found=f"{len(targets)} labels of one class" if len(targets) else "no rows",
            expected="labels of two classes at least",
            fix="Calibrate on rows like those of later use.",
        )
    logs = _logs(proba)
    own = logs[np.arange(len(targets)), targets]

    def slope(sharpness: float) -> float:
        """Derivative of the log loss by 1 / temperature, which rises with it."""
        scaled = sharpness * logs
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return float(np.mean((shares * logs).sum(axis=1) - own))

    if slope(0.0) >= 0:
        raise InputError(
            found="probabilities that are no higher for the right label than for the others",
            expected="a model that knows something about these labels",
            fix="Check that the labels of the file mean what the model's labels mean.",
        )
    low, high = np.log(1 / _HOTTEST), np.log(1 / _COLDEST)
    if slope(float(np.exp(low))) >= 0:
        return _HOTTEST
    if slope(float(np.exp(high))) <= 0:
        return _COLDEST
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def _logs(proba: npt.NDArray[Any]) -> Floats:
    return np.log(np.maximum(np.asarray(proba, np.float64), _LEAST_PROBABILITY))
