"""Tokens for people to look at: which characters each stands for, and back to text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.tokens import Tokenizer


@dataclass(frozen=True, eq=False, slots=True)
class Tokens:
    """The tokens of a text with their places. A slice of it makes their objects, so that few are there at a time.

    Args:
        text: what was cut into tokens.
        ids: int32 [n].
        places: int32 [n, 2], the characters of `text` that each stands for, from the first up to before the second;
            below 0 for control tokens, which have no place.
        names: of control tokens, by their ids.
    """

    text: str
    ids: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    names: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> list[dict[str, Any]]:
        tokens = zip(self.ids[part].tolist(), self.places[part].tolist(), strict=True)
        return [
            {"id": token, "text": self.text[start:stop], "special": False, "start": start, "stop": stop}
            if start >= 0
            else {"id": token, "text": self.names[token], "special": True, "start": None, "stop": None}
            for token, (start, stop) in tokens
        ]


def tokenize(tokenizer: Tokenizer, text: str, special: bool) -> Tokens:
    """Return the tokens of a text.

    Args:
        tokenizer: the model's.
        text: what is cut into tokens; control tokens in it are text like any other.
        special: with [CLS] before and [SEP] behind.
    """
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    ids, places = encoding.ids, encoding.offsets
    if special:
        ids = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        places = [(-1, -1), *places, (-1, -1)]
    names = {tokenizer.cls_id: "[CLS]", tokenizer.sep_id: "[SEP]"}
    return Tokens(text, np.array(ids, np.int32), np.array(places, np.int32).reshape(-1, 2), names)


def decode(tokenizer: Tokenizer, ids: list[int], skip_special: bool) -> str:
    """Return the text of token ids, a blank between words, as the library `tokenizers` writes it."""
    control = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id}
    kept = [token for token in ids if token not in control] if skip_special else ids
    text: str = tokenizer.backend.decode(kept, skip_special_tokens=False)
    return text
