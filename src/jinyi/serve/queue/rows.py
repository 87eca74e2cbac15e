"""Rows and the requests that wait for them."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.work import Outputs, Pass, Work

WAITING, RUNNING, GONE = "waiting", "running", "gone"
LineKey = tuple[int, int, int, bytes | None]
"""Engine, padding id, masks in a row, words: rows that agree in these may be computed together."""


@dataclass(slots=True, eq=False)
class Row:
    """One row of tokens, computed once for all who wait for it.

    Args:
        key: equal for equal rows of the same engine.
        line: where it queues.
        ids: int32, as bytes.
        size: number of tokens.
        split: tokens of segment 0.
        masks: int32, as bytes.
        short: whether the request that brought it is short.
        state: WAITING, RUNNING or GONE (computed, failed, or wanted by nobody).
        tries: how often the worker was lost while it had this row.
        waiters: requests, with the pass and the place there that its output goes to.
    """

    key: Hashable
    line: LineKey
    ids: bytes
    size: int
    split: int
    masks: bytes
    short: bool = True
    state: str = WAITING
    tries: int = 0
    waiters: list[tuple[Request, int, int]] = field(default_factory=list)

    @property
    def content(self) -> Hashable:
        """What its output depends on, whoever it is computed for."""
        return (self.line, self.split, self.ids, self.masks)


class Request:
    """A work in the queue.

    Args:
        work: passes and how they are finished.
        client: whose it is.
        done: set when all rows are there, or to what went wrong.
    """

    def __init__(self, work: Work, client: Hashable, done: asyncio.Future[None]) -> None:
        self.work = work
        self.client = client
        self.done = done
        self.outputs = [
            Outputs(len(part.encoded.ids), ragged=part.encoded.masks is None) for part in work.passes
        ]
        self.left = sum(len(part.encoded.ids) for part in work.passes)
        self.rows: list[Row] = []
        """Those that were not in the cache."""
        self.tokens = 0
        """In all rows."""
        self.cached = 0
        self.long_on: set[int] = set()
        """Engines that count it as a long request."""
        self.entered = time.perf_counter()
        self.started = 0.0
        """When its first row went to the worker; 0 before."""

    def take(
        self,
        part: int,
        places: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int32],
        values: tuple[npt.NDArray[np.float32], ...],
    ) -> None:
        """Store outputs of rows.

        Args:
            part: which pass.
            places: int64 [n], rows of the pass.
            lengths: int32 [n], their tokens.
            values: of the engine, [n, ...] each; kept or copied.
        """
        self.outputs[part].put(places, lengths, values if len(values) == 2 else values[0])
        self.left -= len(places)
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)

    def results(self) -> Any:
        """Return what the rows' outputs make."""
        return self.work.finish([outputs.rows() for outputs in self.outputs])


class Share:
    """The rows of one request in one line, longest first."""

    def __init__(self, request: Request, rows: list[Row]) -> None:
        self.request = request
        self.rows = deque(sorted(rows, key=lambda row: -row.size))
        self.turn = 0
        """Tokens it may still take before the client's next request has its turn."""

    def next(self) -> Row | None:
        """Take the next row that still waits; it is the taker's to have computed."""
        while self.rows:
            row = self.rows.popleft()
            if row.state == WAITING:
                row.state = RUNNING
                return row
        return None


def rows_of(part: Pass, engine: int) -> list[Row]:
    """Return the rows of a pass in order; equal ones have equal keys.

    Args:
        part: the pass.
        engine: number of its engine.
    """
    encoded = part.encoded
    masks = [b""] * len(encoded.ids) if encoded.masks is None else list(map(_bytes, encoded.masks))
    each = len(encoded.masks[0]) if encoded.masks else 0
    words = None if part.words is None else np.asarray(part.words, np.int64).tobytes()
    line = (engine, part.pad_id, each, words)
    rows = zip(map(_bytes, encoded.ids), map(len, encoded.ids), encoded.splits, masks, repeat(line))
    return [Row((line, split, ids, at), line, ids, size, split, at) for ids, size, split, at, line in rows]


def _bytes(numbers: list[int]) -> bytes:
    return array("i", numbers).tobytes()
