"""What a file says twice, and what it says once this way and once that way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jinyi.evals.datacheck.forms import Keys, row_keys
from jinyi.evals.datacheck.reading import Table

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that repeat an earlier one of their file; each number contains the one before.

    Args:
        written: as they stand.
        same: without white space, pairs in either order.
        alike: also without width, case and punctuation.
        examples: groups of rows that repeat each other, in this order of strictness.
    """

    written: int
    same: int
    alike: int
    examples: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Texts that have several labels in one file.

    Args:
        same: distinct texts or pairs, compared without white space.
        rows: how many rows these are.
        alike: as `same`, also without width, case and punctuation.
        examples: groups of rows of one text and several labels.
    """

    same: int
    rows: int
    alike: int
    examples: tuple[tuple[int, ...], ...]


def groups(keys: Keys) -> tuple[Places, Places, Places]:
    """Return the order that puts equal keys together (stable), and where each group starts and stops in it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return order, starts, np.append(starts[1:], len(keys))


def repeats(table: Table, examples: int) -> Repeats:
    """Count the rows that repeat an earlier one."""
    levels = {
        "written": row_keys(table.keys["written"], ordered=True),
        "same": row_keys(table.keys["same"], ordered=table.width > 2),
        "alike": row_keys(table.keys["alike"], ordered=table.width > 2),
    }
    shown: list[tuple[int, ...]] = []
    counts = {}
    known: Keys | None = None  # the stricter form: groups equal in it were shown before
    for level, keys in levels.items():
        order, starts, stops = groups(keys)
        counts[level] = len(keys) - len(starts)
        for group in _rows(order, starts, stops, stops - starts > 1):
            if len(shown) == examples:
                break
            if known is None or len(np.unique(known[group])) > 1:
                shown.append(tuple(group.tolist()))
        known = keys
    return Repeats(counts["written"], counts["same"], counts["alike"], tuple(shown))


def conflicts(table: Table, examples: int) -> Conflicts:
    """Count the texts that have several labels; rows without a label do not count."""
    labelled = np.flatnonzero(table.labels >= 0)
    labels = table.labels[labelled]
    shown: list[tuple[int, ...]] = []
    found: dict[str, tuple[int, int]] = {}
    seen: set[tuple[int, ...]] = set()
    for form in ("same", "alike"):
        keys = row_keys(table.keys[form][labelled], ordered=table.directed)
        order, starts, stops = groups(keys)
        if not len(order):
            return Conflicts(0, 0, 0, ())
        own = labels[order]
        several = np.minimum.reduceat(own, starts) != np.maximum.reduceat(own, starts)
        found[form] = int(several.sum()), int((stops - starts)[several].sum())
        for group in _rows(order, starts, stops, several):
            if len(shown) == examples:
                break
            rows = tuple(labelled[group].tolist())
            if rows not in seen:
                seen.add(rows)
                shown.append(rows)
    return Conflicts(*found["same"], found["alike"][0], tuple(shown))


def equal_texts(table: Table) -> Places:
    """Return the rows of pairs whose texts are the same, without white space."""
    if table.width != 2:
        return np.empty(0, np.int64)
    first, second = table.keys["same"].T
    return np.flatnonzero(first == second)


def _rows(order: Places, starts: Places, stops: Places, chosen: npt.NDArray[np.bool_]) -> Iterator[Places]:
    """Rows of the chosen groups, in the order of the first row of each."""
    some = np.flatnonzero(chosen)
    for group in some[np.argsort(order[starts[some]], kind="stable")].tolist():
        yield order[starts[group] : stops[group]]
