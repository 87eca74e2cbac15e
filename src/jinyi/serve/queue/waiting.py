"""Rows that wait: by engine and line, equal ones once, counted; and those who wait for them."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from jinyi.serve.problems import ComputeFailed
from jinyi.serve.queue.cache import OutputCache
from jinyi.serve.queue.engine import EngineRecord
from jinyi.serve.queue.fair import QUICK, SHORT, Line
from jinyi.serve.queue.limits import Observer, QueueLimits
from jinyi.serve.queue.rows import GONE, RUNNING, WAITING, LineKey, Request, Row


class WaitingRows:
    """All rows that somebody wants and that are not computed yet.

    Args:
        limits: of the queue.
        tell: is told of events.

    Attributes:
        rows: number of rows that wait, equal ones once.
        tokens: tokens in these.
    """

    def __init__(self, limits: QueueLimits, tell: Observer) -> None:
        self._batch_tokens = limits.batch_tokens
        self._tell = tell
        self.records: dict[int, EngineRecord] = {}
        self.cache = OutputCache(limits.cache_bytes)
        self.rows = self.tokens = 0
        self._lines: dict[int, dict[LineKey, Line]] = {}
        """By engine; engines and lines in the order of their turns."""
        self._wanted: dict[Hashable, Row] = {}
        """Waiting and running rows by their keys."""

    def wait_s(self, tokens: int) -> float:
        """Return how long a request of so many tokens would wait, as estimated.

        That is until it is computed, at the speed of full slabs: small ones, as they are where little waits, take more
        time in all, and to refuse more on account of them would keep them small. A short request waits for other short
        ones and for a turn of each long one, a long one for everything.
        """
        wait = 0.0
        for record in self.records.values():
            if record.rate:
                ahead = record.long_tokens
                if tokens <= SHORT:
                    ahead = min(ahead, record.long_requests * SHORT)
                short = record.short_tokens + record.quick_tokens
                wait += short / (record.quick_rate or record.rate) + ahead / record.rate
        return wait

    def add(self, request: Request, parts: list[list[Row]]) -> None:
        """Queue the rows of a request's passes; those known already are shared, those kept are there at once."""
        short = request.tokens <= SHORT
        shared = 0
        for part, rows in enumerate(parts):
            queued: dict[LineKey, list[Row]] = {}
            for place, row in enumerate(rows):
                kept = self.cache.get(row.content)
                if kept is not None:
                    request.cached += 1
                    # Copied: a model's `finish` may write into what it gets.
                    values = tuple(value.copy() for value in kept)
                    request.take(part, np.array([place]), np.array([row.size], np.int32), values)
                    continue
                known = self._wanted.get(row.key)
                if short and known is not None and known.state == RUNNING and not known.short:
                    # It comes with the slab of a long request; one of its own is there sooner.
                    row.key = ("short", row.key)
                known = self._wanted.setdefault(row.key, row)
                shared += known is not row
                if known is row:
                    row.short = short
                    self._count(row, 1)
                elif short and not known.short and known.state == WAITING:
                    self._count(known, -1)
                    known.short = True
                    self._count(known, 1)
                known.waiters.append((request, part, place))
                request.rows.append(known)
                if known.state == WAITING:
                    queued.setdefault(row.line, []).append(known)
            for key, waiting in queued.items():
                lines = self._lines.setdefault(key[0], {})
                lines.setdefault(key, Line()).add(request, waiting)
        if not short:
            request.long_on = {row.line[0] for row in request.rows}
            for number in request.long_on:
                self.records[number].long_requests += 1
        count = sum(map(len, parts))
        self._tell("request", {"rows": count, "cached": request.cached, "shared": shared})

    def leave(self, request: Request) -> None:
        """Forget a request: rows that no other wants are not computed."""
        for number in request.long_on:
            self.records[number].long_requests -= 1
        request.long_on = set()
        if request.left:
            for row in request.rows:
                if row.state != GONE:
                    row.waiters = [waiter for waiter in row.waiters if waiter[0] is not request]
                    if not row.waiters and row.state == WAITING:
                        self.end(row)
        request.rows = []

    def back(self, row: Row) -> None:
        """A row that the worker had waits again, in no line."""
        row.state = WAITING
        self._count(row, 1)

    def out(self, row: Row) -> None:
        """A row that waits goes to the worker."""
        row.state = RUNNING
        self._count(row, -1)

    def _count(self, row: Row, sign: int) -> None:
        self.rows += sign
        self.tokens += sign * row.size
        record = self.records[row.line[0]]
        if row.short:
            record.short_tokens += sign * row.size
        else:
            record.long_tokens += sign * row.size

    def end(self, row: Row) -> None:
        """Nobody waits for a row any more, or it is there."""
        if row.state == WAITING:
            self._count(row, -1)
        row.state = GONE
        row.waiters = []
        if self._wanted.get(row.key) is row:
            del self._wanted[row.key]

    def fail(self, row: Row, reason: str) -> None:
        """Tell all who want a row that it cannot be computed."""
        waiters = row.waiters
        self.end(row)
        self._tell("failed", {"rows": 1})
        for request, _, _ in waiters:
            request.fail(ComputeFailed(reason))

    def fail_engine(self, record: EngineRecord, reason: str) -> None:
        """Fail all rows of an engine that cannot be opened."""
        for row in [row for row in self._wanted.values() if row.line[0] == record.number]:
            if row.state == WAITING:
                self.fail(row, reason)
        self._lines.pop(record.number, None)

    def requests(self) -> list[Request]:
        """Return all requests that are not done."""
        waiting = {id(waiter[0]): waiter[0] for row in self._wanted.values() for waiter in row.waiters}
        return list(waiting.values())

    def next_long(self, least: float) -> tuple[EngineRecord, list[Row]] | None:
        """Take a slab of long requests, of the engine whose turn it is; None if there are none.

        Where more short ones wait than `next_short` takes at a time, they are in it too.

        Args:
            least: how much must wait in all, as a fraction of a slab.
        """
        for number in list(self._lines):
            record = self.records[number]
            many = record.short_tokens > QUICK
            waiting = record.long_tokens + (record.short_tokens if many else 0)
            most = record.slab_tokens(self._batch_tokens)
            if not record.ready or not waiting or self.tokens < most * least:
                continue
            if rows := self._take(record, most, "all" if many else "long"):
                return record, rows
        return None

    @property
    def short_tokens(self) -> int:
        """Tokens of short requests that wait."""
        return sum(record.short_tokens for record in self.records.values())

    def next_short(self, most: int) -> tuple[EngineRecord, list[Row]] | None:
        """Take what waits of short requests, of the engine whose turn it is; None if there are none.

        Args:
            most: tokens, unless the first row alone has more.
        """
        for number in list(self._lines):
            record = self.records[number]
            if not record.short_tokens + record.long_tokens:
                del self._lines[number]  # what is left are shares of requests that are done
            elif record.ready and record.short_tokens and (rows := self._take(record, most, "short")):
                return record, rows
        return None

    def _take(self, record: EngineRecord, budget: int, kind: str) -> list[Row]:
        """Take rows of one line of an engine; its lines in turn, and engines in turn."""
        lines = self._lines.pop(record.number)
        for key in list(lines):
            line = lines.pop(key)
            rows = line.take(budget, kind)
            if line:
                lines[key] = line
            if rows:
                break
        else:
            rows = []
        if lines:
            self._lines[record.number] = lines
        for row in rows:
            self.out(row)
        return rows
