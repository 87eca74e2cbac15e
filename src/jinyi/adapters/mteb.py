"""mteb's protocols of encoders and cross-encoders (mteb 2.x), met without importing mteb."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.adapters.opening import opened
from jinyi.errors import InputError
from jinyi.models.common import FloatArray
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.registry import models_home
from jinyi.text import check_text


class MtebEncoder:
    """Sentence vectors for `mteb.evaluate(MtebEncoder("my-model"), tasks)`.

    A text with nothing to read in it, of which mteb's corpora have some, gets the vector of zeros, with a warning that
    counts them. The revision is a hash of the weights, so that mteb's cache never mixes up two trainings of one folder.

    Args:
        model_name: None for the shipped model, a name (`jinyi models list`), a folder, or an opened `SentenceEncoder`.
        revision: under which mteb files results; None is the hash.
        device: "cpu" or "cuda"; None is "cpu".
        prompts: texts put before what is encoded, by task name, kind of task ("STS"), "query" or "document", or two of
            them with a hyphen ("T2Retrieval-query"); the most special one counts. None takes the folder's prompts.
        options: for `SentenceEncoder.load`: precision, threads, pooling.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or states no pooling.
        TypeError: an option for a model that is open already.
    """

    def __init__(
        self,
        model_name: str | os.PathLike[str] | SentenceEncoder | None = None,
        revision: str | None = None,
        *,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.encoder = opened(SentenceEncoder, model_name, _with_device(device, options))
        self._revision = revision
        self._prompts = dict(self.encoder.prompts if prompts is None else prompts)

    @property
    def mteb_model_meta(self) -> Any:
        """mteb's `ModelMeta` of this model, where mteb is loaded; else None."""
        encoder = self.encoder
        return _meta(
            encoder,
            self._revision,
            max_tokens=encoder.max_length,
            embed_dim=encoder.dimension,
            model_type=["dense"],
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> FloatArray:
        """Return the vectors of a task's texts, float32 [n, d], of length 1.

        Args:
            inputs: batches with a list of texts under "text".
            task_metadata: name and type of the task choose the prompt.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: "query", "document" or None.
            options: mteb's `encode_kwargs`: batch_size, show_progress_bar; and what `SentenceEncoder.encode` takes.
        """
        _check_precision(options)
        texts = _texts(inputs)
        readable = _readable(texts)
        vectors = np.zeros((len(texts), self.encoder.dimension), np.float32)
        options = {"prompt": self._prompt(task_metadata, prompt_type), **options}
        vectors[readable] = self.encoder.encode([texts[row] for row in readable], **options)
        _tell(len(texts) - len(readable), "texts", "the vector of zeros")
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> FloatArray:
        """Return cosines, float32 [n, m]."""
        return self.encoder.similarity(np.atleast_2d(embeddings1), np.atleast_2d(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> FloatArray:
        """Return cosines, float32 [n]."""
        return self.encoder.similarity_pairwise(np.atleast_2d(embeddings1), np.atleast_2d(embeddings2))

    def _prompt(self, task: Any, prompt_type: Any) -> str | None:
        """Return the prompt of a task, in mteb's order of precedence; None for the folder's default."""
        kind = getattr(prompt_type, "value", prompt_type)
        names = [getattr(task, "name", None), getattr(task, "type", None)]
        keys = [key for name in names if name for key in (f"{name}-{kind}", str(name))]
        return next((self._prompts[key] for key in (*keys, kind) if key in self._prompts), None)


class MtebCrossEncoder:
    """Pair scores for mteb's tasks of reranking.

    A pair with nothing to read in one of its texts comes last, with a warning that counts them.

    Args:
        model_name: None for the shipped model, a name (`jinyi models list`), a folder, or an opened `PairScorer`.
        revision: under which mteb files results; None is a hash of the weights.
        device: "cpu" or "cuda"; None is "cpu".
        symmetric: average both orders of a pair; False reads (query, document) alone, in half the time.
        options: for `PairScorer.load`: precision, threads, similar_label, segment_ids.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or is no pair model.
        TypeError: an option for a model that is open already.
    """

    def __init__(
        self,
        model_name: str | os.PathLike[str] | PairScorer | None = None,
        revision: str | None = None,
        device: str | None = None,
        *,
        symmetric: bool = True,
        **options: Any,
    ) -> None:
        self.scorer = opened(PairScorer, model_name, _with_device(device, options))
        self._revision = revision
        self._symmetric = symmetric

    @property
    def mteb_model_meta(self) -> Any:
        """mteb's `ModelMeta` of this model, where mteb is loaded; else None."""
        return _meta(
            self.scorer, self._revision, max_tokens=self.scorer.max_length, model_type=["cross-encoder"]
        )

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],
        inputs2: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> FloatArray:
        """Return log-odds of "similar", float32 [n]: they tell apart what as a probability would be 1 twice.

        Args:
            inputs1: batches with a list of texts under "text", the queries.
            inputs2: batches of as many documents.
            task_metadata: not used.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: not used.
            options: mteb's `encode_kwargs`: batch_size, show_progress_bar; and what `PairScorer.predict` takes.
        """
        _check_precision(options)
        queries, documents = _texts(inputs1), _texts(inputs2)
        if len(queries) != len(documents):
            raise InputError(
                found=f"{len(queries)} and {len(documents)} texts",
                expected="as many documents as queries",
                fix="Give one of each for a pair.",
            )
        both = np.intersect1d(_readable(queries), _readable(documents))
        pairs = [(queries[row], documents[row]) for row in both]
        scores = np.empty(len(queries), np.float32)
        options = {"raw_scores": True, "symmetric": self._symmetric, **options}
        known = self.scorer.predict(pairs, **options)
        scores[both] = known
        unread = np.setdiff1d(np.arange(len(queries)), both)
        scores[unread] = (known.min() if len(known) else 0.0) - 1.0
        _tell(len(unread), "pairs", "the lowest score")
        return scores


def _with_device(device: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, **({} if device is None else {"device": device})}


def _meta(model: SentenceEncoder | PairScorer, revision: str | None, **facts: Any) -> Any:
    module = sys.modules.get("mteb.models.model_meta")
    if module is None:
        return None
    if "embed_dim" in facts:
        facts["similarity_fn_name"] = module.ScoringFunction.COSINE
    name = _public_name(model.path)
    return module.ModelMeta.create_empty(
        {"name": name, "revision": revision or model.fingerprint()[:16], **facts}
    )


def _public_name(path: Path) -> str:
    """Return owner/name, as mteb wants it; "jinyi" owns what has no other owner."""
    home = models_home()
    return path.relative_to(home).as_posix() if path.parent.parent == home else f"jinyi/{path.name}"


def _texts(inputs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [text for batch in inputs for text in batch["text"]]


def _readable(texts: list[str]) -> npt.NDArray[np.int64]:
    """Return the places of texts that hold something to read."""
    return np.asarray([row for row, text in enumerate(texts) if _holds_something(text)], np.int64)


def _holds_something(text: str) -> bool:
    try:
        check_text(text)
    except InputError:
        return False
    return True


def _tell(count: int, what: str, instead: str) -> None:
    if count:
        warnings.warn(f"{count} {what} with nothing to read got {instead}", stacklevel=3)


def _check_precision(options: dict[str, Any]) -> None:
    """Take mteb's option `precision` away: it asks for quantized vectors."""
    precision = options.pop("precision", None)
    if precision not in (None, "float32"):
        raise InputError(
            found=repr(precision),
            expected='"float32", in which vectors are returned',
            fix="Leave it out; mteb's compression wrapper quantizes vectors of any model.",
            where="precision",
        )
