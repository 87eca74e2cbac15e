"""Which rows each optimiser step sees: a function of the seed and the step alone.

Nothing is remembered between steps, so a run goes on in the middle of an epoch as if it had never stopped, and every
process works out the same batch by itself. Plans of the last few epochs are kept, because steps ask for them in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.train.recipe import Batch
from jinyi.train.task import Share

IntArray = npt.NDArray[np.int64]
Drawn = tuple[IntArray, IntArray]
"""Numbers of sources [n] and of rows inside them [n]."""

_ROWS, _ORDER, _TURNS = range(3)  # what a random stream is for


class Sampler:
    """Batches of rows from several sources.

    An epoch shows every row once, where all weights are 1 and `mix` is "proportional". Otherwise a source gives its
    rows in turn, each once before any comes again, as often as mix and weight say; an epoch is then as many rows
    (together) or batches (apart) as there are in all sources, times the weights where `mix` is "proportional".

    Batches of an epoch have nearly equal numbers of rows, or of tokens, and no short one is left over at the end:
    100 rows in batches of 64 are two of 50.

    Args:
        lengths: tokens of each row, one array for each source.
        weights: how much more often rows of a source are drawn than by `mix` alone; None for 1.
        batch: rows or tokens of a step; whether rows of nearly equal length go together.
        mix: "proportional", "temperature" or "round_robin", as in `recipe.Data`.
        temperature: for `mix="temperature"`.
        seed: of everything random; 0 or more.
        together: rows of all sources share a batch (True), or each batch is of one source (False).
        bucket: with `batch.bucket`, tokens by which rows of a batch may differ; 1 for rows of one length. More than 1
            keeps epochs from repeating each other's batches.

    Raises:
        InputError: a source without rows, or a weight that is not above 0.
    """

    def __init__(
        self,
        lengths: Sequence[npt.NDArray[Any]],
        *,
        batch: Batch,
        weights: Sequence[float] | None = None,
        mix: Literal["proportional", "temperature", "round_robin"] = "proportional",
        temperature: float = 1.0,
        seed: int = 0,
        together: bool = True,
        bucket: int = 4,
    ) -> None:
        counts = [len(rows) for rows in lengths]
        factors = [1.0] * len(counts) if weights is None else list(weights)
        if not counts or 0 in counts:
            raise InputError(
                found="no rows", expected="at least one row in each training file", fix="Check the files."
            )
        if min(factors) <= 0:
            raise InputError(
                found=f"a weight of {min(factors):g}",
                expected="weights above 0",
                fix="Leave out the file instead.",
                where="data.train.weight",
            )
        self._batch, self._mix, self._temperature, self._seed = batch, mix, temperature, seed
        self._factors = np.array(factors)
        self._bucket = bucket
        self._lengths = np.concatenate([np.asarray(rows, np.int64) for rows in lengths])
        self._counts = np.array(counts)
        self._offsets = np.concatenate(([0], np.cumsum(self._counts)))
        sources = np.arange(len(counts))
        self._together = together
        self._groups = [sources] if together else [sources[k : k + 1] for k in sources]
        if together:
            self._quota = self._shares(self._counts)
            means = [rows.mean() for rows in lengths]
            self._batches = [self._steps(int(self._quota.sum()), float(self._quota @ np.array(means)))]
        else:
            self._quota = self._counts  # each source's epoch is all its rows
            self._batches = [self._steps(len(rows), float(np.sum(rows, dtype=np.int64))) for rows in lengths]
        self._turns = np.array([1]) if together else self._shares(np.array(self._batches))
        self.epoch_steps = self._batches[0] if together else int(self._turns.sum())
        self._plans: dict[tuple[int, int], list[IntArray]] = {}
        self._order: tuple[int, IntArray] = (-1, sources)

    def rows(self, step: int) -> Drawn:
        """Return sources and rows of optimiser step `step`, counted from 0."""
        group, number = self._place(step)
        epoch, batch = divmod(number, self._batches[group])
        chosen = self._plan(group, epoch)[batch]
        sources = np.searchsorted(self._offsets, chosen, side="right") - 1
        return sources, chosen - self._offsets[sources]

    def parts(self, step: int, share: Share, accumulate: int | None = None) -> list[Drawn]:
        """Return this process's slices of a step: the batch is cut into world * accumulate slices.

        Args:
            step: optimiser step, from 0.
            share: this process among all.
            accumulate: slices of a process; None takes the batch's.

        Raises:
            InputError: the batch has fewer rows than slices.
        """
        sources, rows = self.rows(step)
        return [(sources[piece], rows[piece]) for piece in self.slices(len(rows), share, accumulate)]

    def slices(self, rows: int, share: Share, accumulate: int | None = None) -> list[IntArray]:
        """Return which places of a batch of so many rows are in each slice of this process; as `parts`."""
        each = self._batch.accumulate if accumulate is None else accumulate
        pieces = share.world * each
        if rows < pieces:
            raise InputError(
                found=f"a batch of {rows} rows",
                expected=f"at least {pieces}: {share.world} processes with {each} parts each",
                fix="Raise batch.rows, lower batch.accumulate, or leave out files with so few rows.",
                where="batch",
            )
        return np.array_split(np.arange(rows), pieces)[share.rank * each : (share.rank + 1) * each]

    def check(self, share: Share) -> list[int]:
        """Refuse batches with fewer rows than there are parts, before anything is trained.

        Makes the plans of the first epoch: about a second for each few million rows.

        Returns:
            The fewest rows that a part has, for each source; one number where rows of all share a batch.

        Raises:
            InputError: as `parts`.
        """
        fewest = [min(map(len, self._plan(group, 0))) for group in range(len(self._groups))]
        for rows in fewest:
            self.slices(rows, share)
        return [rows // (share.world * self._batch.accumulate) for rows in fewest]

    def drawn(self) -> npt.NDArray[np.float64]:
        """Return how often a row of each source is seen in an epoch, on average; [sources]."""
        if self._together:
            share: npt.NDArray[np.float64] = self._quota / self._counts
            return share
        turns: npt.NDArray[np.float64] = self._turns / np.array(self._batches)
        return turns

    def _steps(self, rows: int, tokens: float) -> int:
        if self._batch.rows is not None:
            return -(-rows // self._batch.rows)
        assert self._batch.tokens is not None  # the recipe has exactly one of them
        return min(rows, max(1, round(tokens / self._batch.tokens)))

    def _shares(self, sizes: IntArray) -> IntArray:
        """Return how many of the rows or batches of an epoch each source gives; at least one."""
        if self._mix == "proportional":
            return np.asarray(np.maximum(1, np.rint(sizes * self._factors).astype(np.int64)))
        chance = self._factors.copy()
        if self._mix == "temperature":
            relative = self._counts / self._counts.max()
            chance *= relative ** (1.0 / self._temperature)
        wanted = sizes.sum() * chance / chance.sum()
        shares = np.maximum(1, np.floor(wanted).astype(np.int64))
        left = int(sizes.sum() - shares.sum())
        if left > 0:  # to those that lost most by rounding down
            shares[np.argsort(shares - wanted, kind="stable")[:left]] += 1
        return np.asarray(shares)

    def _place(self, step: int) -> tuple[int, int]:
        """Return the group of a step, and how many batches of it came before."""
        if len(self._groups) == 1:
            return 0, step
        epoch, place = divmod(step, self.epoch_steps)
        if self._order[0] != epoch:
            turns = np.repeat(np.arange(len(self._turns)), self._turns)
            if self._mix == "round_robin":  # evenly spread: 0 1 2 0 1 2 where all have as many turns
                each = [(np.arange(count) + 0.5) / count for count in self._turns]
                turns = turns[np.lexsort((turns, np.concatenate(each)))]
            else:
                turns = self._random(_TURNS, 0, epoch).permutation(turns)
            self._order = epoch, turns
        turns = self._order[1]
        group = int(turns[place])
        before = int(np.count_nonzero(turns[:place] == group))
        return group, epoch * int(self._turns[group]) + before

    def _plan(self, group: int, epoch: int) -> list[IntArray]:
        """Return the batches of one epoch of a group, as numbers over all sources."""
        if (group, epoch) not in self._plans:
            for old in [key for key in self._plans if key[0] == group and key[1] != epoch - 1]:
                del self._plans[old]
            self._plans[group, epoch] = self._make(group, epoch)
        return self._plans[group, epoch]

    def _make(self, group: int, epoch: int) -> list[IntArray]:
        chosen = np.concatenate([self._turn(int(source), epoch) for source in self._groups[group]])
        random = self._random(_ORDER, group, epoch)
        lengths = self._lengths[chosen]
        count = self._batches[group]
        if self._batch.bucket:
            order = np.lexsort((random.random(len(chosen)), lengths // self._bucket))
        else:
            order = random.permutation(len(chosen))
        chosen = chosen[order]
        if self._batch.rows is not None:
            batches = np.array_split(chosen, count)
        else:
            batches = np.split(chosen, _equal_cuts(lengths[order], count))
        return [batches[place] for place in random.permutation(count)]

    def _turn(self, source: int, epoch: int) -> IntArray:
        """Return the rows that a source gives to an epoch: the next ones of its endless row of shuffles."""
        count, quota = int(self._counts[source]), int(self._quota[source])
        first, last = epoch * quota, (epoch + 1) * quota
        shuffles = range(first // count, -(-last // count))
        rows = np.concatenate([self._random(_ROWS, source, s).permutation(count) for s in shuffles])
        start = first - shuffles[0] * count
        taken: IntArray = rows[start : start + quota] + self._offsets[source]
        return taken

    def _random(self, stream: int, source: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, source, number])


def _equal_cuts(lengths: IntArray, count: int) -> IntArray:
    """Return where to cut rows into `count` pieces of about as many tokens each, none of them empty."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count, side="left") + 1
    places = np.arange(1, count)
    # A row longer than a batch would leave empty pieces behind it: each cut lies after the one before ...
    cuts = np.maximum.accumulate(cuts - places) + places
    cuts = np.minimum(cuts, len(lengths) - count + places)  # ... and leaves a row for each one to come
    return np.asarray(cuts)
