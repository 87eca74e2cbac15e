"""Sentence vectors: texts in, float32 [n, d] out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from jinyi.arguments import whole_number
from jinyi.batches import CHUNK, chunks
from jinyi.errors import InputError, shorten
from jinyi.folder import Dense, Golden, write_folder
from jinyi.models.common import (
    GOLDEN_TEXTS,
    FloatArray,
    as_texts,
    check_golden,
    check_truncate,
    compute_once,
    refuse_cut,
    refuse_none,
    warn_cut,
)
from jinyi.models.cosines import cosine_matrix, cosines_by_row
from jinyi.models.familiar import EncodeOptions, FamiliarEncode, as_asked, check_names, most_rows, renamed
from jinyi.models.source import Opener, Source
from jinyi.models.text_rows import VectorOptions, encoded, texts_or_ids, vector_work
from jinyi.models.whitening import Whitening
from jinyi.models.work import Pass, Work, run
from jinyi.runtime import Engine, Head
from jinyi.tokens import TruncationReport

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SentenceEncoder:
    """Turns sentences into vectors whose cosine says how close they are in meaning.

    Open one with `SentenceEncoder.load`. The same text gives the same vector whatever else is in the call (float32:
    within 1e-5); order is kept; equal texts are computed once.

    An encoder never changes, so a copy is the same object. It can be pickled: the pickle holds the folder's name or
    path, the options and a whitening that is not saved yet, no weights. It works on in a forked process.
    """

    def __init__(self, source: Source, whitening: tuple[Dense, ...] = ()) -> None:
        folder = source.folder
        self._source = source
        self._whitening = whitening
        # Vectors are normalised here and not in the graph: windows are averaged before that.
        self._engine = source.engine(Head("vector", pooling=folder.pooling or "", dense=self._dense))
        self._token_engine: Engine | None = None  # opened when it is first asked for
        if not whitening:
            check_golden(source, self._engine, self._golden_vectors, "vectors")

    def __reduce__(self) -> tuple[type[SentenceEncoder], tuple[Any, ...]]:
        return type(self), (self._source, self._whitening)

    def __copy__(self) -> SentenceEncoder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SentenceEncoder:
        return self

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        pooling: str | None = None,
        opener: Opener | None = None,
    ) -> SentenceEncoder:
        """Open a model.

        Args:
            model: None for the shipped one, a name (`jinyi models list`) or a folder.
            precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32
                (docs/large-models.md says what each of them is).
            threads: processor threads; None takes the cores really available.
            device: "cpu" or "cuda" (extra `train`).
            pooling: "cls", "mean", "max", "first_last", or "pooler" ([CLS] through the stored pooler as a linear layer,
                as SimBERT and RoFormer-Sim make vectors), for folders that do not state it.
            opener: makes the engine in place of one in this process (see `jinyi.models.source.Opener`).

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is incomplete or damaged, states no pooling, or its golden sentences come out
                differently.
            InputError: a precision, device, number of threads or pooling that does not exist or that this machine
                does not have; "int8" also for a folder without ranges (`jinyi quantize` measures them) or with too
                great a measured loss.
            MissingExtraError: device "cuda" without PyTorch.
        """
        options = {"precision": precision, "threads": threads, "device": device, "opener": opener}
        return cls(Source.open(model, "embed", as_task="embed", pooling=pooling, **options))  # type: ignore[arg-type]

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._dense[-1][0].shape[0]) if self._dense else self._source.folder.vector_size

    @property
    def max_length(self) -> int:
        """Tokens read of a text, [CLS] and [SEP] included."""
        return self._source.folder.max_length

    @property
    def prompts(self) -> dict[str, str]:
        """Named prompts of this model, for `prompt_name`."""
        return dict(self._source.folder.prompts)

    @property
    def source(self) -> Source:
        """The opened folder with its tokenizer."""
        return self._source

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._source.folder.path

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._engine.info()

    def fingerprint(self) -> str:
        """Return a hash that tells encoders apart: by tokenizer, weights, pooling and dense layers."""
        source = self._source
        digest = hashlib.sha256(f"{source.fingerprint()} {source.folder.pooling}".encode())
        for part in (part for layer in self._dense for part in layer if part is not None):
            digest.update(np.ascontiguousarray(part, np.float32).tobytes())
        return digest.hexdigest()

    @overload
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        return_report: Literal[False] = ...,
        **options: Unpack[EncodeOptions],
    ) -> FloatArray: ...

    @overload
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        return_report: Literal[True],
        **options: Unpack[EncodeOptions],
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
        truncate_dim: int | None = None,
        show_progress: bool | None = None,
        return_report: bool = False,
        **familiar: Unpack[FamiliarEncode],
    ) -> FloatArray | tuple[FloatArray, TruncationReport]:
        """Return the vectors of texts.

        Args:
            texts: one str, or a list (array, series, iterator) of str.
            normalize: divide each vector by its Euclidean length, so that a dot product is a cosine.
            truncate: what happens to texts longer than `max_length`: "warn" cuts them and gives one
                TruncationWarning with the count, "error" refuses them, "window" reads them in overlapping windows,
                each behind the prompt, and averages the windows' vectors weighted by their tokens.
            prompt: text put before every text. The folder's default prompt applies if neither is given.
            prompt_name: name of a prompt of the folder.
            max_length: tokens read of a text, [CLS] and [SEP] included; up to the model's own limit.
            truncate_dim: keep the first numbers of each vector only (before `normalize`); whitened vectors have
                their largest directions first, others no order.
            show_progress: True, False, or None for a bar on a terminal when it takes more than a second.
            return_report: also return a TruncationReport: how many texts were cut, which, by how much.
            **familiar: names that sentence-transformers uses; see `FamiliarEncode`.

        Returns:
            float32 [n, d]; [d] for one str. With `return_report` a tuple of it and the report.

        Raises:
            InputError: not text, an empty text, a text too long with truncate="error"; names the row. An option that
                this model cannot take, or one given under both its names.
            TypeError: a keyword that this call does not have.
            MissingExtraError: convert_to_tensor=True without PyTorch.
        """
        check_names(familiar, FamiliarEncode, "encode")
        normalize = renamed(familiar, "normalize_embeddings", "normalize", normalize, True)
        show_progress = renamed(familiar, "show_progress_bar", "show_progress", show_progress, None)
        checked, single = as_texts(texts)
        call = VectorOptions.of(
            self._source,
            self.dimension,
            normalize=normalize,
            truncate=truncate,
            prompt=prompt,
            prompt_name=prompt_name,
            max_length=max_length,
            truncate_dim=truncate_dim,
            most_rows=most_rows(familiar),
        )
        vectors, report = self._encode(checked, call, show_progress)
        warn_cut(report, truncate, call.max_length)
        result = as_asked(vectors[0] if single else vectors, familiar)
        return (result, report) if return_report else result

    def prepare(
        self,
        texts: Iterable[str] | Iterable[Sequence[int]],
        *,
        normalize: bool = True,
        truncate: str = "warn",
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
        truncate_dim: int | None = None,
    ) -> Work:
        """Return the rows that `encode` would compute, for those who compute rows of many callers together.

        Args:
            texts: as in `encode`, or rows of token ids of this model; equal texts are not merged.
            normalize: as in `encode`.
            truncate: as in `encode`; cut texts are in the work's report, there is no warning.
            prompt: as in `encode`.
            prompt_name: as in `encode`.
            max_length: as in `encode`.
            truncate_dim: as in `encode`.

        Returns:
            work whose `finish` gives float32 [n, d].

        Raises:
            InputError: as `encode`.
        """
        checked = texts_or_ids(texts)
        refuse_none(checked, "texts")
        call = VectorOptions.of(
            self._source,
            self.dimension,
            normalize=normalize,
            truncate=truncate,
            prompt=prompt,
            prompt_name=prompt_name,
            max_length=max_length,
            truncate_dim=truncate_dim,
        )
        work = vector_work(self._source, self._engine, checked, call)
        refuse_cut(work.report, truncate, call.max_length)
        return work

    def prepare_tokens(
        self,
        texts: Iterable[str] | Iterable[Sequence[int]],
        *,
        truncate: str = "warn",
        prompt: str | None = None,
        prompt_name: str | None = None,
    ) -> Work:
        """Return the rows that give each token's last hidden state.

        Args:
            texts: as in `prepare`.
            truncate: "warn" or "error", as in `prepare`; windows have no one row of tokens.
            prompt: as in `encode`.
            prompt_name: as in `encode`.

        Returns:
            work whose `finish` gives a list of float32 [L, hidden_size], one for each text, [CLS] and [SEP] included.

        Raises:
            InputError: as `encode`.
        """
        check_truncate(truncate, windows=False)
        checked = texts_or_ids(texts)
        refuse_none(checked, "texts")
        call = VectorOptions.of(
            self._source, self.dimension, truncate=truncate, prompt=prompt, prompt_name=prompt_name
        )
        if self._token_engine is None:
            self._token_engine = self._source.engine(Head("tokens"))
        rows = encoded(self._source, checked, call)
        refuse_cut(rows.report, truncate, call.max_length)
        whole = Pass(self._token_engine, rows, self._source.tokenizer.pad_id)
        return Work((whole,), lambda outputs: outputs[0], rows.report)

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
        chunk = whole_number(chunk, "chunk", fix="Leave it out.")
        call = VectorOptions.of(
            self._source,
            self.dimension,
            normalize=normalize,
            truncate=truncate,
            prompt=prompt,
            prompt_name=prompt_name,
            max_length=max_length,
        )
        seen, reports = 0, []
        for block in chunks(texts, chunk):
            checked, _ = as_texts(block, seen)
            vectors, report = self._encode(checked, call, False, seen)
            reports.append(replace(report, rows=report.rows + seen))
            seen += len(block)
            yield vectors
        if reports:
            rows = np.concatenate([report.rows for report in reports])
            lost = np.concatenate([report.lost for report in reports])
            warn_cut(TruncationReport(seen, rows, lost), truncate, call.max_length)

    def similarity(self, a: Any, b: Any) -> FloatArray:
        """Return the cosine of every a with every b, float32 [len(a), len(b)].

        Args:
            a: texts, or vectors [n, d] from `encode`.
            b: texts, or vectors.

        Raises:
            InputError: neither texts nor vectors, or vectors of different length.
        """
        return cosine_matrix(a, b, self.encode)

    def similarity_pairwise(self, a: Any, b: Any) -> FloatArray:
        """Return the cosine of each a with the b in the same place, float32 [n].

        Args:
            a: texts, or vectors [n, d] from `encode`.
            b: as many texts or vectors.

        Raises:
            InputError: as `similarity`, or a and b differ in number.
        """
        return cosines_by_row(a, b, self.encode)

    def fit_whitening(self, texts: Iterable[str], dimension: int | None = None) -> SentenceEncoder:
        """Return an encoder whose vectors are whitened (Su et al. 2021; see `Whitening`).

        Args:
            texts: sentences the whitening is fitted on, more than `dimension`.
            dimension: length of the new vectors; None keeps it.

        Raises:
            InputError: too few different texts for the dimensions to keep.
        """
        whitening = Whitening(dimension).fit(self.encode(texts, normalize=False))
        return SentenceEncoder(self._source, (*self._whitening, whitening.dense()))

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
        folder = self._source.folder
        return write_folder(
            path,
            task="embed",
            config=folder.config,
            weights=folder.weights(),
            tokenizer=self._source.tokenizer,
            pooling=folder.pooling,
            normalize=folder.normalize,
            dense=self._dense,
            prompts=folder.prompts,
            default_prompt_name=folder.default_prompt_name,
            seen_texts=folder.record.get("seen_texts"),
            max_length=folder.max_length,
            dtype=folder.stored_type,
            licence=folder.record.get("licence"),
            training=folder.record.get("training"),
            golden=golden_vectors,
            overwrite=overwrite,
        )

    @property
    def _dense(self) -> tuple[Dense, ...]:
        return (*self._source.folder.dense, *self._whitening)

    def _golden_vectors(self, golden: Golden) -> FloatArray:
        texts = [str(text) for text in golden.inputs]
        call = VectorOptions.of(
            self._source, self.dimension, normalize=self._source.folder.normalize, prompt=""
        )
        return self._encode(texts, call, False)[0]

    def _encode(
        self, texts: list[str], call: VectorOptions, show_progress: bool | None, start_row: int = 0
    ) -> tuple[FloatArray, TruncationReport]:
        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            work = vector_work(self._source, self._engine, part, call)
            return run(work, call.most_rows), work.report

        return compute_once(
            texts,
            (call.width,),
            compute,
            truncate=call.truncate,
            max_length=call.max_length,
            label="texts",
            show_progress=show_progress,
            start_row=start_row,
        )


def golden_vectors(path: Path) -> Golden:
    """Compute the golden vectors of a finished folder, in float32; pass this as `golden=` to `write_folder`."""
    encoder = SentenceEncoder.load(path, precision="float32")
    normalize = encoder._source.folder.normalize
    return Golden("vectors", GOLDEN_TEXTS, encoder.encode(GOLDEN_TEXTS, normalize=normalize, prompt=""))
