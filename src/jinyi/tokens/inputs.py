"""Checks what comes in as texts and pairs, before and when it is tokenised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jinyi.errors import InputError, shorten
from jinyi.text import check_text, not_text_error, surrogate_error

_BLOCK = 1 << 20  # characters tokenised at a time: bounds the working memory to some 50 MB


def split_pair(text: str, where: str = "") -> tuple[str, str]:
    """Split the one-string form of a pair, "first[SEP]second", as ModelScope's pipelines take it.

    This is the only place where a typed control token has a meaning.

    Args:
        text: a str with exactly one [SEP] between two texts.
        where: its place for messages, such as "row 3".

    Raises:
        InputError: not a text, no or more than one [SEP], or nothing to read on one side of it.
    """
    parts = check_text(text, where).split("[SEP]")
    if len(parts) != 2:
        raise InputError(
            found=f"{shorten(text)} with {len(parts) - 1 or 'no'} [SEP]",
            expected='one [SEP] between two texts, "first[SEP]second"',
            fix="Or pass the two texts as a pair: (first, second).",
            where=where,
        )
    place = f"{where}, " if where else ""
    first, second = (part.strip() for part in parts)
    return check_text(first, f"{place}first text"), check_text(second, f"{place}second text")


def as_list(rows: Iterable[Any], what: str) -> list[Any]:
    """Return rows as a list; InputError for a bare text or what has no rows."""
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise InputError(
            found=f"{shorten(rows)} of type {type(rows).__name__}",
            expected=f"a list of {what}",
            fix="Put it into a list: [...].",
            where=what,
        )
    return list(rows)


def check_pair(pair: object, row: int) -> None:
    """Raise InputError unless a row holds two things."""
    if isinstance(pair, str | bytes) or not isinstance(pair, Sequence):
        raise InputError(
            found=f"{shorten(pair)} of type {type(pair).__name__}",
            expected="two texts, (first, second)",
            fix='Split "first[SEP]second" with jinyi.tokens.split_pair.',
            where=f"row {row}",
        )
    if len(pair) != 2:
        raise InputError(
            found=f"{shorten(pair)}: {len(pair)} instead of two texts",
            expected="two texts, (first, second)",
            fix="Fill in or drop the row.",
            where=f"row {row}",
        )


def bad_row(texts: list[Any], where: Callable[[int], str]) -> InputError:
    """Return the error for the first of some texts that do not join: no str, or half a character."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            return not_text_error(text, where(index))
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return surrogate_error(text, where(index), error.start)
    raise AssertionError("called for texts that join")


def blocks(texts: list[str]) -> Iterator[int]:
    """Yield the numbers of texts that make about `_BLOCK` characters each."""
    count = size = 0
    for text in texts:
        count += 1
        size += len(text) if isinstance(text, str) else 0
        if size >= _BLOCK:
            yield count
            count = size = 0
    if count:
        yield count
