"""sentence-similarity: how alike sentences are, by a pair model or by the cosine of vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinyi.errors import InputError
from jinyi.models.common import as_list
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.source import Source
from jinyi.pipelines.base import Pipeline, Reading, device_name, has_no
from jinyi.pipelines.classifier import SegmentIds
from jinyi.pipelines.inputs import is_pair, text_or_pair
from jinyi.text import check_text

_FORMS = '{"source_sentence": ..., "sentences": [...]}, (a, b), {"text": a, "text_pair": b} or "a[SEP]b"'


@dataclass(frozen=True)
class SentenceSimilarityOptions(Reading):
    """Options of the sentence-similarity pipeline; see `Reading` for those that all pipelines have.

    Args:
        symmetric: pair models: average the logits of both orders; None is True.
        calibrated: pair models: apply the folder's calibration, if it has one; None is True.
    """

    symmetric: bool | None = None
    calibrated: bool | None = None


class SentenceSimilarityPipeline(Pipeline[SentenceSimilarityOptions]):
    """Scores sentences against a sentence, or pairs: P(similar) by a pair model, the cosine by any other.

    Inputs: {"source_sentence": a, "sentences": [b, c]}, as the Hugging Face API takes them, gives a list of float in
    the order of the sentences. A pair (a, b), {"text": a, "text_pair": b} or "a[SEP]b" gives a float. A list of these
    gives a list.

    Args:
        model: None for the shipped pair model, a name (`jinyi models list`) or a folder.
        pooling: for vectors: "cls", "mean", "max", "first_last" or "pooler", where the folder does not state it.
        similar_label: for pair models: index or name of the output that means similar, where labels do not tell.
        segment_ids: for pair models: "pair" or "zeros"; None does what the folder or the registry says.
        precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda".
        options: those of `SentenceSimilarityOptions`.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or states no pooling.
        InputError: an option that this kind of model does not have.
    """

    task = "sentence-similarity"
    options = SentenceSimilarityOptions

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        pooling: str | None = None,
        similar_label: int | str | None = None,
        segment_ids: SegmentIds | None = None,
        precision: str = "auto",
        threads: int | None = None,
        device: Any = "cpu",
        **options: Any,
    ) -> None:
        where: dict[str, Any] = {"precision": precision, "threads": threads, "device": device_name(device)}
        source = Source.open(model, "pair", **where)
        super().__init__(source, options)
        self._model: PairScorer | SentenceEncoder
        if similar_label is not None or source.folder.task == "pair":
            if pooling is not None:
                raise has_no("pooling", "a pair model", "It makes no vectors.")
            self._model = PairScorer.load(
                model, similar_label=similar_label, segment_ids=segment_ids, **where
            )
        else:
            if segment_ids is not None:
                raise has_no("segment_ids", "a model of vectors", "It reads single texts.")
            self._model = SentenceEncoder.load(model, pooling=pooling, **where)

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._model.info()

    def is_one(self, inputs: Any) -> bool:
        """Return whether this is one input and not a list of them."""
        return isinstance(inputs, (str, Mapping)) or (isinstance(inputs, tuple) and is_pair(inputs))

    def answers(self, rows: list[Any], chosen: SentenceSimilarityOptions) -> list[Any]:
        """Return a float for each pair and a list of float for each {"source_sentence", "sentences"}."""
        groups = [_pairs_of(row, f"row {number}") for number, row in enumerate(rows)]
        scores = self._scores([pair for group, _ in groups for pair in group], chosen)
        answers: list[Any] = []
        start = 0
        for group, listed in groups:
            part = scores[start : start + len(group)]
            answers.append(part if listed else part[0])
            start += len(group)
        return answers

    def _scores(self, pairs: list[tuple[str, str]], chosen: SentenceSimilarityOptions) -> list[float]:
        if not pairs:
            return []
        reading: dict[str, Any] = {"truncate": chosen.truncate, "show_progress": chosen.show_progress}
        if chosen.batch_size is not None:
            reading["batch_size"] = chosen.batch_size
        own = {
            name: value
            for name in ("symmetric", "calibrated")
            if (value := getattr(chosen, name)) is not None
        }
        if isinstance(self._model, PairScorer):
            if chosen.max_length is not None:
                raise has_no("max_length", "a pair model", "The folder states it.")
            return [float(score) for score in self._model.predict(pairs, **own, **reading)]
        if own:
            raise has_no(next(iter(own)), "a model of vectors", "A cosine has both orders in one.")
        texts = [a for a, _ in pairs] + [b for _, b in pairs]
        vectors = self._model.encode(texts, max_length=chosen.max_length, **reading)
        cosines = self._model.similarity_pairwise(vectors[: len(pairs)], vectors[len(pairs) :])
        return [float(cosine) for cosine in cosines]


def _pairs_of(row: Any, where: str) -> tuple[list[tuple[str, str]], bool]:
    """Return the pairs of one input, and whether its answer is a list."""
    if isinstance(row, Mapping) and "source_sentence" in row:
        sentences = row.get("sentences")
        if set(row) != {"source_sentence", "sentences"} or isinstance(sentences, str):
            raise InputError(
                found=f"a dict with {', '.join(map(repr, row))}"
                + (", sentences being one text" if isinstance(sentences, str) else ""),
                expected='{"source_sentence": a text, "sentences": a list of texts}',
                fix="Put the sentences to compare with into a list.",
                where=where,
            )
        source = check_text(row["source_sentence"], f"{where}, source_sentence")
        others = as_list(sentences, "sentences")
        return [
            (source, check_text(other, f"{where}, sentence {number}")) for number, other in enumerate(others)
        ], True
    pair = text_or_pair(row, where, one_string=True, pairs_only=True)
    if isinstance(pair, str):
        raise InputError(found="one text", expected=_FORMS, fix="Give two sentences.", where=where)
    return [pair], False
