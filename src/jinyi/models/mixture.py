"""Two ways to tell the same topics apart, as one: what was learnt from examples, and what the label words say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.common import FloatArray
from jinyi.models.heads import softmax
from jinyi.models.work import Work

WORD_EXAMPLES = 6.0
"""Examples of each class that its label word is worth; chosen on dev sets, see docs/experiments.md."""
_LEAST = np.finfo(np.float32).tiny


def word_weight(word_examples: float, examples: int, classes: int) -> float:
    """Return the weight of label words beside examples, 0 to 1: as of so many more examples of each class.

    Args:
        word_examples: examples that a word is worth.
        examples: those there are, of all classes.
        classes: number of classes.
    """
    return word_examples / (word_examples + examples / classes)


def mixed(learnt: FloatArray, words: FloatArray, weight: float) -> FloatArray:
    """Return the normalised weighted geometric mean of two classifiers' probabilities (a product of experts).

    Args:
        learnt: float32 [n, classes], of examples.
        words: float32 [n, classes], of label words; they need not sum to one.
        weight: of the second, 0 to 1.
    """
    first, second = np.log(np.maximum(learnt, _LEAST)), np.log(np.maximum(words, _LEAST))
    return softmax(np.float32(1.0 - weight) * first + np.float32(weight) * second)


def mixed_work(learnt: Work, words: Work, columns: npt.NDArray[np.int64], weight: float) -> Work:
    """Return the rows of both works, whose outputs become the mixed probabilities, float32 [n, classes].

    Args:
        learnt: of examples.
        words: of label words, of the same texts; beside a prompt less of a text may be read, which is not reported.
        columns: int64 [classes], the column of each class in the second one's results.
        weight: as in `mixed`.
    """
    count = len(learnt.passes)

    def finish(outputs: list[Any]) -> FloatArray:
        second = words.finish(outputs[count:])[:, columns]
        return mixed(learnt.finish(outputs[:count]), second, weight)

    return replace(learnt, passes=(*learnt.passes, *words.passes), finish=finish)
