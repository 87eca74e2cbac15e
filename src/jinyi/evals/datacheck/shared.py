"""What files have in common: rows, and single sentences of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from jinyi.evals.datacheck.forms import Keys, row_keys
from jinyi.evals.datacheck.reading import Table
from jinyi.evals.datacheck.within import groups


@dataclass(slots=True)
class Overlap:
    """What two files share, compared in one form.

    Args:
        distinct: rows or sentences, each counted once.
        first, second: rows (sentences: places) of each file that are in the other.
        differing: of `distinct`, those with another label there.
    """

    distinct: int = 0
    first: int = 0
    second: int = 0
    differing: int = 0


@dataclass(slots=True)
class SharedPair:
    """What two files share.

    Args:
        first, second: places of the files among those checked.
        same: compared without white space, pairs in either order.
        alike: also without width, case and punctuation.
        examples: rows of the first and the second file that agree.
    """

    first: int
    second: int
    same: Overlap = field(default_factory=Overlap)
    alike: Overlap = field(default_factory=Overlap)
    examples: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SharedSets:
    """Distinct rows that are in each of these sets and in no other of those checked.

    Args:
        sets: names.
        same, same_differing: distinct rows without white space, pairs in either order; those of them whose labels
            differ.
        alike, alike_differing: also without width, case and punctuation.
    """

    sets: tuple[str, ...]
    same: int
    same_differing: int
    alike: int
    alike_differing: int


@dataclass(frozen=True, eq=False)
class _Stack:
    """Rows or sentences of all files: hash, file, row; and of rows the label, and the hash with the order of texts."""

    keys: Keys
    owners: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    directions: Keys
    labels: npt.NDArray[np.int64] | None = None

    def mixed(self) -> Iterator[dict[int, list[int]]]:
        """Yield what is in several files: places in the stack by file."""
        order, starts, stops = groups(self.keys)
        owners = self.owners[order]
        several = np.minimum.reduceat(owners, starts) != np.maximum.reduceat(owners, starts)
        for start, stop in zip(starts[several].tolist(), stops[several].tolist(), strict=True):
            members: dict[int, list[int]] = {}
            for owner, place in zip(owners[start:stop].tolist(), order[start:stop].tolist(), strict=True):
                members.setdefault(owner, []).append(place)
            yield members

    def differ(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """Whether a row of the first file has another label than one of the second."""
        if self.labels is None:
            return False
        there: dict[int, set[int]] = {}
        for place in second:
            if self.labels[place] >= 0:
                there.setdefault(int(self.directions[place]), set()).add(int(self.labels[place]))
        return any(
            there.get(int(self.directions[place]), set()) - {int(self.labels[place])}
            for place in first
            if self.labels[place] >= 0
        )


def shared_rows(tables: Sequence[Table], examples: int) -> tuple[list[SharedPair], list[SharedSets]]:
    """Return what each two files share, and what each combination of sets does."""
    pairs: dict[tuple[int, int], SharedPair] = {}
    sets: dict[str, Counter[tuple[str, ...]]] = {}
    for form in ("same", "alike"):
        stack = _stack_rows(tables, form)
        together: Counter[tuple[str, ...]] = Counter()
        differing: Counter[tuple[str, ...]] = Counter()
        for members in stack.mixed():
            other = _count(pairs, stack, members, form, examples)
            names = tuple(sorted({tables[owner].file.set for owner in members}))
            if len(names) > 1:
                together[names] += 1
                differing[names] += other
        sets[form], sets[f"{form} differing"] = together, differing
    combined = [
        SharedSets(
            names, *(sets[kind][names] for kind in ("same", "same differing", "alike", "alike differing"))
        )
        for names in sorted(sets["same"].keys() | sets["alike"].keys())
    ]
    return sorted(pairs.values(), key=lambda pair: (pair.first, pair.second)), combined


def shared_sentences(tables: Sequence[Table], examples: int) -> list[SharedPair]:
    """Return which sentences each two files share where at least one of them holds pairs."""
    pairs: dict[tuple[int, int], SharedPair] = {}
    for form in ("same", "alike"):
        stack = _stack_sentences(tables, form)
        for members in stack.mixed():
            _count(pairs, stack, members, form, examples)
    return sorted(
        (pair for pair in pairs.values() if max(tables[pair.first].width, tables[pair.second].width) > 1),
        key=lambda pair: (pair.first, pair.second),
    )


def _count(
    pairs: dict[tuple[int, int], SharedPair],
    stack: _Stack,
    members: dict[int, list[int]],
    form: str,
    examples: int,
) -> bool:
    """Add one shared row to the pairs of files that have it; says whether any two of them label it differently."""
    any_differs = False
    for first, second in combinations(sorted(members), 2):
        pair = pairs.setdefault((first, second), SharedPair(first, second))
        overlap = pair.same if form == "same" else pair.alike
        differs = stack.differ(members[first], members[second])
        overlap.distinct += 1
        overlap.first += len(members[first])
        overlap.second += len(members[second])
        overlap.differing += differs
        any_differs |= differs
        if len(pair.examples) < examples:
            example = int(stack.rows[members[first][0]]), int(stack.rows[members[second][0]])
            if example not in pair.examples:
                pair.examples.append(example)
    return any_differs


def _stack_rows(tables: Sequence[Table], form: str) -> _Stack:
    counts = [len(table.lines) for table in tables]
    keys, directions = [], []
    for table in tables:
        unordered = row_keys(table.keys[form], ordered=table.width > 2)
        keys.append(unordered)
        directions.append(row_keys(table.keys[form], ordered=True) if table.directed else unordered)
    # A directed file beside one that is not is compared as the other one is: in either order.
    if len({table.directed for table in tables if table.width == 2}) > 1:
        directions = keys
    return _Stack(
        np.concatenate(keys),
        np.repeat(np.arange(len(tables)), counts),
        np.concatenate([np.arange(count) for count in counts]),
        np.concatenate(directions),
        np.concatenate([table.labels for table in tables]),
    )


def _stack_sentences(tables: Sequence[Table], form: str) -> _Stack:
    keys = [table.keys[form].reshape(-1) for table in tables]
    counts = [len(part) for part in keys]
    rows = [np.repeat(np.arange(len(table.lines)), table.width) for table in tables]
    joined = np.concatenate(keys)
    return _Stack(
        joined,
        np.repeat(np.arange(len(tables)), counts),
        np.concatenate(rows),
        joined,
    )
