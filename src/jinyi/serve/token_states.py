"""The last hidden states of a language model's tokens: what /embed_all gives where no encoder of sentences does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jinyi.models.common import refuse_cut
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Head


class TokenStates:
    """A language model read token by token. Its prompts are for topics: none is put before a text.

    Args:
        source: a folder of any task.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._engine = source.engine(Head("tokens"))

    def prepare(self, inputs: list[str] | list[list[int]], *, truncate: str = "warn") -> Work:
        """Return the rows to compute.

        Args:
            inputs: checked texts, or rows of token ids.
            truncate: "warn" cuts, "error" refuses.

        Returns:
            work whose `finish` gives a list of float32 [L, hidden_size], one for each input, [CLS] and [SEP] included.

        Raises:
            InputError: an input too long with truncate="error".
        """
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
