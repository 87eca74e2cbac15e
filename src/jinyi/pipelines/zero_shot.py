"""zero-shot-classification: candidate labels named at the call, by a language model's prompt or by entailment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jinyi.errors import FolderError, InputError, shorten
from jinyi.models.common import (
    FloatArray,
    as_list,
    as_texts,
    compute_once,
    warn_cut,
)
from jinyi.models.heads import softmax
from jinyi.models.open_labels import OpenLabels
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.models.work import run
from jinyi.pipelines.base import Pipeline, Reading, device_name, has_no
from jinyi.pipelines.classifier import Classifier, Row
from jinyi.tokens import TruncationReport

ENTAILMENT_TEMPLATE = "This example is {}."  # of transformers
_ENTAILMENT = ("entail", "蕴含", "蕴涵")
_CONTRADICTION = ("contradict", "矛盾")


@dataclass(frozen=True)
class ZeroShotOptions(Reading):
    """Options of the zero-shot-classification pipeline; see `Reading` for those that all pipelines have.

    Args:
        candidate_labels: the labels, in a list or in one text with commas (，、 too).
        hypothesis_template: a text with one {} for the label. A language model reads it in front of the text (or
            around it, where it has {text}); None takes the model's own prompt. A model of entailment reads it as the
            second text; None is transformers' "This example is {}.".
        multi_label: score each label on its own, for texts that may have several or none; otherwise scores add up to 1.
            So is a single label.
    """

    candidate_labels: Any = None
    hypothesis_template: str | None = None
    multi_label: bool = False

    @property
    def labels(self) -> list[str]:
        """The candidate labels as a list.

        Raises:
            InputError: none, one that is no text, or one twice.
        """
        given = self.candidate_labels
        if isinstance(given, str):
            for comma in "，、":
                given = given.replace(comma, ",")
            given = [label for label in given.split(",") if label.strip()]
        labels = [] if given is None else as_list(given, "candidate_labels")
        stripped = [label.strip() if isinstance(label, str) else "" for label in labels]
        if not stripped or not all(stripped) or len(set(stripped)) < len(stripped):
            raise InputError(
                found=shorten(self.candidate_labels, 80),
                expected='different labels, such as ["体育", "财经"] or "体育,财经"',
                fix="Pass candidate_labels with the call or to pipeline().",
                where="candidate_labels",
            )
        return stripped


class ZeroShotPipeline(Pipeline[ZeroShotOptions]):
    """Chooses among labels that the model was not trained on.

    - A **language model** (topic or MLM folder) reads the label's word in a prompt: a label's score is the softmax of
      the words' mean log-probability per token, as `TopicClassifier` computes it: less that without a text, where a
      label is new to a model whose folder tells what it was trained to say. With `multi_label` it is
      sigmoid(log P(word | prompt, text) - log P(word | prompt alone)): above 0.5 where the text makes it likelier.
    - A **model of entailment** (labels entailment, contradiction and perhaps neutral) reads the text with
      `hypothesis_template` as a pair: the softmax of entailment over labels, or with `multi_label` of entailment
      against contradiction, as transformers computes it (Yin et al. 2019).

    Returns of a call: {"sequence", "labels", "scores"}, best label first; a list of these for a list.

    Args:
        model: None for the shipped topic model, a name (`jinyi models list`) or a folder.
        precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda".
        options: those of `ZeroShotOptions`.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or of neither kind.
    """

    task = "zero-shot-classification"
    options = ZeroShotOptions

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
        device: Any = "cpu",
        **options: Any,
    ) -> None:
        source = Source.open(model, "topic", precision=precision, threads=threads, device=device_name(device))
        super().__init__(source, options)
        folder = source.folder
        self._scorer: _Prompted | _Entailment
        if folder.n_labels == 0 and folder.task in ("topic", "mlm"):
            self._scorer = _Prompted(source)
        elif _place(folder.labels, _ENTAILMENT) is not None:
            self._scorer = _Entailment(source)
        else:
            kind = f"a classifier of {', '.join(folder.labels)}" if folder.n_labels else "an encoder"
            raise FolderError(
                found=f"{kind}, task {folder.task!r}",
                expected="a topic or language model, or a model of entailment (a label named entailment)",
                fix='Take the shipped topic model (leave model out), or pipeline("text-classification", ...) for '
                "the labels this model was trained on.",
                where=str(folder.path),
            )

    def __call__(self, inputs: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """Compute answers; see `Pipeline.__call__`.

        Args:
            inputs: a text, or a list or iterator of texts.
            candidate_labels: as in `ZeroShotOptions`.
            options: those of `ZeroShotOptions`.
        """
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        return super().__call__(inputs, **options)

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._scorer.engine.info()

    def answers(self, rows: list[Any], chosen: ZeroShotOptions) -> list[Any]:
        """Return {"sequence", "labels", "scores"} of each text."""
        labels, (texts, _) = chosen.labels, as_texts(rows)
        scores = self._scorer.scores(texts, labels, chosen)
        answers = []
        for text, values in zip(texts, scores, strict=True):
            best = np.argsort(-values, kind="stable")
            answers.append(
                {
                    "sequence": text,
                    "labels": [labels[place] for place in best],
                    "scores": values[best].tolist(),
                }
            )
        return answers


class _Prompted:
    """Scores labels by a language model."""

    def __init__(self, source: Source) -> None:
        self._model = OpenLabels(source)
        self.engine = self._model.engine

    def scores(self, texts: list[str], labels: list[str], chosen: ZeroShotOptions) -> FloatArray:
        """Return float32 [n, labels]."""
        if chosen.max_length is not None:
            raise has_no("max_length", "a language model", "The folder states it.")
        limit = self._model.source.folder.max_length

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            work = self._model.prepare(
                part,
                labels,
                prompt=chosen.hypothesis_template,
                multi_label=chosen.multi_label,
                truncate="window" if chosen.truncate == "window" else "warn",
            )
            return run(work), work.report

        scores, report = compute_once(
            texts,
            (len(labels),),
            compute,
            truncate=chosen.truncate,
            max_length=limit,
            label="texts",
            show_progress=chosen.show_progress,
        )
        warn_cut(report, chosen.truncate, limit)
        return scores


class _Entailment:
    """Scores labels by a classifier of text pairs with an output that means entailment."""

    def __init__(self, source: Source) -> None:
        self._classifier = Classifier(source)
        self.engine = self._classifier.engine
        labels = source.folder.labels
        entailment = _place(labels, _ENTAILMENT)
        assert entailment is not None  # noqa: S101 - the caller looked
        contradiction = _place(labels, _CONTRADICTION)
        if contradiction is None:  # what transformers takes whatever the labels say
            contradiction = len(labels) - 1 if entailment == 0 else 0
        self._entailment, self._contradiction = entailment, contradiction

    def scores(self, texts: list[str], labels: list[str], chosen: ZeroShotOptions) -> FloatArray:
        """Return float32 [n, labels]."""
        template = ENTAILMENT_TEMPLATE if chosen.hypothesis_template is None else chosen.hypothesis_template
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(
                found=shorten(template, 60),
                expected='a text with one {} for the label, such as "这段话说的是{}。"',
                fix="Put {} where the label belongs.",
                where="hypothesis_template",
            )
        pairs: list[Row] = [(text, template.replace("{}", label)) for text in texts for label in labels]
        logits = self._classifier.logits(pairs, chosen).reshape(len(texts), len(labels), -1)
        entailed = logits[..., self._entailment]
        if not chosen.multi_label and len(labels) > 1:
            return softmax(entailed)
        return sigmoid(entailed - logits[..., self._contradiction])


def _place(labels: Sequence[str], beginnings: tuple[str, ...]) -> int | None:
    """Return the first output whose name begins so."""
    return next((place for place, name in enumerate(labels) if name.lower().startswith(beginnings)), None)
