"""Single texts on their way to vectors: the options of a call, the rows they lead to, what outputs become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from jinyi.arguments import whole_number
from jinyi.errors import InputError, shorten
from jinyi.models.common import (
    FloatArray,
    as_list,
    as_texts,
    check_truncate,
    merge_windows,
    normalise_rows,
    resolve_prompt,
)
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Engine
from jinyi.tokens import Encoded, TruncateMode

Inputs = list[str] | list[Sequence[int]]
"""Texts, or rows of token ids."""


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """The options of one call for vectors, checked; `SentenceEncoder.encode` says what they mean.

    Args:
        normalize, truncate: as given.
        prefix: the text of the prompt; empty without one.
        max_length: tokens read.
        width: numbers kept of a vector.
        most_rows: most rows in a batch; None leaves it to the tokens.
    """

    normalize: bool
    truncate: str
    prefix: str
    max_length: int
    width: int
    most_rows: int | None

    @classmethod
    def of(
        cls,
        source: Source,
        dimension: int,
        *,
        normalize: bool = False,
        truncate: str = "warn",
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
        truncate_dim: int | None = None,
        most_rows: int | None = None,
    ) -> VectorOptions:
        """Check the options of a call.

        Args:
            source: the model.
            dimension: length of its vectors.
            normalize, truncate, prompt, prompt_name, max_length, truncate_dim: as in `SentenceEncoder.encode`.
            most_rows: most rows in a batch.

        Raises:
            InputError: one that cannot be used with this model.
        """
        check_truncate(truncate)
        folder, tokenizer = source.folder, source.tokenizer
        limit = folder.max_length
        if max_length is not None:
            longest = folder.config.max_position_embeddings
            fix = "Choose a length the model has positions for."
            limit = whole_number(max_length, "max_length", least=3, most=longest, unit="tokens", fix=fix)
        if prompt is None and prompt_name is None:
            prompt_name = folder.default_prompt_name
        prefix = resolve_prompt(folder.prompts, prompt, prompt_name) or ""
        size = len(tokenizer.ids_of_word(prefix)) if prefix else 0
        if prefix and size > limit - 3:
            raise InputError(
                found=f"{size} tokens, with [CLS] and [SEP] {size + 2}, in {shorten(prefix)}",
                expected=f"at most {limit - 3}: of the {limit} tokens read, one at least is for the text",
                fix="Shorten the prompt" + (" or raise max_length." if max_length is not None else "."),
                where="prompt",
            )
        width = dimension
        if truncate_dim is not None:
            fix = "Leave it out for whole vectors."
            width = whole_number(truncate_dim, "truncate_dim", most=width, fix=fix)
        return cls(normalize, truncate, prefix, limit, width, most_rows)


def texts_or_ids(inputs: Any) -> Inputs:
    """Return texts, or rows of token ids, as a checked list; the tokenizer checks ids.

    Raises:
        InputError: not text, or an empty one; names the row.
    """
    rows = inputs if isinstance(inputs, str) else as_list(inputs, "texts")
    if rows and isinstance(rows[0], (list, tuple, np.ndarray)):
        return list(rows)
    return as_texts(rows)[0]


def encoded(source: Source, texts: Inputs, options: VectorOptions) -> Encoded:
    """Return the ids of texts behind the prompt, cut or in windows that all have the prompt."""
    mode: TruncateMode = "window" if options.truncate == "window" else "report"
    tokenizer, limit, prefix = source.tokenizer, options.max_length, options.prefix
    if texts and not isinstance(texts[0], str):
        return tokenizer.encode_ids(texts, max_length=limit, truncate=mode, prefix=prefix)
    words = cast("list[str]", texts)
    if prefix and mode == "window":
        return tokenizer.encode_ids(tokenizer.read(words), max_length=limit, truncate=mode, prefix=prefix)
    # Read as one text, as sentence-transformers does: a word may go across where the prompt ends.
    return tokenizer.encode([f"{prefix}{text}" for text in words], max_length=limit, truncate=mode)


def vector_work(source: Source, engine: Engine, texts: Inputs, options: VectorOptions) -> Work:
    """Return the rows of texts, whose outputs become vectors, float32 [n, width].

    Args:
        source: the model.
        engine: its encoder with a head of vectors, not normalised: windows are averaged before that.
        texts: checked texts, or rows of ids.
        options: of the call.
    """
    rows = encoded(source, texts, options)

    def finish(outputs: list[FloatArray]) -> FloatArray:
        vectors = merge_windows(outputs[0], rows, len(texts))[:, : options.width]
        return normalise_rows(vectors) if options.normalize else vectors

    return Work((Pass(engine, rows, source.tokenizer.pad_id),), finish, rows.report)
