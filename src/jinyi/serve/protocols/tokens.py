"""Tokens for people to look at: which characters each stands for, and back to text."""

from __future__ import annotations

from typing import Any

from jinyi.tokens import Tokenizer


def tokenize(tokenizer: Tokenizer, text: str, special: bool) -> list[dict[str, Any]]:
    """Return the tokens of a text with their places.

    Args:
        tokenizer: the model's.
        text: what is cut into tokens; control tokens in it are text like any other.
        special: with [CLS] before and [SEP] behind.

    Returns:
        for each {"id", "text": its characters in `text`, "special", "start", "stop"}; control tokens have no place.
    """
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    tokens = [
        {"id": token, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
    ]
    if not special:
        return tokens
    ends = ((tokenizer.cls_id, "[CLS]"), (tokenizer.sep_id, "[SEP]"))
    first, last = (
        {"id": token, "text": name, "special": True, "start": None, "stop": None} for token, name in ends
    )
    return [first, *tokens, last]


def decode(tokenizer: Tokenizer, ids: list[int], skip_special: bool) -> str:
    """Return the text of token ids, a blank between words, as the library `tokenizers` writes it."""
    control = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id}
    kept = [token for token in ids if token not in control] if skip_special else ids
    text: str = tokenizer.backend.decode(kept, skip_special_tokens=False)
    return text
