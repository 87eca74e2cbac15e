"""Sentence vectors: texts in, float32 [n, d] out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from jinyi.batches import CHUNK, chunks
from jinyi.errors import InputError, shorten
from jinyi.folder import Golden, write_folder
from jinyi.models.common import (
    FloatArray,
    Source,
    as_list,
    as_texts,
    check_golden,
    check_truncate,
    compute_once,
    merge_windows,
    normalise_rows,
    resolve_prompt,
    run_rows,
    warn_cut,
)
from jinyi.models.whitening import Whitening
from jinyi.runtime import Head
from jinyi.tokens import TruncateMode, TruncationReport


class SentenceEncoder:
    """Turns sentences into vectors whose cosine says how close they are in meaning.

    Open one with `SentenceEncoder.load`. The same text gives the same vector whatever else is in the call (float32:
    within 1e-5); order is kept; equal texts are computed once.
    """

    def __init__(self, source: Source) -> None:
        folder = source.folder
        self._source = source
        # Vectors are normalised here and not in the graph: windows are averaged before that.
        self._engine = source.engine(Head("vector", pooling=folder.pooling or "", dense=folder.dense))
        check_golden(source, self._engine, self._golden_vectors, "vectors")

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        pooling: str | None = None,
    ) -> SentenceEncoder:
        """Open a model.

        Args:
            model: None for the shipped one, a name (`jinyi models list`) or a folder.
            precision: "float32", "bfloat16", "int8", or "auto" for float32.
            threads: processor threads; None takes the cores really available.
            device: "cpu" or "cuda" (extra `train`).
            pooling: "cls", "mean", "max" or "first_last", for folders that do not state it.

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is incomplete or damaged, states no pooling, or its golden sentences come out
                differently.
        """
        options = {"precision": precision, "threads": threads, "device": device}
        return cls(Source.open(model, "embed", as_task="embed", pooling=pooling, **options))  # type: ignore[arg-type]

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._source.folder.vector_size

    @property
    def max_length(self) -> int:
        """Tokens read of a text, [CLS] and [SEP] included."""
        return self._source.folder.max_length

    @property
    def prompts(self) -> dict[str, str]:
        """Named prompts of this model, for `prompt_name`."""
        return dict(self._source.folder.prompts)

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._source.folder.path

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._engine.info()

    @overload
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        normalize: bool = ...,
        truncate: str = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        max_length: int | None = ...,
        show_progress: bool | None = ...,
        return_report: Literal[False] = ...,
    ) -> FloatArray: ...

    @overload
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        normalize: bool = ...,
        truncate: str = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        max_length: int | None = ...,
        show_progress: bool | None = ...,
        return_report: Literal[True],
    ) -> tuple[FloatArray, TruncationReport]: ...

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        normalize: bool = True,
        truncate: str = "warn",
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
        show_progress: bool | None = None,
        return_report: bool = False,
    ) -> FloatArray | tuple[FloatArray, TruncationReport]:
        """Return the vectors of texts.

        Args:
            texts: one str, or a list (array, series, iterator) of str.
            normalize: divide each vector by its Euclidean length, so that a dot product is a cosine.
            truncate: what happens to texts longer than `max_length`: "warn" cuts them and gives one
                TruncationWarning with the count, "error" refuses them, "window" reads them in overlapping windows
                and averages the windows' vectors weighted by their tokens.
            prompt: text put before every text. The folder's default prompt applies if neither is given.
            prompt_name: name of a prompt of the folder.
            max_length: tokens read of a text, [CLS] and [SEP] included; up to the model's own limit.
            show_progress: True, False, or None for a bar on a terminal when it takes more than a second.
            return_report: also return a TruncationReport: how many texts were cut, which, by how much.

        Returns:
            float32 [n, d]; [d] for one str. With `return_report` a tuple of it and the report.

        Raises:
            InputError: not text, an empty text, a text too long with truncate="error"; names the row.
        """
        checked, single = as_texts(texts)
        prefix = self._prefix(prompt, prompt_name)
        vectors, report = self._encode(checked, normalize, truncate, prefix, max_length, show_progress)
        warn_cut(report, truncate, max_length or self.max_length)
        result = vectors[0] if single else vectors
        return (result, report) if return_report else result

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        truncate: str = "warn",
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
        chunk: int = CHUNK,
    ) -> Iterator[FloatArray]:
        """Yield vectors of any number of texts in blocks, in order, with memory for one block only.

        Args:
            texts: any iterable of str; drawn one block at a time.
            normalize: as in `encode`.
            truncate: as in `encode`; a TruncationWarning with the total comes after the last block.
            prompt: as in `encode`.
            prompt_name: as in `encode`.
            max_length: as in `encode`.
            chunk: texts in a block; equal texts within a block are computed once.

        Yields:
            float32 [m, d] with m = chunk, fewer in the last block.

        Raises:
            InputError: as `encode`, when the text's block is reached; rows count from the start of the stream.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise InputError(
                found=f"{shorten(texts)} of type {type(texts).__name__}",
                expected="an iterable of texts",
                fix="Put a single text into a list: [text].",
                where="texts",
            )
        if not isinstance(chunk, int) or chunk < 1:
            raise InputError(
                found=shorten(chunk), expected="a whole number from 1", fix="Leave it out.", where="chunk"
            )
        prefix = self._prefix(prompt, prompt_name)
        seen, reports = 0, []
        for block in chunks(texts, chunk):
            checked, _ = as_texts(block, seen)
            vectors, report = self._encode(checked, normalize, truncate, prefix, max_length, False, seen)
            reports.append(replace(report, rows=report.rows + seen))
            seen += len(block)
            yield vectors
        if reports:
            rows = np.concatenate([report.rows for report in reports])
            lost = np.concatenate([report.lost for report in reports])
            warn_cut(TruncationReport(seen, rows, lost), truncate, max_length or self.max_length)

    def similarity(self, a: Any, b: Any) -> FloatArray:
        """Return the cosine of every a with every b, float32 [len(a), len(b)].

        Args:
            a: texts, or vectors [n, d] from `encode`.
            b: texts, or vectors.
        """
        first, second = self._vectors_of_both(a, b)
        result: FloatArray = np.matmul(first, second.T)
        return result

    def similarity_pairwise(self, a: Any, b: Any) -> FloatArray:
        """Return the cosine of each a with the b in the same place, float32 [n].

        Args:
            a: texts, or vectors [n, d] from `encode`.
            b: as many texts or vectors.

        Raises:
            InputError: a and b differ in length.
        """
        first, second = self._vectors_of_both(a, b)
        if len(first) != len(second):
            raise InputError(
                found=f"{len(first)} and {len(second)} rows",
                expected="as many a as b",
                fix="For all against all use similarity(a, b).",
            )
        result: FloatArray = np.einsum("nd,nd->n", first, second)
        return result

    def fit_whitening(self, texts: Iterable[str], dimension: int | None = None) -> SentenceEncoder:
        """Return an encoder whose vectors are whitened (Su et al. 2021; see `Whitening`).

        Args:
            texts: sentences the whitening is fitted on, more than `dimension`.
            dimension: length of the new vectors; None keeps it.
        """
        whitening = Whitening(dimension).fit(self.encode(texts, normalize=False))
        folder = self._source.folder
        dense = (*folder.dense, whitening.dense())
        return SentenceEncoder(replace(self._source, folder=replace(folder, dense=dense, golden=None)))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a model folder, with the whitening as a dense layer, that sentence-transformers opens as well.

        Args:
            path: folder to create, whole or not at all.
            overwrite: replace a model folder that is there.

        Returns:
            The absolute path of the folder.

        Raises:
            FolderError: the folder exists or cannot be written.
        """
        from jinyi.models.golden import make_golden

        folder = self._source.folder
        return write_folder(
            path,
            task="embed",
            config=folder.config,
            weights=folder.weights(),
            tokenizer=self._source.tokenizer,
            pooling=folder.pooling,
            normalize=folder.normalize,
            dense=folder.dense,
            prompts=folder.prompts,
            default_prompt_name=folder.default_prompt_name,
            max_length=folder.max_length,
            dtype="float16" if folder.dtype == "F16" else "float32",
            licence=folder.record.get("licence"),
            training=folder.record.get("training"),
            golden=make_golden,
            overwrite=overwrite,
        )

    def _golden_vectors(self, golden: Golden) -> FloatArray:
        texts = [str(text) for text in golden.inputs]
        return self._encode(texts, self._source.folder.normalize, "warn", "", None, False)[0]

    def _prefix(self, prompt: str | None, prompt_name: str | None) -> str:
        folder = self._source.folder
        if prompt is None and prompt_name is None:
            prompt_name = folder.default_prompt_name
        return resolve_prompt(folder.prompts, prompt, prompt_name) or ""

    def _encode(
        self,
        texts: list[str],
        normalize: bool,
        truncate: str,
        prefix: str,
        max_length: int | None,
        show_progress: bool | None,
        start_row: int = 0,
    ) -> tuple[FloatArray, TruncationReport]:
        check_truncate(truncate)
        tokenizer = self._source.tokenizer
        limit = self._limit(max_length)
        mode: TruncateMode = "window" if truncate == "window" else "report"

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            given = [prefix + text for text in part] if prefix else part
            encoded = tokenizer.encode(given, max_length=limit, truncate=mode)
            vectors = merge_windows(run_rows(self._engine, encoded, tokenizer.pad_id), encoded, len(part))
            return normalise_rows(vectors) if normalize else vectors, encoded.report

        return compute_once(
            texts,
            (self.dimension,),
            compute,
            truncate=truncate,
            max_length=limit,
            label="texts",
            show_progress=show_progress,
            start_row=start_row,
        )

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        longest = self._source.folder.config.max_position_embeddings
        if not isinstance(max_length, int) or not 3 <= max_length <= longest:
            raise InputError(
                found=shorten(max_length),
                expected=f"3 to {longest} tokens",
                fix="Choose a length the model has positions for.",
                where="max_length",
            )
        return max_length

    def _vectors_of_both(self, a: Any, b: Any) -> tuple[FloatArray, FloatArray]:
        first, second = self._unit_vectors(a, "a"), self._unit_vectors(b, "b")
        if first.shape[1] != second.shape[1]:
            raise InputError(
                found=f"vectors of {first.shape[1]} and of {second.shape[1]} numbers",
                expected="vectors of one model",
                fix="Encode both with this encoder.",
                where="a and b",
            )
        return first, second

    def _unit_vectors(self, values: Any, name: str) -> FloatArray:
        if isinstance(values, str):
            return self.encode([values])
        if not isinstance(values, np.ndarray) or values.dtype.kind in "UO":
            values = as_list(values, "texts or vectors")
            if not values or any(isinstance(value, str) for value in values):
                return self.encode(values)
        try:
            vectors: npt.NDArray[np.float32] = np.array(values, np.float32, ndmin=2)
        except (TypeError, ValueError):
            raise InputError(
                found=f"rows such as {shorten(values[0])}",
                expected="texts, or vectors [n, d]",
                fix="Pass what encode returned.",
                where=name,
            ) from None
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise InputError(
                found=f"an array of shape {vectors.shape}",
                expected="texts, or vectors [n, d]",
                fix="Pass what encode returned.",
                where=name,
            )
        return normalise_rows(vectors)
