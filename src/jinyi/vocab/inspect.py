"""What a vocabulary makes of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinyi.batches import chunks

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Coverage:
    """What a vocabulary makes of a text sample.

    Attributes:
        tokens: tokens produced, without [CLS] and [SEP].
        characters: characters read, white space left out.
        unknown: tokens that became [UNK].
        missing: the characters behind most [UNK]s with their counts, most frequent first.
    """

    tokens: int
    characters: int
    unknown: int
    missing: list[tuple[str, int]]

    @property
    def unknown_rate(self) -> float:
        """Share of tokens that are [UNK]."""
        return self.unknown / self.tokens if self.tokens else 0.0


def inspect(tokenizer: Tokenizer, lines: Iterable[str], *, top: int = 20) -> Coverage:
    """Report how `tokenizer` (of the `tokenizers` library) covers `lines`: token count, [UNK] rate, what is missing.

    Streams: memory does not grow with the text.
    """
    unknown_id = tokenizer.token_to_id("[UNK]")
    tokens = characters = unknown = 0
    missing: Counter[str] = Counter()
    for block in chunks(lines):
        for line, encoding in zip(
            block, tokenizer.encode_batch(block, add_special_tokens=False), strict=True
        ):
            characters += sum(not c.isspace() for c in line)
            tokens += len(encoding.ids)
            for token_id, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
                if token_id == unknown_id:
                    unknown += 1
                    missing[line[start:stop]] += 1
    return Coverage(tokens, characters, unknown, missing.most_common(top))
