"""The last hidden states of a model's tokens: what /embed_all gives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from jinyi.errors import JinyiError
from jinyi.models.common import refuse_cut
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Engine, Head
from jinyi.serve.problems import ComputeFailed, Problem

_log = logging.getLogger("jinyi.serve")
# One thread: the worker opens one engine after the other, and those that wait for it take no thread of others.
_pool = ThreadPoolExecutor(1, thread_name_prefix="opening")


class TokenStates:
    """A model read token by token.

    Few ask for that, and it takes a second engine with the model's weights: it is opened for the first who asks.

    Args:
        source: a folder of any task.
        encoder: its encoder, whose prompts are put before texts; None for a language model, whose prompts are for
            topics: none is put before a text.
    """

    def __init__(self, source: Source, encoder: SentenceEncoder | None = None) -> None:
        self.source = source
        self.encoder = encoder
        self._engine: Engine | None = None
        self._opening: asyncio.Task[str] | None = None

    async def open(self) -> None:
        """Open the engine, once for all who ask, while the loop turns; afterwards `prepare` does not block.

        Raises:
            ComputeFailed: it cannot be opened. That is not tried again: it may have cost the worker its life.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        # Shielded: one who asks and leaves does not end it for the others.
        fault = await asyncio.shield(self._opening)
        if fault:
            raise ComputeFailed(fault)

    async def _open(self) -> str:
        """Open the engine in a thread, and return why that failed, or an empty text."""
        try:
            await asyncio.get_running_loop().run_in_executor(_pool, self._open_here)
        except (JinyiError, Problem) as error:
            _log.error("no vectors of tokens from %s: %s", self.source.folder.path.name, error)
            return f"the model's vectors of tokens cannot be computed: {error}"
        return ""

    def _open_here(self) -> None:
        if self.encoder is not None:
            self.encoder.prepare_tokens(["好"], prompt="")
        else:
            self._engine = self.source.engine(Head("tokens"))

    def prepare(
        self, inputs: list[str] | list[list[int]], *, truncate: str = "warn", prompt_name: str | None = None
    ) -> Work:
        """Return the rows to compute; `open` comes first.

        Args:
            inputs: checked texts, or rows of token ids.
            truncate: "warn" cuts, "error" refuses.
            prompt_name: of a prompt of the encoder.

        Returns:
            work whose `finish` gives a list of float32 [L, hidden_size], one for each input, [CLS] and [SEP] included.

        Raises:
            InputError: an input too long with truncate="error", or no such prompt.
        """
        if self.encoder is not None:
            return self.encoder.prepare_tokens(inputs, truncate=truncate, prompt_name=prompt_name)
        assert self._engine is not None, "not opened"  # noqa: S101 - `open` comes first
        tokenizer, limit = self.source.tokenizer, self.source.folder.max_length
        if isinstance(inputs[0], str):
            encoded = tokenizer.encode(inputs, max_length=limit, truncate="report")
        else:
            rows = cast("list[Sequence[int]]", inputs)
            encoded = tokenizer.encode_ids(rows, max_length=limit, truncate="report")
        refuse_cut(encoded.report, truncate, limit)
        return Work(
            (Pass(self._engine, encoded, tokenizer.pad_id),), lambda outputs: outputs[0], encoded.report
        )
