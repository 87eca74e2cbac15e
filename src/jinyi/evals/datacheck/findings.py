"""What a check found, in words, with places to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "unreadable",
    "columns",
    "repeated",
    "conflict",
    "shared",
    "label",
    "equal texts",
    "sentences",
    "balance",
    "cut",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Place:
    """A row to look at.

    Args:
        where: "path:line" (parquet: row).
        short: the same with the name of the file.
        texts: of the row.
        label: of the row, or None.
    """

    where: str
    short: str
    texts: tuple[str, ...]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Args:
        kind: what it is.
        problem: scores computed on these files would mislead, or training on them harms; a note otherwise.
        files: names of the files concerned.
        count: rows concerned ("shared" and "sentences": distinct ones; "label": labels).
        message: what was found, in a sentence.
        examples: groups of rows that show it.
    """

    kind: Kind
    problem: bool
    files: tuple[str, ...]
    count: int
    message: str
    examples: tuple[tuple[Place, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A finding before its rows were read again: examples are (file, row) by their places."""

    kind: Kind
    problem: bool
    files: tuple[str, ...]
    count: int
    message: str
    examples: Sequence[Sequence[tuple[int, int]]] = ()


def some(count: int, what: str) -> str:
    """Return "1 row", "12,000 rows"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(parts: Sequence[tuple[int, str]]) -> str:
    """Return "3 as written, 2 in other order", without the zeros."""
    return ", ".join(f"{count:,} {what}" for count, what in parts if count)
