"""Pairs with labels, read from a file and checked before a model is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.files import read_pairs, read_texts
from jinyi.files.columns import pair_columns
from jinyi.files.labels import label_number, place_of
from jinyi.files.rows import RowReader
from jinyi.hashes import file_sha256

NO_LABEL = ("", "-", "-1")
"""What unlabelled test files hold in place of a label (CLUE's write "-")."""


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """A data set of n pairs.

    Args:
        name: of the set.
        path: of its file.
        lines: line (parquet: row) of each pair, from 1.
        a: first texts.
        b: second texts.
        labels: float64 [n]: 0 and 1, or grades.
        sha256: of the file.
    """

    name: str
    path: Path
    lines: tuple[int, ...]
    a: list[str]
    b: list[str]
    labels: npt.NDArray[np.float64]
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, row: int) -> str:
        """Return file and line of a pair, counted from 0."""
        return place_of(self.path, self.lines[row])


def read_labelled_pairs(name: str, path: Path, *, graded: bool) -> LabelledPairs:
    """Read all pairs of a file.

    Args:
        name: what the set is called.
        path: as for `jinyi.files.read_pairs`; columns are found by their usual names, the label in `label` or `score`.
        graded: whether any numbers will do as labels; otherwise they are 0 and 1.

    Raises:
        InputError: a row without a label or with one that is no number (not graded: neither 0 nor 1), or labels that
            are all equal; names file and line.
    """
    lines, first, second, labels = [], [], [], []
    for row in read_pairs(path):
        labels.append(_label(row.label, place_of(path, row.line), graded))
        lines.append(row.line)
        first.append(row.a)
        second.append(row.b)
    values = np.asarray(labels, np.float64)
    if (values == values[0]).all():
        raise InputError(
            found=f"{len(values):,} labels that are all {values[0]:g}",
            expected="labels that differ",
            fix="Nothing can be measured on one label alone; unlabelled test files are often filled with one.",
            where=str(path),
        )
    return LabelledPairs(name, path, tuple(lines), first, second, values, file_sha256(path))


def read_plain_texts(path: Path) -> list[str]:
    """Return the texts of a file, both sides of each pair where it holds pairs.

    Raises:
        InputError: as `jinyi.files.read_texts` and `read_pairs`.
    """
    reader = RowReader(path, "utf-8", None)
    _, row = next(iter(reader))
    if isinstance(row, list) or (isinstance(row, dict) and _holds_pairs(row)):
        return [text for pair in read_pairs(path) for text in (pair.a, pair.b)]
    return [text.text for text in read_texts(path)]


def _holds_pairs(row: dict[str, Any]) -> bool:
    try:
        pair_columns(row, "")
    except InputError:
        return False
    return True


def _label(label: object, where: str, graded: bool) -> float:
    given = label.strip() if isinstance(label, str) else label
    if given is None or given in NO_LABEL or (isinstance(given, float) and np.isnan(given)):
        raise InputError(
            found="a pair without a label"
            if given is None
            else f"label {shorten(label)}, which stands for none",
            expected="a label in every row (column label or score)",
            fix="Nothing is measured on rows without labels: give a labelled file, or take these rows out.",
            where=where,
        )
    number = label_number(given)
    if number is None or not (graded or number in (0.0, 1.0)):
        raise InputError(
            found=f"label {shorten(label)}",
            expected="a finite number" if graded else "0 (not similar) or 1 (similar)",
            fix="Write numbers for the labels: 1 and 0, or grades that grow with similarity."
            if graded
            else "Map the labels to 0 and 1; graded ones are for `jinyi evaluate sts`.",
            where=where,
        )
    return number
