"""Pairs that a model may have learnt from: the rows of files which scored rows must not be among."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jinyi.errors import InputError
from jinyi.evals.datacheck.forms import row_keys, text_keys
from jinyi.evals.labelled_pairs import LabelledPairs
from jinyi.evals.result import Row
from jinyi.files import read_pairs


@dataclass(frozen=True, slots=True)
class KnownPairs:
    """The pairs of some files, as hashes.

    Args:
        files: they were read from.
        keys: a hash of each pair, whatever its order, white space, width, case and punctuation, as `jinyi data check`
            counts rows as alike.
    """

    files: tuple[Path, ...]
    keys: frozenset[int]

    @classmethod
    def read(cls, files: Iterable[Path]) -> KnownPairs:
        """Read pairs, labelled or not.

        Raises:
            InputError: as `jinyi.files.read_pairs`.
        """
        paths = tuple(Path(file) for file in files)
        return cls(paths, frozenset(_key(row.a, row.b) for path in paths for row in read_pairs(path)))

    def unseen(self, data: LabelledPairs) -> LabelledPairs:
        """Return the rows of `data` that are not among the known pairs.

        Raises:
            InputError: hardly any are left, or those left have one label.
        """
        new = [
            row for row, (a, b) in enumerate(zip(data.a, data.b, strict=True)) if _key(a, b) not in self.keys
        ]
        labels = data.labels[new]
        if len(np.unique(labels)) < 2:
            raise InputError(
                found=f"{len(new):,} of {len(data):,} pairs left"
                + (f", all of label {labels[0]:g}" if len(new) else ""),
                expected="unseen pairs of two labels at least",
                fix="Nothing can be measured on them. Is the scored file, or a copy, among those of --without?",
                where=str(data.path),
            )
        return replace(
            data,
            lines=tuple(data.lines[row] for row in new),
            a=[data.a[row] for row in new],
            b=[data.b[row] for row in new],
            labels=labels,
        )


def leave_out(
    sets: list[LabelledPairs], files: Iterable[Path]
) -> tuple[list[LabelledPairs], dict[str, int], list[str]]:
    """Leave known pairs out of data sets.

    Args:
        sets: to be scored.
        files: whose pairs are known; none changes nothing.

    Returns:
        The sets, by name how many rows were left out of each, and a note on every set that lost some.

    Raises:
        InputError: as `KnownPairs`.
    """
    known = KnownPairs.read(files)
    if not known.files:
        return sets, {}, []
    left = [known.unseen(each) for each in sets]
    lost = {before.name: len(before) - len(after) for before, after in zip(sets, left, strict=True)}
    count = len(known.files)
    where = f"{count} files of --without" if count > 1 else str(known.files[0])
    notes = [
        f"{before.name}: {lost[before.name]:,} of {len(before):,} pairs stand in the {where} and are left out."
        for before in sets
        if lost[before.name]
    ]
    return left, lost, notes or [f"No scored pair stands in the {where}."]


def marked(row: Row, lost: Mapping[str, int]) -> Row:
    """Return a row with the number of pairs left out among its settings, where a file of known pairs was given."""
    if row.quoted or not lost:
        return row
    return replace(row, settings={**row.settings, "left out": lost[row.data]})


def _key(a: str, b: str) -> int:
    keys = np.array([[text_keys(a)[2], text_keys(b)[2]]], np.uint64)
    return int(row_keys(keys, ordered=False)[0])
