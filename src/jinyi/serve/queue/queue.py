"""The queue: works of many requests in, results out; the worker kept alive in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Hashable, Sequence
from typing import Any

from jinyi.models.source import Source
from jinyi.models.work import Work
from jinyi.runtime import Head
from jinyi.serve.problems import ComputeFailed, DeadlinePassed, NotReady, Overloaded
from jinyi.serve.queue.dispatch import Dispatcher
from jinyi.serve.queue.engine import QueuedEngine, opening
from jinyi.serve.queue.keeper import WorkerKeeper
from jinyi.serve.queue.limits import Observer, QueueLimits, Snapshot, Timings
from jinyi.serve.queue.process import COMMAND
from jinyi.serve.queue.rows import Request, Row, rows_of

_INLINE = 256  # rows whose packing, and tokens whose finishing, is not worth a thread


class RowQueue:
    """Computes works in a worker process: rows of many requests together, in fair order, within bounds.

    It lives on one event loop; `opener` and the engines' `run` are for other threads.

    Args:
        limits: bounds.
        on_event: is told of events, on the loop; may be set later.
        command: starts the worker.
    """

    def __init__(
        self,
        limits: QueueLimits | None = None,
        *,
        on_event: Observer = lambda name, figures: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.limits = limits or QueueLimits()
        self.on_event = on_event
        self._floor = Dispatcher(self.limits, self._tell)
        self._keeper = WorkerKeeper(command, self._floor, self.limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests = 0
        self._closing = False

    async def start(self) -> None:
        """Start the worker, and again whenever it dies or hangs."""
        self._loop = asyncio.get_running_loop()
        self._keeper.start()

    async def close(self, *, drain_s: float) -> None:
        """Finish what is there, then refuse new work and end the worker.

        Args:
            drain_s: most seconds for what is there; what is left then fails.
        """
        end = time.monotonic() + drain_s
        while self._requests and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self._closing = True
        for request in self._floor.waiting.requests():
            request.fail(NotReady("the server is stopping"))
        await self._keeper.close()

    def opener(self, source: Source, head: Head) -> QueuedEngine:
        """Have the worker open an engine; give this to the models' `load(opener=)`. Blocks: call it in a thread.

        Args:
            source: an opened model.
            head: what the engine computes.

        Raises:
            JinyiError: as `jinyi.runtime.open_engine`.
            ComputeFailed: the worker ends or hangs whenever it opens this model.
            NotReady: the queue is closed.
            RuntimeError: called on the event loop, or before `start`.
        """
        frame = opening(source, head)
        record = self._wait_for(self._keeper.open(str(source.folder.path), frame))
        return QueuedEngine(self, record, source.tokenizer.pad_id)

    async def compute(
        self, work: Work, *, client: Hashable = None, deadline: float | None = None, bounded: bool = True
    ) -> tuple[Any, Timings]:
        """Return what a work comes to, and what it took. Cancelled, its rows are dropped.

        Args:
            work: of a model whose engines came from `opener`.
            client: whose turn it takes; None: each work is a client of its own.
            deadline: on the clock of `time.monotonic`.
            bounded: False computes it whatever waits already.

        Raises:
            Overloaded: there is no room.
            DeadlinePassed: it was not done by then.
            ComputeFailed: a row of it cannot be computed.
            NotReady: the queue is closed.
        """
        return await self._compute(work, client, deadline, bounded=bounded)

    def compute_here(self, work: Work) -> Any:
        """Return what a work comes to, whatever waits already, blocking a thread that is not the loop's.

        Raises:
            RuntimeError: called on the event loop, or before `start`.
        """
        return self._wait_for(self._compute(work, None, None, bounded=False))[0]

    def check_room(self) -> None:
        """Raise Overloaded if even a short request finds no room, as can be told before its body is read."""
        self._check_room(0)

    def snapshot(self) -> Snapshot:
        """Return how the queue stands."""
        floor = self._floor
        records = floor.waiting.records.values()
        beyond = self._beyond_help()
        # One that is opened for the first time keeps nobody from the others.
        again = (record for record in records if record.opened.done())
        opening = not beyond and floor.worker is None
        opening = opening or any(not (record.ready or record.fault) for record in again)
        faults = {record.path: record.fault for record in records if record.fault}
        return Snapshot(
            requests=self._requests,
            waiting_rows=floor.waiting.rows,
            waiting_tokens=floor.waiting.tokens,
            running_rows=floor.running_rows,
            running_tokens=floor.running_tokens,
            worker="starting" if opening else "down" if faults else "ready",
            restarts=max(0, self._keeper.lives - 1),
            tokens_per_second=floor.tokens_per_second,
            wait_s=floor.waiting.wait_s(0),
            cache_rows=len(floor.waiting.cache),
            cache_bytes=floor.waiting.cache.bytes,
            faults=faults,
        )

    @property
    def defect(self) -> str:
        """Why a new process is called for; empty as long as the worker is looked after and any model computes.

        It may pass: the worker is looked after again, or a model that was given up opens after all.
        """
        return self._keeper.defect or ("no model can be opened any more" if self._beyond_help() else "")

    @property
    def worker_pid(self) -> int | None:
        """Number of the worker process; None while there is none."""
        return self._floor.worker.pid if self._floor.worker is not None else None

    def _beyond_help(self) -> bool:
        records = self._floor.waiting.records.values()
        return bool(records) and all(record.fault for record in records)

    def _tell(self, name: str, figures: dict[str, float]) -> None:
        self.on_event(name, figures)

    async def _compute(
        self, work: Work, client: Hashable, deadline: float | None, *, bounded: bool
    ) -> tuple[Any, Timings]:
        loop = asyncio.get_running_loop()
        request = Request(work, client, loop.create_future())
        if request.left > _INLINE:
            parts = await asyncio.to_thread(self._rows, work)
        else:
            parts = self._rows(work)
        if self._closing:
            raise NotReady("the server is stopping")
        request.tokens = sum(row.size for rows in parts for row in rows)
        if bounded:
            self._check_room(request.tokens)
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            self._tell("late", {})
            raise DeadlinePassed
        timer = None if left is None else loop.call_later(left, self._pass_deadline, request)
        count = request.left
        self._requests += 1
        try:
            if count:
                self._floor.waiting.add(request, parts)
                self._floor.dispatch()
                await request.done
            timings = _timings(request, count)
            if request.tokens > _INLINE:
                return await asyncio.to_thread(request.results), timings
            return request.results(), timings
        except asyncio.CancelledError:
            self._tell("left", {})
            raise
        finally:
            self._requests -= 1
            if timer is not None:
                timer.cancel()
            self._floor.waiting.leave(request)

    def _rows(self, work: Work) -> list[list[Row]]:
        parts = []
        for part in work.passes:
            engine = part.engine
            if not isinstance(engine, QueuedEngine):
                raise TypeError(
                    f"an engine of this process, {type(engine).__name__}: load models with opener="
                )
            if engine.record.fault:
                raise ComputeFailed(engine.record.fault)
            parts.append(rows_of(part, engine.record.number))
        return parts

    def _check_room(self, tokens: int) -> None:
        wait = self._floor.waiting.wait_s(tokens)
        limits = self.limits
        if wait > limits.max_wait_s or self._floor.waiting.tokens >= limits.max_waiting_tokens:
            self._tell("refused", {})
            raise Overloaded(max(wait - limits.max_wait_s, 0.0))

    def _pass_deadline(self, request: Request) -> None:
        if not request.done.done():
            self._tell("late", {})
            request.fail(DeadlinePassed())

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the queue's loop and wait for it in this thread."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is None or here is self._loop:
            coroutine.close()
            what = "the queue has not started" if self._loop is None else "this blocks the queue's own loop"
            raise RuntimeError(f"{what}: start it, and load and call models in a thread")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _timings(request: Request, rows: int) -> Timings:
    now = time.perf_counter()
    started = request.started or now
    return Timings(started - request.entered, now - started, rows, request.tokens, request.cached)
