"""text-classification: labels with scores, of texts or of pairs, as transformers' pipeline gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from jinyi.arguments import whole_number
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder.model import SEGMENT_IDS
from jinyi.models.common import FloatArray
from jinyi.models.heads import softmax
from jinyi.models.labels import Labels
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.models.topic_classifier import TopicClassifier
from jinyi.pipelines.base import Pipeline, Reading, device_name, has_no
from jinyi.pipelines.classifier import Classifier, Row, SegmentIds
from jinyi.pipelines.inputs import is_pair, text_or_pair

NOT_GIVEN: Final = "not given"
_FUNCTIONS = ("default", "sigmoid", "softmax", "none")
_OUTPUTS = ("transformers", "modelscope")


@dataclass(frozen=True)
class TextClassificationOptions(Reading):
    """Options of the text-classification pipeline; see `Reading` for those that all pipelines have.

    Args:
        top_k: how many labels to return, best first; None returns all. Without it the best one alone is returned.
        function_to_apply: what makes scores of logits: "sigmoid", "softmax", "none", or None for sigmoid with one
            output, softmax with several, and what `problem_type` in config.json says of regression and multi-label.
        segment_ids: segments of pairs: "pair" (0 and 1), or "zeros", which is what transformers and ModelScope make of
            a one-string pair; None does what the folder or the registry says, "pair" as a rule.
        output: "transformers" for [{"label", "score"}], "modelscope" for {"scores": [...], "labels": [...]}.
    """

    top_k: int | None | Literal["not given"] = NOT_GIVEN
    function_to_apply: str | None = None
    segment_ids: SegmentIds | None = None
    output: Literal["transformers", "modelscope"] = "transformers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is not None and self.top_k != NOT_GIVEN:
            whole_number(self.top_k, "top_k", fix="None returns all labels.")
        for name, value, known in (
            ("function_to_apply", self.function, _FUNCTIONS),
            ("output", self.output, _OUTPUTS),
            ("segment_ids", self.segment_ids, (None, *SEGMENT_IDS)),
        ):
            if value not in known:
                raise InputError(
                    found=shorten(value),
                    expected=f"one of {', '.join(map(repr, known))}",
                    fix="Choose one of them.",
                    where=name,
                )

    @property
    def function(self) -> str:
        """`function_to_apply` in one spelling."""
        return "default" if self.function_to_apply is None else str(self.function_to_apply).lower()


class TextClassificationPipeline(Pipeline[TextClassificationOptions]):
    """Classifies texts, or pairs of them.

    A folder with a classifier gives what transformers gives for it: its own logits, not calibrated, a pair in the one
    order it was given. A topic model gives the probabilities of its label words, and of a fitted
    `TopicClassifier` what it learnt.

    Inputs: a text; {"text": a, "text_pair": b}; (a, b); and, for models of one or two outputs, the string "a[SEP]b".

    Returns of a call: a list with one {"label", "score"} for one text, the dict itself for one pair; one dict for each
    item of a list; with `top_k` a list of dicts in place of each.

    Args:
        model: None for the shipped topic model, a name (`jinyi models list`) or a folder.
        labels: for a topic model: label words other than its own.
        prompt: for a topic model: another prompt, {} for the word.
        precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda".
        options: those of `TextClassificationOptions`.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or has no labels.
    """

    task = "text-classification"
    options = TextClassificationOptions

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        labels: Labels | None = None,
        prompt: str | None = None,
        precision: str = "auto",
        threads: int | None = None,
        device: Any = "cpu",
        **options: Any,
    ) -> None:
        place = device_name(device)
        source = Source.open(model, "topic", precision=precision, threads=threads, device=place)
        super().__init__(source, options)
        self._topics: TopicClassifier | None = None
        self._classifier: Classifier | None = None
        fitted = (source.folder.record.get("topic") or {}).get("fitted")
        if source.folder.n_labels == 0 or fitted or labels is not None or prompt is not None:
            self._topics = TopicClassifier.load(
                model, labels=labels, prompt=prompt, precision=precision, threads=threads, device=place
            )
            if not hasattr(self._topics, "classes_"):
                raise FolderError(
                    found=f"a model of task {source.folder.task!r} without labels",
                    expected="a classifier, or a language model with label words",
                    fix='For a language model give them: pipeline(..., labels=["体育", "财经"]); a model of vectors or '
                    "an encoder has to be fitted first (TopicClassifier.fit and save).",
                    where=str(self.path),
                )
        else:
            self._classifier = Classifier(source)

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        if self._topics is not None:
            return self._topics.info()
        assert self._classifier is not None  # noqa: S101 - one of both
        return self._classifier.engine.info()

    def is_one(self, inputs: Any) -> bool:
        """Return whether this is one input and not a list of them."""
        return isinstance(inputs, (str, Mapping)) or (isinstance(inputs, tuple) and is_pair(inputs))

    def alone(self, answer: Any, inputs: Any, given: Mapping[str, Any]) -> Any:
        """Put the answer to one text into a list, as transformers does unless `top_k` is in the call."""
        listed = isinstance(inputs, str) and "top_k" not in given and not _is_modelscope(answer)
        return [answer] if listed else answer

    def answers(self, rows: list[Any], chosen: TextClassificationOptions) -> list[Any]:
        """Return {"label", "score"} of each row, or what `top_k` and `output` make of it."""
        scores, labels = self._of_topics(rows, chosen) if self._topics else self._of_logits(rows, chosen)
        return [_answer(values, labels, chosen) for values in scores]

    def _of_topics(self, rows: list[Any], chosen: TextClassificationOptions) -> tuple[FloatArray, list[str]]:
        assert self._topics is not None  # noqa: S101 - the caller looked
        if chosen.function not in ("default", "softmax"):
            raise has_no(
                f"function_to_apply={chosen.function_to_apply!r}", "a topic model", "It gives probabilities."
            )
        if chosen.max_length is not None:
            raise has_no("max_length", "a topic model", "The folder states it.")
        texts = []
        for number, row in enumerate(rows):
            text = text_or_pair(row, f"row {number}", one_string=False)
            if isinstance(text, tuple):
                raise InputError(
                    found=f"a pair of texts for a topic model, {self.path.name}",
                    expected="single texts",
                    fix="Name a pair model or another classifier as the second argument of pipeline().",
                    where=f"row {number}",
                )
            texts.append(text)
        proba = self._topics.predict_proba(
            texts, truncate=chosen.truncate, show_progress=chosen.show_progress
        )
        return proba, [str(label) for label in self._topics.classes_.tolist()]

    def _of_logits(self, rows: list[Any], chosen: TextClassificationOptions) -> tuple[FloatArray, list[str]]:
        assert self._classifier is not None  # noqa: S101 - the caller looked
        folder = self._source.folder
        pair_model = folder.n_labels <= 2
        # A folder of another library may be a sentiment model just as well: then single texts have a meaning.
        pairs_only = pair_model and folder.record.get("task") == "pair"
        read: list[Row] = [
            text_or_pair(row, f"row {number}", one_string=pair_model, pairs_only=pairs_only)
            for number, row in enumerate(rows)
        ]
        logits = self._classifier.logits(read, chosen, chosen.segment_ids)
        problem, function = folder.raw_config.get("problem_type"), chosen.function
        if function == "default":
            several = logits.shape[1] > 1 and problem != "multi_label_classification"
            function = "none" if problem == "regression" else "softmax" if several else "sigmoid"
        if function != "none":
            logits = sigmoid(logits) if function == "sigmoid" else softmax(logits)
        return logits, list(folder.labels)


def _answer(values: FloatArray, labels: list[str], chosen: TextClassificationOptions) -> Any:
    best = np.argsort(-values, kind="stable")
    if chosen.output == "modelscope":
        kept = best if chosen.top_k in (None, NOT_GIVEN) else best[: chosen.top_k]
        return {"scores": values[kept].tolist(), "labels": [labels[place] for place in kept]}
    ranked = [{"label": labels[place], "score": float(values[place])} for place in best]
    if chosen.top_k == NOT_GIVEN:
        return ranked[0]
    return ranked[: chosen.top_k]


def _is_modelscope(answer: Any) -> bool:
    return isinstance(answer, dict) and "scores" in answer
