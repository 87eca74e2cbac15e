"""Rows of training files before they are tokenised: line, texts, label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinyi.errors import InputError, shorten
from jinyi.files import read_pairs, read_texts
from jinyi.files.labels import label_name, place_of
from jinyi.files.rows import RowReader
from jinyi.text import check_text
from jinyi.train.recipe import Source

TRIPLET_COLUMNS = (
    ("anchor", "positive", "negative"),
    ("sent0", "sent1", "hard_neg"),
    ("query", "positive", "negative"),
    ("query", "pos", "neg"),
    ("premise", "entailment", "contradiction"),
)
"""Usual names of the three columns of a triplet, first match wins; without a header the first three columns."""

SIDES = {
    "pairs": ("a", "b"),
    "triplets": ("anchor", "positive", "negative"),
    "texts": ("text",),
    "topics": ("text",),
}
Record = tuple[int, tuple[str, ...], Any]
"""Line, texts and label of one row."""


def read_records(path: Path, source: Source, kind: str) -> Iterator[Record]:
    """Yield the rows of a file, with labels as `source.labels` says; rows whose label stands for null are left out.

    Args:
        path: the file.
        source: columns and labels.
        kind: "pairs", "triplets", "texts" or "topics".

    Raises:
        InputError: file missing or damaged, a column missing, an empty text, a label that `source.labels` does not
            know; names file and line.
    """
    return _mapped(_READERS[kind](path, _columns(source, kind, path)), source, path)


def _mapped(records: Iterable[Record], source: Source, path: Path) -> Iterator[Record]:
    """Say what labels stand for; leave rows out whose label stands for nothing."""
    if source.labels is None:
        yield from records
        return
    meaning = {label_name(label): value for label, value in source.labels.items()}
    for line, texts, label in records:
        name = label_name(label)
        if name not in meaning:
            raise InputError(
                found=f"label {shorten(label)}",
                expected=f"one of {shorten(list(meaning), 80)}",
                fix="Add it to the source's `labels`; null leaves its rows out.",
                where=place_of(path, line),
            )
        if meaning[name] is not None:
            yield line, texts, meaning[name]


def _columns(source: Source, kind: str, path: Path) -> Mapping[str, str]:
    known = (*SIDES[kind], "label")
    unknown = [name for name in source.columns if name not in known]
    sides = [side for side in SIDES[kind] if side in source.columns]
    if unknown or len(sides) not in (0, len(SIDES[kind])):
        raise InputError(
            found=f"columns for {', '.join(source.columns)}",
            expected=f"all of {', '.join(SIDES[kind])} (or none of them), and label",
            fix=f"Rows of kind {kind} have these.",
            where=str(path),
        )
    return source.columns


def _pairs(path: Path, columns: Mapping[str, str]) -> Iterator[Record]:
    sides = (columns["a"], columns["b"]) if "a" in columns else None
    for row in read_pairs(path, columns=sides, label_column=columns.get("label")):
        yield row.line, (row.a, row.b), row.label


def _texts(path: Path, columns: Mapping[str, str]) -> Iterator[Record]:
    for row in read_texts(path, column=columns.get("text"), label_column=columns.get("label")):
        yield row.line, (row.text,), row.label


def _triplets(path: Path, columns: Mapping[str, str]) -> Iterator[Record]:
    usual = (tuple(columns[side] for side in SIDES["triplets"]),) if columns else TRIPLET_COLUMNS
    reader = RowReader(path, "utf-8", sorted({name for names in usual for name in names}))
    for line, row in reader:
        where = reader.where(line)
        cells: Sequence[Any] = ()
        if isinstance(row, dict):
            names = next(
                (names for names in (*usual, ("1", "2", "3")) if all(name in row for name in names)), ()
            )
            cells = [row[name] for name in names]
        elif isinstance(row, list):
            cells = row
        else:
            cells = row.split("\t")
        if len(cells) != 3:
            raise InputError(
                found=f"columns {', '.join(row)}" if isinstance(row, dict) else f"{len(cells)} texts",
                expected=f"an anchor, a positive and a negative ({' or '.join('/'.join(names) for names in usual)})",
                fix="Name the three columns in the source's `columns`.",
                where=where,
            )
        anchor, positive, negative = (check_text(cell, where) for cell in cells)
        yield line, (anchor, positive, negative), None


_READERS: dict[str, Callable[[Path, Mapping[str, str]], Iterator[Record]]] = {
    "pairs": _pairs,
    "triplets": _triplets,
    "texts": _texts,
    "topics": _texts,
}
