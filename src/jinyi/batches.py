"""Rows of ids to rectangular batches: little padding, few shapes, equal items once, order restored by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

TOKEN_BUDGET = 2048
CHUNK = 8192
_BATCH_COST = 128  # tokens computed in the time that one more batch, often of an unseen shape, takes
_FEW_TOKENS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some rows of the input as one rectangle of ids; B rows, L columns.

    Args:
        rows: int64 [B], which input row each batch row is.
        ids: int32 [B, L], token ids, filled up with the padding id.
        lengths: int32 [B], number of real tokens in each row.
        segments: int32 [B, L] of 0 and 1, or None where all are 0.
        positions: int32 [B, m], columns of the masks to be scored, or None.
    """

    rows: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    segments: npt.NDArray[np.int32] | None = None
    positions: npt.NDArray[np.int32] | None = None


class EncodedRows(Protocol):
    """The part of `jinyi.tokens.Encoded` that batches are made of."""

    @property
    def ids(self) -> Sequence[Sequence[int]]:
        """Token ids of each row, [CLS] and [SEP] included."""

    @property
    def splits(self) -> Sequence[int]:
        """Number of leading tokens of each row that belong to segment 0."""

    @property
    def masks(self) -> Sequence[Sequence[int]] | None:
        """Columns of each row to be scored by an MLM head; equally many in every row."""


def make_batches(
    encoded: EncodedRows,
    *,
    pad_id: int,
    token_budget: int = TOKEN_BUDGET,
    most_rows: int | None = None,
    coarse: bool | None = None,
) -> Iterator[Batch]:
    """Cut rows into batches of similar length, longest first.

    Rows are taken in order of length and a batch is closed when its budget is full, or when the rows to come
    are so much shorter that their padding would cost more than another batch does.

    Args:
        encoded: token ids, segment borders and mask positions of each row.
        pad_id: id that fills up the shorter rows of a batch.
        token_budget: most tokens in a batch, padding included; a longer row makes a batch of its own.
        most_rows: most rows in a batch; None leaves it to the tokens.
        coarse: pad to fewer widths (see `padded_length`); None does so for few tokens. Many small calls want it.

    Yields:
        batches that together hold every row once; `Batch.rows` says which.
    """
    count = len(encoded.ids)
    if count == 1:
        yield _one_row(encoded, pad_id, coarse)
        return
    lengths = np.fromiter(map(len, encoded.ids), np.int32, count)
    order = np.argsort(-lengths, kind="stable")
    lengths = lengths[order]
    splits = np.asarray(encoded.splits, np.int32)[order]
    masks = None if encoded.masks is None else np.asarray(encoded.masks, np.int32)[order]
    if coarse is None:
        coarse = int(lengths.sum(dtype=np.int64)) <= _FEW_TOKENS
    different, place = np.unique(lengths, return_inverse=True)
    widths = np.array([padded_length(length, coarse=coarse) for length in different.tolist()], np.int64)[
        place
    ]
    start = 0
    while start < count:
        width = int(widths[start])
        full = min(start + max(1, min(token_budget // width, most_rows or count)), count)
        # Padding that a cut before row i would save, for the rows from i on.
        saved = (width - widths[start:full]) * np.arange(full - start, 0, -1)
        worth = 1 + np.flatnonzero(saved[1:] > _BATCH_COST)  # the longest row always goes in
        stop = start + int(worth[0]) if len(worth) else full
        rows, sizes = order[start:stop], lengths[start:stop]
        columns = np.arange(width, dtype=np.int32)
        real = columns < sizes[:, None]
        ids = np.full(real.shape, pad_id, np.int32)
        ids[real] = np.fromiter(
            chain.from_iterable(encoded.ids[row] for row in rows), np.int32, int(sizes.sum(dtype=np.int64))
        )
        segments = None
        if np.any(splits[start:stop] < sizes):
            segments = ((columns >= splits[start:stop, None]) & real).astype(np.int32)
        positions = None if masks is None else masks[start:stop]
        yield Batch(rows.astype(np.int64), ids, sizes, segments, positions)
        start = stop


def _one_row(encoded: EncodedRows, pad_id: int, coarse: bool | None) -> Batch:
    """The batch of a single row, which waits for it: there is nothing to sort or to cut."""
    row, split = encoded.ids[0], encoded.splits[0]
    length = len(row)
    width = padded_length(length, coarse=length <= _FEW_TOKENS if coarse is None else coarse)
    ids = np.full((1, width), pad_id, np.int32)
    ids[0, :length] = row
    segments = None
    if split < length:
        segments = np.zeros((1, width), np.int32)
        segments[0, split:length] = 1
    positions = None if encoded.masks is None else np.asarray(encoded.masks, np.int32)
    return Batch(np.zeros(1, np.int64), ids, np.array([length], np.int32), segments, positions)


def padded_length(length: int, *, coarse: bool = False) -> int:
    """Return the row width that a longest row of `length` tokens gets.

    Every width has kernels of its own, so there are few of them; `coarse` leaves so few that those of short
    rows can be made ready beforehand.
    """
    if coarse:
        step = 4 if length <= 32 else 8 if length <= 64 else 16 if length <= 128 else 32
    else:
        step = 1 if length <= 32 else 2 if length <= 64 else 4 if length <= 128 else 16
    return -(-length // step) * step


def padded_rows(rows: int) -> int:
    """Return the number of rows that a small batch is filled up to: few shapes, four to each doubling.

    More rows than real ones cost their arithmetic; a shape never seen costs milliseconds.
    """
    step = 1 << max(0, (rows - 1).bit_length() - 3)
    return -(-rows // step) * step


def deduplicate(items: Iterable[Key]) -> tuple[list[Key], npt.NDArray[np.int64]]:
    """Return the distinct items in order of first appearance, and for each input item the place of its own.

    `[unique[place] for place in inverse]` is the input again.
    """
    places: dict[Key, int] = {}
    inverse = [places.setdefault(item, len(places)) for item in items]
    return list(places), np.asarray(inverse, np.int64)


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    """Yield lists of up to `size` items, drawn one list at a time: input of any length in flat memory."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


@contextmanager
def progress(
    label: str, total: int | None = None, *, show: bool | None = None, after: float = 1.0
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error for work that lasts.

    Args:
        label: what is counted.
        total: how many items there are, if known.
        show: True or False decides; None shows the bar on a terminal only.
        after: seconds of work before the bar appears; short work shows none.

    Yields:
        a function to call with the number of items just done.
    """
    if show is False:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if show is None and not console.is_terminal:
        yield lambda count: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(label, total=total)
    begin = time.monotonic()

    def advance(count: int) -> None:
        if not bar.live.is_started and time.monotonic() - begin >= after:
            bar.start()
        bar.update(task, advance=count)

    try:
        yield advance
    finally:
        bar.stop()
