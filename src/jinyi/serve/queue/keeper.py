"""Keeps a worker running: starts it, has it open the engines, ends it when it hangs, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from jinyi.serve.frames import Array, Frame
from jinyi.serve.problems import ComputeFailed, NotReady
from jinyi.serve.queue.dispatch import Dispatcher
from jinyi.serve.queue.engine import EngineRecord, error_of
from jinyi.serve.queue.limits import QueueLimits
from jinyi.serve.queue.process import WorkerProcess

_TICK_S = 0.1
_LATE_S = 0.5  # a tick that comes this much too late: the server itself stood still
_GIVE_UP = 3  # times that the worker ended while it was opening an engine
_PAUSES_S = (0.0, 0.1, 0.5, 2.0, 5.0)
_DEFECT_PAUSE_S = 0.5
_LEAVE_S = 2.0
_log = logging.getLogger("jinyi.serve")


class WorkerKeeper:
    """The worker's lives, one after the other.

    Args:
        command: starts the process.
        floor: gives it work.
        limits: of the queue.

    Attributes:
        lives: how often it was started.
        defect: what nobody foresaw and kept the worker from being looked after, until it computes again; else empty.
    """

    def __init__(self, command: Sequence[str], floor: Dispatcher, limits: QueueLimits) -> None:
        self._command = tuple(command)
        self._floor = floor
        self._open_s = limits.open_s
        self._retry_s = limits.retry_s
        self._since = 0.0
        """When the worker began to open what it opens now."""
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: asyncio.Future[int | None] | None = None
        self._numbers = itertools.count()
        self._kill_reason = ""
        self._closing = False
        self.lives = 0
        self.defect = ""

    def start(self) -> None:
        """Start the worker, and again whenever it dies or hangs."""
        self._tasks = [asyncio.create_task(self._lasting(task)) for task in (self._supervise, self._watch)]

    async def close(self) -> None:
        """End the worker for good."""
        self._closing = True
        for record in self._floor.waiting.records.values():
            if not record.opened.done():  # a thread waits for it
                record.opened.set_exception(NotReady("the server is stopping"))
        worker = self._floor.worker
        if worker is not None and self._ended is not None:
            worker.close_input()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ended), _LEAVE_S)
            worker.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def open(self, path: str, frame: tuple[dict[str, Any], list[Array]]) -> EngineRecord:
        """Have the worker open an engine, now and in its later lives.

        Args:
            path: of the model's folder.
            frame: from `jinyi.serve.queue.engine.opening`.

        Raises:
            JinyiError: it cannot be opened.
            ComputeFailed: the worker ends or hangs whenever it opens it.
            NotReady: the queue is closed.
        """
        if self._closing:
            raise NotReady("the server is stopping")
        floor = self._floor
        if self._opening() is None:
            self._since = time.monotonic()
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        record = EngineRecord(next(self._numbers), path, frame, opened)
        floor.waiting.records[record.number] = record
        if floor.worker is not None:
            floor.worker.send(*record.frame)
        await opened
        return record

    def _opening(self) -> EngineRecord | None:
        """Return the engine that the worker opens now: it does so in their order."""
        records = self._floor.waiting.records.values()
        return next((record for record in records if record.wanted and not record.ready), None)

    def _received(self, frame: Frame) -> None:
        kind = frame.head["kind"]
        if kind == "opened":
            self._opened(self._floor.waiting.records[frame.head["engine"]], frame.head)
        elif kind == "compiling":
            self._floor.compiling(frame.head["lane"])
        else:
            self._floor.received(frame.head, frame.arrays)

    def _opened(self, record: EngineRecord, head: dict[str, Any]) -> None:
        self._since = time.monotonic()
        if "error" in head:
            self._give_up(record, error_of(head["error"], record.path))
            return
        if record.retrying:
            _log.info("%s: opened again", record.path)
        record.ready, record.tries = True, 0
        record.retrying, record.fault, record.given_up = False, "", 0
        record.info, record.precision = head["info"], head["precision"]
        if self._opening() is None:
            self.defect = ""
        if not record.opened.done():
            record.opened.set_result(None)
        self._floor.dispatch()

    def _give_up(self, record: EngineRecord, error: Exception) -> None:
        """The worker cannot open an engine, for the first time or again."""
        if not record.opened.done():
            del self._floor.waiting.records[record.number]
            record.opened.set_exception(error)
            return
        record.fault = str(error)
        pause = self._retry_s[min(record.given_up, len(self._retry_s) - 1)]
        record.retrying, record.given_up = False, record.given_up + 1
        record.retry_at = time.monotonic() + pause
        _log.error("%s: %s; tried again in %.3g s", record.path, record.fault, pause)
        self._floor.waiting.fail_engine(record, record.fault)

    def _retry(self, now: float) -> None:
        """Have a model that was given up opened once more, if it is time; its requests fail until that has worked.

        One at a time, and while nothing else is opened: it may cost the worker its life, which others need.
        """
        worker = self._floor.worker
        if worker is None or self._opening() is not None:
            return
        records = self._floor.waiting.records.values()
        record = next((record for record in records if record.fault and now >= record.retry_at), None)
        if record is not None:
            record.retrying = True
            self._since = now
            worker.send(*record.frame)

    async def _lasting(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task that has no end, and again where it ends with an error: without it nobody sees the worker."""
        while not self._closing:
            try:
                await task()
                return
            except Exception as error:  # any kind: told, and the worker begins anew
                self.defect = f"a defect in looking after the worker: {type(error).__name__}"
                _log.error("%s", self.defect, exc_info=True)
                if self._floor.worker is not None:
                    self._floor.worker.kill()
            await asyncio.sleep(_DEFECT_PAUSE_S)

    async def _supervise(self) -> None:
        """Keep a worker running."""
        floor = self._floor
        fruitless = 0
        if floor.worker is not None and self._ended is not None:  # killed, as this ended with an error
            await asyncio.shield(self._ended)
            floor.lost(self.defect)
        while True:
            ended = self._ended = asyncio.get_running_loop().create_future()
            self._kill_reason = ""
            self._since = time.monotonic()
            self.lives += 1
            try:
                floor.worker = await WorkerProcess.start(self._command, self._received, ended.set_result)
            except OSError as error:
                ending = f"it cannot be started: {error.strerror}"
            else:
                for record in floor.waiting.records.values():
                    if record.wanted:
                        floor.worker.send(*record.frame)
                ending = _ending(await asyncio.shield(ended))
            if self._closing:
                return
            reason = self._kill_reason or f"the worker process ended ({ending}) while computing it"
            _log.error("worker lost: %s", self._kill_reason or ending)
            opened = any(record.ready for record in floor.waiting.records.values())
            fruitless = 0 if opened else fruitless + 1
            at = self._opening()
            floor.lost(reason)
            if at is not None:
                at.tries += 1
                if at.tries >= _GIVE_UP or at.retrying:
                    ending = f"the worker process ended ({ending}) while opening it"
                    self._give_up(at, ComputeFailed(self._kill_reason or ending))
            await asyncio.sleep(_PAUSES_S[min(fruitless, len(_PAUSES_S) - 1)])

    async def _watch(self) -> None:
        """End a worker that hangs."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if now - before > _TICK_S + _LATE_S:
                self._floor.excuse(now - before)
                self._since += now - before
            before = now
            self._retry(now)
            reason = self._floor.hung()
            if not reason and self._opening() is not None and now - self._since > self._open_s:
                reason = f"the model was not opened within {self._open_s:.3g} s"
            if reason and not self._kill_reason and self._floor.worker is not None:
                self._kill_reason = reason
                self._floor.worker.kill()


def _ending(code: int | None) -> str:
    if code is None:
        return "no exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
