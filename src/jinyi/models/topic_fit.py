"""Fitting a head on labelled texts, the encoder unchanged: what it is made of, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.arguments import whole_number
from jinyi.batches import deduplicate
from jinyi.errors import InputError, shorten
from jinyi.models.common import FloatArray, compute_once
from jinyi.models.heads import DECIDERS, LeftOut, LinearHead, ReferenceHead
from jinyi.models.joint_head import FEATURES, JointHead
from jinyi.models.mixture import earned_word_weight, most_word_weight
from jinyi.models.ngrams import SparseRows, stack
from jinyi.models.seen import knows
from jinyi.models.source import Source
from jinyi.models.topic_folder import TopicHead
from jinyi.models.topic_model import TopicModel
from jinyi.models.work import run
from jinyi.tokens import TruncationReport

METHODS = ("linear", "reference", "prompt")
_MANY = 24  # examples of a class, on average, beside which vectors that know them do harm
_PENALTIES = (1e-12, 1e12)  # of which float32 still knows the inverse beside products of rows of length 1


@dataclass(frozen=True)
class HeadSettings:
    """How `TopicClassifier.fit` learns; the arguments of that class say what each of them is.

    Raises:
        InputError: one that there is not, or a number out of range.
    """

    method: str
    features: str
    decider: str
    neighbors: int
    whitening: int | None
    C: float | None
    word_examples: float

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("features", FEATURES), ("decider", DECIDERS)):
            value: Any = getattr(self, name)
            if value not in known:
                raise InputError(
                    found=shorten(value),
                    expected=" or ".join(map(repr, known)),
                    fix="Choose one of them.",
                    where=name,
                )
        C: Any = self.C
        number = isinstance(C, (int, float, np.number)) and not isinstance(C, bool)
        least, most = _PENALTIES
        if C is not None and not (number and least <= C <= most):
            raise InputError(
                found=shorten(C),
                expected=f"a number above 0, from {least} to {most}",
                fix="Leave it out.",
                where="C",
            )
        worth: Any = self.word_examples
        number = isinstance(worth, (int, float, np.number)) and not isinstance(worth, bool)
        if not number or not 0 <= worth < float("inf"):
            raise InputError(
                found=shorten(worth),
                expected="a number, 0 or more",
                fix="Leave it out.",
                where="word_examples",
            )
        whole_number(self.neighbors, "neighbors", fix="Leave it out.")


def knows_too_much(source: Source, texts: Sequence[str], classes: int) -> bool:
    """Whether n-grams and this encoder's vectors of training texts are better fitted apart.

    Vectors of texts that the encoder was trained on look better than those of any other text. Where examples are few
    they help all the same; where they are many, n-grams with a little of what vectors say by themselves are better
    (docs/experiments.md).

    Args:
        source: the model.
        texts: all training texts.
        classes: number of their classes.

    Raises:
        FolderError: the folder's record of its training texts is damaged.
    """
    return len(texts) > _MANY * classes and knows(source, texts)


def fit_head(
    topics: TopicModel,
    texts: Sequence[str],
    targets: npt.NDArray[np.int64],
    labels: npt.NDArray[Any],
    settings: HeadSettings,
) -> tuple[TopicHead, float, TruncationReport]:
    """Fit a linear or reference head on texts as the model sees them.

    Args:
        topics: the opened model.
        texts: checked texts.
        targets: int64 [n], number of each text's class.
        labels: of the classes.
        settings: with method "linear" or "reference".

    Returns:
        the head, how much the label words of the classes count beside it, and which texts were cut.

    Raises:
        InputError: whitening to more dimensions than the texts allow.
        FolderError: the folder's record of its training texts is damaged.
    """
    linear, folder, classes = settings.method == "linear", topics.source.folder, len(labels)
    features = settings.features if linear else "vectors"
    known = features == "both" and knows_too_much(topics.source, texts, classes)
    parts: list[SparseRows] = []

    def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
        work, grams = topics.inputs(part, "report", features)
        parts.append(grams)
        return run(work), work.report

    vectors, report = compute_once(
        list(texts),
        (folder.vector_size if features != "ngrams" else 0,),
        compute,
        truncate="warn",
        max_length=folder.max_length,
        label="texts",
        show_progress=None,
    )
    if not linear:
        reference = ReferenceHead.fit(
            vectors,
            targets,
            classes,
            decider=settings.decider,
            neighbors=settings.neighbors,
            whitening=settings.whitening,
        )
        return reference, 0.0, report
    most = most_word_weight(float(settings.word_examples), len(texts), classes)
    head: TopicHead
    left_out: LeftOut | None = None
    if features == "vectors":
        C = 1.0 if settings.C is None else settings.C
        head = LinearHead.fit(vectors, targets, classes, C)
        if most and topics.has_words(labels):
            left_out = LinearHead.left_out(vectors, targets, classes, C)
    else:
        grams = stack(parts).take(deduplicate(texts)[1])
        head, left_out = JointHead.fit(vectors, grams, targets, classes, settings.C, known=known)
    if left_out is None or not most or not topics.has_words(labels):
        return head, 0.0, report
    seen = [texts[row] for row in left_out.rows.tolist()]
    words: FloatArray = run(topics.word_work(seen, "report", labels))
    return head, earned_word_weight(left_out.proba, words, targets[left_out.rows], most), report
