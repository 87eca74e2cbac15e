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
"""Examples of each class that its label word is worth at most; chosen on dev sets, see docs/experiments.md."""
# Beside 24 examples of a class words change few answers for the better, and every text is read once more for them.
_LEAST_WEIGHT = 0.2
_SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_LEAST = np.finfo(np.float32).tiny


def most_word_weight(word_examples: float, examples: int, classes: int) -> float:
    """Return the largest weight of label words beside examples, 0 to 1: as of so many more examples of each class.

    It is 0 where there are so many examples that words are not worth their time.

    Args:
        word_examples: examples that a word is worth.
        examples: those there are, of all classes.
        classes: number of classes.
    """
    weight = word_examples / (word_examples + examples / classes)
    return weight if weight >= _LEAST_WEIGHT else 0.0


def earned_word_weight(
    learnt: FloatArray, words: FloatArray, targets: npt.NDArray[np.int64], most: float
) -> float:
    """Return the weight of label words whose mixture has the least log loss: 0, `most`, or a quarter step between.

    Words that a model does not understand, long descriptions or names of its own, would otherwise drown what few
    examples have taught. `most` is there for models that know these very texts, of which words say too much.

    Args:
        learnt: float32 [n, classes], probabilities of texts left out of the fit.
        words: float32 [n, classes], of the same texts by label words; rows need not sum to one.
        targets: int64 [n], their classes.
        most: from `most_word_weight`.
    """
    rows = np.arange(len(targets))
    losses = [
        -float(np.log(np.maximum(mixed(learnt, words, most * share)[rows, targets], _LEAST)).mean())
        for share in _SHARES
    ]
    return most * float(_SHARES[int(np.argmin(losses))])


def mixed(learnt: FloatArray, words: FloatArray, weight: float) -> FloatArray:
    """Return the normalised weighted geometric mean of two classifiers' probabilities (a product of experts).

    Args:
        learnt: float32 [n, classes], of examples.
        words: float32 [n, classes], of label words; they need not sum to one.
        weight: of the second, 0 to 1.
    """
    first, second = np.log(np.maximum(learnt, _LEAST)), np.log(np.maximum(words, _LEAST))
    return softmax(np.float32(1.0 - weight) * first + np.float32(weight) * second)


def mixed_work(learnt: Work, words: Work, weight: float) -> Work:
    """Return the rows of both works, whose outputs become the mixed probabilities, float32 [n, classes].

    Args:
        learnt: of examples.
        words: of label words, of the same texts; beside a prompt less of a text may be read, which is not reported.
        weight: as in `mixed`.
    """
    count = len(learnt.passes)

    def finish(outputs: list[Any]) -> FloatArray:
        return mixed(learnt.finish(outputs[:count]), words.finish(outputs[count:]), weight)

    return replace(learnt, passes=(*learnt.passes, *words.passes), finish=finish)
