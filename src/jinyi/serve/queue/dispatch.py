"""What the worker computes next, and what becomes of the rows it had when it is lost."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.serve.frames import BULK, Array
from jinyi.serve.queue.engine import EngineRecord
from jinyi.serve.queue.fair import FEW, QUICK
from jinyi.serve.queue.limits import Observer, QueueLimits
from jinyi.serve.queue.process import WorkerProcess
from jinyi.serve.queue.rows import WAITING, Request, Row
from jinyi.serve.queue.waiting import WaitingRows

_AHEAD = 2  # slabs on the bulk lane: one is computed, one is there when it is done
_MUCH = 0.25  # of a slab
_SLACK = 10.0  # how many times longer than usual a batch may take before it counts as hung
_QUICK = "quick-{}".format
_SLOWEST = 500.0  # tokens per second that every engine is taken to reach


@dataclass(slots=True, eq=False)
class Slab:
    """Rows the worker has; those computed are taken out of `left`."""

    number: int
    lane: str
    record: EngineRecord
    rows: list[Row]
    tokens: int
    lengths: npt.NDArray[np.int32]
    left: set[int]
    shared: bool
    """Whether others are computed at the same time."""
    compiled: bool = False
    """Whether something was compiled for it: its time says nothing."""


@dataclass(slots=True, eq=False)
class _Lane:
    slabs: deque[Slab] = field(default_factory=deque)
    since: float = 0.0
    """When the worker last got or gave something here."""
    compiling: bool = False


class Dispatcher:
    """The slabs the worker has, and who is told of their outputs.

    Everything here runs on the event loop and takes no time to speak of.

    Args:
        limits: of the queue.
        tell: is told of events.
    """

    def __init__(self, limits: QueueLimits, tell: Observer) -> None:
        self._limits = limits
        self._tell = tell
        self.waiting = WaitingRows(limits, tell)
        self.worker: WorkerProcess | None = None
        self._suspects: deque[Row] = deque()
        self._lanes = {BULK: _Lane(), _QUICK(0): _Lane()}
        self._quick_done = 0.0
        """When the last slab of short requests was done, or the first of them sent."""
        self._slabs: dict[int, Slab] = {}
        self._numbers = 0
        self.running_rows = self.running_tokens = 0
        self._done_tokens = self._done_seconds = 0.0

    @property
    def tokens_per_second(self) -> float:
        """As measured over the last slabs; 0 before."""
        return self._done_tokens / self._done_seconds if self._done_seconds else 0.0

    def dispatch(self) -> None:
        """Give the worker what it has room for."""
        if self.worker is None:
            return
        if self._keep_for_suspects():
            return
        self._send_short()
        bulk = self._lanes[BULK].slabs
        # A second slab is worth it only if there is much: rows that come meanwhile had better go together.
        while len(bulk) < _AHEAD and (taken := self.waiting.next_long(_MUCH if bulk else 0.0)) is not None:
            self._send(BULK, *taken)

    def _send_short(self) -> None:
        """Give each idle quick lane its part of what waits: a core computes one slab; a few tokens alone have all."""
        ready = [record for record in self.waiting.records.values() if record.ready]
        lanes = [_QUICK(at) for at in range(max((record.streams for record in ready), default=1))]
        idle = [name for name in lanes if name not in self._lanes or not self._lanes[name].slabs]
        for name in idle:
            waits = self.waiting.short_tokens
            taken = self.waiting.next_short(min(max(waits // len(lanes), FEW), QUICK))
            if taken is None:
                return
            alone = len(idle) == len(lanes) and name == idle[0] and not self.waiting.short_tokens
            self._send(name, *taken, shared=not alone)

    def _keep_for_suspects(self) -> bool:
        """Send a row the worker may have been lost by, with nothing else beside it.

        Returns:
            whether the worker is kept free for such a row. One whose engine is still being opened keeps nobody.
        """
        if any(slab.rows[0].tries for slab in self._slabs.values()):
            return True
        self._suspects = deque(row for row in self._suspects if row.state == WAITING)
        records = self.waiting.records
        row = next((row for row in self._suspects if records[row.line[0]].ready), None)
        if row is None:
            return False
        if not self._slabs:
            self._suspects.remove(row)
            self.waiting.out(row)
            self._send(_QUICK(0), records[row.line[0]], [row])
        return True

    def _send(self, lane: str, record: EngineRecord, rows: list[Row], *, shared: bool = False) -> None:
        assert self.worker is not None  # noqa: S101 - see dispatch
        self._numbers += 1
        now = time.perf_counter()
        lengths = np.array([row.size for row in rows], np.int32)
        for row in rows:
            for request, _, _ in row.waiters:
                request.started = request.started or now
        tokens = int(lengths.sum())
        slab = Slab(self._numbers, lane, record, rows, tokens, lengths, set(range(len(rows))), shared)
        self.running_rows += len(rows)
        self.running_tokens += tokens
        self._slabs[slab.number] = slab
        if lane != BULK:
            if not any(place.slabs for name, place in self._lanes.items() if name != BULK):
                self._quick_done = now
            record.quick_tokens += tokens
        place = self._lanes.setdefault(lane, _Lane())
        if not place.slabs:
            place.since = time.monotonic()
        place.slabs.append(slab)
        self.worker.send(*_run_frame(slab, self._limits.batch_tokens))

    def received(self, head: dict[str, Any], arrays: list[Array]) -> None:
        """Take outputs or failures of rows from the worker."""
        slab = self._slabs[head["slab"]]
        lane = self._lanes[slab.lane]
        lane.since = time.monotonic()
        lane.compiling = False
        places = arrays[0].tolist()
        slab.left.difference_update(places)
        self.running_rows -= len(places)
        self.running_tokens -= int(slab.lengths[places].sum())
        if head["kind"] == "failed":
            for place in places:
                self.waiting.fail(slab.rows[place], head["error"]["message"])
        else:
            self._deliver(slab, places, tuple(arrays[1:]))
        if not slab.left:
            self._returned(slab, head)
        self.dispatch()

    def _deliver(self, slab: Slab, places: list[int], values: tuple[Array, ...]) -> None:
        groups: dict[tuple[Request, int], tuple[list[int], list[int]]] = {}
        for at, place in enumerate(places):
            row = slab.rows[place]
            for request, part, target in row.waiters:
                group = groups.setdefault((request, part), ([], []))
                group[0].append(target)
                group[1].append(at)
            if self.waiting.cache.on:
                ragged = values[0].ndim == 3 and not row.masks
                own = (
                    (values[0][at : at + 1, : row.size],) if ragged else tuple(v[at : at + 1] for v in values)
                )
                self.waiting.cache.put(row.content, tuple(value.copy() for value in own))
            self.waiting.end(row)
        lengths = slab.lengths[places]
        for (request, part), (targets, sources) in groups.items():
            # Indexed by a list, so copied: a model's `finish` may write into what it gets.
            chosen = tuple(value[sources] for value in values)
            request.take(part, np.array(targets), lengths[sources], chosen)

    def _returned(self, slab: Slab, head: dict[str, Any]) -> None:
        del self._slabs[slab.number]
        self._lanes[slab.lane].slabs.remove(slab)
        seconds, padded = head["seconds"], head["padded"]
        if slab.lane != BULK:
            now = time.perf_counter()
            slab.record.quick_tokens -= slab.tokens
            if slab.shared and not slab.compiled and slab.tokens >= FEW:
                slab.record.measured_quick(slab.tokens, now - self._quick_done)
            self._quick_done = now
        if not slab.compiled:
            slab.record.measured(slab.tokens, seconds)
            # Fading, so that it is the speed of now.
            self._done_tokens = 0.9 * self._done_tokens + slab.tokens
            self._done_seconds = 0.9 * self._done_seconds + seconds
        facts = {"rows": len(slab.rows), "tokens": slab.tokens, "padded": padded, "seconds": seconds}
        self._tell("slab", facts)

    def compiling(self, lane: str) -> None:
        """Note that the worker compiles something first."""
        self._lanes[lane].compiling = True
        for slab in self._lanes[lane].slabs:
            slab.compiled = True

    # Hanging and dying.

    def hung(self) -> str:
        """Return what the worker hangs on; empty if it does not."""
        now = time.monotonic()
        for lane in self._lanes.values():
            if lane.slabs:
                allowed = self._allowed(lane)
                if now - lane.since > allowed:
                    return f"the model did not compute a batch within {allowed:.3g} s"
        return ""

    def excuse(self, seconds: float) -> None:
        """Leave out of account that the server itself stood still for so long."""
        for lane in self._lanes.values():
            lane.since += seconds
        self._quick_done += seconds

    def _allowed(self, lane: _Lane) -> float:
        slab = lane.slabs[0]
        pace = max(slab.record.pace, _SLOWEST)
        tokens = min(slab.tokens, 4 * max(self._limits.batch_tokens, int(slab.lengths.max())))
        return (
            self._limits.hang_s + tokens * _SLACK / pace + (self._limits.compile_s if lane.compiling else 0.0)
        )

    def lost(self, reason: str) -> None:
        """The worker is gone: rows it had are tried alone; one that this happens to again is at fault.

        Args:
            reason: for those whose row it was.
        """
        self.worker = None
        for record in self.waiting.records.values():
            record.ready = False
            record.quick_tokens = 0
        slabs = list(self._slabs.values())
        self._slabs.clear()
        for lane in self._lanes.values():
            lane.slabs.clear()
            lane.compiling = False
        self.running_rows = self.running_tokens = 0
        rows = [slab.rows[place] for slab in slabs for place in sorted(slab.left)]
        self._tell("lost", {"rows": len(rows)})
        for row in rows:
            row.tries += 1
            if not row.waiters:
                self.waiting.end(row)
            elif row.tries > 1:
                self.waiting.fail(row, reason)
            else:
                self.waiting.back(row)
                self._suspects.append(row)


def _run_frame(slab: Slab, batch_tokens: int) -> tuple[dict[str, Any], list[Array]]:
    engine, pad_id, masks, words = slab.rows[0].line
    head = {
        "kind": "run",
        "lane": slab.lane,
        "slab": slab.number,
        "engine": engine,
        "pad": pad_id,
        "budget": slab.record.batch_tokens(batch_tokens),
        "shared": slab.shared,
        "mixed": slab.lane != BULK or any(row.short for row in slab.rows),
    }
    splits = np.array([row.split for row in slab.rows], np.int32)
    ids = np.frombuffer(b"".join([row.ids for row in slab.rows]), np.int32)
    at = np.frombuffer(b"".join([row.masks for row in slab.rows]), np.int32)
    arrays: list[Array] = [slab.lengths, splits, ids, at.reshape(-1, masks) if masks else at]
    if words is not None:
        arrays.append(np.frombuffer(words, np.int64))
    return head, arrays
