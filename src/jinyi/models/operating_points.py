"""Operating points of a pair model: which threshold gives which precision and recall on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError, InputError, shorten

_MOST = 200
LEAST_ACCEPTED: Final = 10  # fewer rows say little about a precision
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it did on the labelled rows.

    Args:
        threshold: pairs with P(similar) at or above it are taken for similar.
        accepted: labelled rows there.
        correct: those among them that are similar.
        similar: all similar rows.
        rows: all rows.
    """

    threshold: float
    accepted: int
    correct: int
    similar: int
    rows: int

    @property
    def precision(self) -> float:
        """Share of the accepted that is similar."""
        return self.correct / self.accepted

    @property
    def recall(self) -> float:
        """Share of the similar that is accepted."""
        return self.correct / self.similar

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.correct / (self.accepted + self.similar)

    @property
    def precision_interval(self) -> tuple[float, float]:
        """95% interval of the precision (Wilson 1927)."""
        return wilson(self.correct, self.accepted)

    @property
    def recall_interval(self) -> tuple[float, float]:
        """95% interval of the recall (Wilson 1927)."""
        return wilson(self.correct, self.similar)


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share; not empty where all or none are hits.

    Args:
        hits: from 0 to `rows`.
        rows: at least one.
    """
    share, spread = hits / rows, _NORMAL_95**2 / rows
    middle = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


class OperatingPoints:
    """Thresholds of which none is beaten by another in precision and in recall, from the highest threshold.

    Args:
        points: as `measure` or `from_dict` gives them.
    """

    def __init__(self, points: Sequence[OperatingPoint]) -> None:
        self.points = tuple(points)

    @classmethod
    def measure(cls, labels: npt.ArrayLike, probabilities: npt.NDArray[np.float32]) -> OperatingPoints:
        """Find them on labelled rows: at most 200, each with 10 accepted rows or more.

        Args:
            labels: 0 and 1 [n], 1 at least ten times.
            probabilities: P(similar) [n] as `predict` gives it, float32.
        """
        ones = np.asarray(labels, np.float64) == 1
        order = np.argsort(-probabilities, kind="stable")
        values = probabilities[order]
        last = np.append(np.flatnonzero(values[1:] < values[:-1]), len(values) - 1)
        correct, accepted, similar = np.cumsum(ones[order])[last], last + 1, int(ones.sum())
        # Halfway to the next lower score, so that the last digit of a score decides nothing.
        lower = np.append(values[last[:-1] + 1], values[-1])
        halfway = ((values[last].astype(np.float64) + lower) / 2).astype(np.float32)
        thresholds = np.where(halfway > lower, halfway, values[last])
        enough = accepted >= LEAST_ACCEPTED
        correct, accepted, thresholds = correct[enough], accepted[enough], thresholds[enough]
        precision = correct / accepted
        # Beaten: by a lower threshold of the same precision, or by a higher one that finds as many.
        lower_ones = np.append(np.maximum.accumulate(precision[::-1])[::-1][1:], -1.0)
        kept = np.flatnonzero((precision > lower_ones) & (np.diff(correct, prepend=0) > 0))
        if len(kept) > _MOST:
            best = int(np.argmax((correct / (accepted + similar))[kept]))
            even = np.linspace(0, len(kept) - 1, _MOST - 1).round().astype(np.int64)
            kept = kept[np.union1d(even, best)]
        return cls(
            [
                OperatingPoint(float(thresholds[at]), int(accepted[at]), int(correct[at]), similar, len(ones))
                for at in kept
            ]
        )

    def at(self, *, precision: float | None = None, recall: float | None = None) -> OperatingPoint:
        """Return the point for a precision or a recall; without either the one with the highest F1.

        Raises:
            InputError: both are given, or no point reaches this precision.
        """
        if precision is not None and recall is not None:
            raise InputError(
                found="precision and recall",
                expected="one of them: a threshold decides both",
                fix="Leave one out; operating_point() tells the other.",
                where="threshold",
            )
        if precision is not None:
            return self.at_precision(precision)
        return self.best_f1() if recall is None else self.at_recall(recall)

    def best_f1(self) -> OperatingPoint:
        """Return the point with the highest F1."""
        return max(self.points, key=lambda point: point.f1)

    def at_precision(self, precision: float) -> OperatingPoint:
        """Return the point with the most recall among those of at least this precision.

        Raises:
            InputError: there is none; says which precision there is.
        """
        wanted = _share(precision, "precision")
        fitting = [point for point in self.points if point.precision >= wanted]
        if not fitting:
            best = max(self.points, key=lambda point: point.precision)
            low, high = best.precision_interval
            raise InputError(
                found=f"precision={precision:g}",
                expected=f"at most {best.precision:.4f}, the highest that these labelled rows show: "
                f"{best.correct} of {best.accepted} accepted rows (95% interval {low:.3f} to {high:.3f}) at "
                f"P >= {best.threshold:.4f}, with a recall of {best.recall:.3f}; thresholds that accept fewer than "
                f"{LEAST_ACCEPTED} of the {best.rows} rows do not count",
                fix="Ask for less, or calibrate on more rows.",
                where="threshold",
            )
        return max(fitting, key=lambda point: point.recall)

    def at_recall(self, recall: float) -> OperatingPoint:
        """Return the point with the highest precision among those of at least this recall."""
        wanted = _share(recall, "recall")
        return max(
            (point for point in self.points if point.recall >= wanted), key=lambda point: point.precision
        )

    def to_dict(self) -> dict[str, Any]:
        """Return them as they stand in `jinyi.json`."""
        return {
            "rows": self.points[0].rows,
            "similar": self.points[0].similar,
            "points": [[point.threshold, point.accepted, point.correct] for point in self.points],
        }

    @classmethod
    def from_dict(cls, saved: Any, where: str) -> OperatingPoints:
        """Read them from `jinyi.json`.

        Raises:
            FolderError: they are damaged.
        """
        try:
            rows, similar = int(saved["rows"]), int(saved["similar"])
            points = [OperatingPoint(float(t), int(a), int(c), similar, rows) for t, a, c in saved["points"]]
        except (KeyError, TypeError, ValueError) as fault:
            raise _damaged(saved, where) from fault
        sound = all(
            0 <= point.threshold <= 1
            and 0 < point.correct <= min(point.accepted, similar)
            and point.accepted <= rows
            for point in points
        )
        if not points or not sound:
            raise _damaged(saved, where)
        return cls(points)


def _share(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value <= 1:
        raise InputError(
            found=f"{name}={shorten(value)}",
            expected="a share above 0, at most 1",
            fix=f"Write {name}=0.95 for 95 per cent.",
            where="threshold",
        )
    return float(value)


def _damaged(saved: Any, where: str) -> FolderError:
    return FolderError(
        found=f"operating points {shorten(saved, 80)}",
        expected="rows, similar, and points of threshold, accepted and correct rows",
        fix="Calibrate the model again with `jinyi calibrate`.",
        where=where,
    )
