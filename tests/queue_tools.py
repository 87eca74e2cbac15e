"""A queue with a worker of stubs, and works for it, for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.models.common import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Head
from jinyi.serve.queue import QueuedEngine, QueueLimits, RowQueue
from jinyi.tokens import Encoded, TruncationReport

WORKER = Path(__file__).parent / "queue_worker.py"


class Events(list):
    """What a queue told: (name, figures)."""

    def __call__(self, name: str, figures: dict[str, float]) -> None:
        self.append((name, figures))

    def total(self, name: str, figure: str) -> float:
        return sum(figures[figure] for told, figures in self if told == name)

    def count(self, name: str) -> int:
        return sum(told == name for told, _ in self)

    def slabs_before(self, rows: int, begin: int) -> int:
        """How many slabs the worker gave back from a moment on before the first one of so many rows.

        Args:
            rows: of that slab.
            begin: events told at that moment.
        """
        sizes = [figures["rows"] for told, figures in self[begin:] if told == "slab"]
        return sizes.index(rows)


class Stage:
    """A running queue with one engine of the stub worker."""

    def __init__(self, queue: RowQueue, engine: QueuedEngine, events: Events) -> None:
        self.queue, self.engine, self.events = queue, engine, events

    def work(self, rows: list[list[int]]) -> Work:
        return work_of(self.engine, rows)

    async def compute(self, rows: list[list[int]], **options: Any) -> np.ndarray:
        return (await self.queue.compute(self.work(rows), **options))[0]

    def soon(self, rows: list[list[int]], **options: Any) -> asyncio.Task:
        return asyncio.create_task(self.compute(rows, **options))

    async def until(self, condition: Any, seconds: float = 20.0) -> None:
        """Wait until something is so."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < end, "it never came about"
            await asyncio.sleep(0.005)


def work_of(engine: QueuedEngine, rows: list[list[int]]) -> Work:
    nothing = np.empty(0, np.int64)
    report = TruncationReport(len(rows), nothing, nothing)
    encoded = Encoded(rows, [len(row) for row in rows], None, np.arange(len(rows)), report)
    return Work((Pass(engine, encoded, 0),), lambda outputs: outputs[0], report)


@asynccontextmanager
async def stage(folder: Path, speed: float = 0.0, **limits: Any) -> AsyncIterator[Stage]:
    """A queue whose worker computes `speed` tokens a second."""
    events = Events()
    command = (sys.executable, str(WORKER), str(speed))
    queue = RowQueue(QueueLimits(**limits), on_event=events, command=command)
    await queue.start()
    try:
        source = Source.open(folder, "embed")
        engine = await asyncio.to_thread(queue.opener, source, Head("vector", pooling="mean"))
        yield Stage(queue, engine, events)
    finally:
        await queue.close(drain_s=0)
