"""Labels by their scores, best first: ranked with the results, off the loop, and made into objects row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.work import Work


@dataclass(frozen=True, eq=False, slots=True)
class Ranked:
    """The best labels of each input.

    Args:
        order: int64 [n, k], places of labels by their scores, highest first.
        scores: [n, k], in this order.
    """

    order: npt.NDArray[np.int64]
    scores: npt.NDArray[np.floating[Any]]

    def rows(self, labels: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield for each input its labels with their scores, best first; each list is made when it is asked for.

        Args:
            labels: by their places.
        """
        for order, scores in zip(self.order, self.scores, strict=True):
            best = zip(order.tolist(), scores, strict=True)
            yield [{"label": labels[place], "score": score} for place, score in best]


def ranked(work: Work, top_k: int | None = None) -> Work:
    """Return a work whose `finish` gives the `Ranked` of the scores that this one gives.

    Args:
        work: `finish` gives scores [n, labels].
        top_k: best labels to keep; None: all.
    """

    def finish(outputs: list[Any]) -> Ranked:
        scores = work.finish(outputs)
        order = (-scores).argsort(axis=1, kind="stable")[:, :top_k]
        return Ranked(order, scores[np.arange(len(scores))[:, None], order])

    return replace(work, finish=finish)
