"""The forms in which pipelines take texts and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinyi.errors import InputError, shorten
from jinyi.text import check_text
from jinyi.tokens import split_pair

SEPARATOR = "[SEP]"


def is_pair(value: Any) -> bool:
    """Return whether a value is two texts in a tuple or list."""
    return (
        isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(side, str) for side in value)
    )


def text_or_pair(
    row: Any, where: str, *, one_string: bool, pairs_only: bool = False
) -> str | tuple[str, str]:
    """Read one input: a text, {"text", "text_pair"}, (a, b), or ModelScope's "a[SEP]b".

    Args:
        row: the input.
        where: its place for messages.
        one_string: whether a text with one [SEP] is a pair; else "[SEP]" is text like any other.
        pairs_only: refuse single texts.

    Raises:
        InputError: none of these forms, or nothing to read in a side.
    """
    if isinstance(row, Mapping):
        if not set(row) <= {"text", "text_pair"} or "text" not in row:
            raise InputError(
                found=f"a dict with {', '.join(map(repr, row)) or 'nothing in it'}",
                expected='{"text": ...} or {"text": ..., "text_pair": ...}',
                fix="Name the two texts so.",
                where=where,
            )
        second = row.get("text_pair")
        row = row["text"] if second is None else (row["text"], second)
    if isinstance(row, (tuple, list)):
        if len(row) != 2:
            raise InputError(
                found=f"{shorten(row)}, a {type(row).__name__} of {len(row)}",
                expected='a text, a pair (a, b) or {"text": ..., "text_pair": ...}',
                fix="Give both sides of the pair and nothing else.",
                where=where,
            )
        return check_text(row[0], f"{where}, first text"), check_text(row[1], f"{where}, second text")
    text = check_text(row, where)
    if one_string and (pairs_only or text.count(SEPARATOR) == 1):
        return split_pair(text, where)
    return text
