"""Which lane of the worker short requests are given to, and how long one that comes would wait."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from jinyi.models.work import Work
from jinyi.serve.frames import BULK
from jinyi.serve.lanes import Slab
from jinyi.serve.queue.dispatch import Dispatcher
from jinyi.serve.queue.engine import EngineRecord
from jinyi.serve.queue.fair import FEW, QUICK
from jinyi.serve.queue.limits import QueueLimits
from jinyi.serve.queue.rows import Request, Row
from jinyi.tokens import TruncationReport


class FakeWorker:
    """Takes note of the slabs it is sent, and answers them when told to."""

    def __init__(self, floor: Dispatcher) -> None:
        self.floor = floor
        self.sent: list[dict[str, Any]] = []
        self.tokens: list[int] = []

    def send(self, head: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.sent.append(head)
        self.tokens.append(int(arrays[0].sum()))

    @property
    def lanes(self) -> list[tuple[str, bool]]:
        return [(head["lane"], head["shared"]) for head in self.sent]

    def answer(self, number: int, rows: int) -> None:
        head = {"kind": "rows", "slab": self.sent[number]["slab"], "seconds": 0.01, "padded": 0}
        self.floor.received(head, [np.arange(rows), np.zeros((rows, 1), np.float32)])


class Floor:
    def __init__(self, streams: int) -> None:
        self.dispatcher = Dispatcher(QueueLimits(), lambda name, figures: None)
        self.record = EngineRecord(0, "folder", ({}, []), asyncio.get_running_loop().create_future())
        self.record.ready, self.record.info = True, {"device": "cpu", "streams": streams}
        self.dispatcher.waiting.records[0] = self.record
        self.worker = FakeWorker(self.dispatcher)
        self.dispatcher.worker = self.worker  # type: ignore[assignment]
        self.requests = 0

    def request(self, *sizes: int, dispatched: bool = True) -> None:
        done = asyncio.get_running_loop().create_future()
        request = Request(
            Work((), lambda parts: [], TruncationReport(0, None, None)), f"c{self.requests}", done
        )
        self.requests += 1
        line = (0, 0, 0, None)
        rows = [
            Row((self.requests, at), line, np.arange(size, dtype=np.int32).tobytes(), size, size, b"")
            for at, size in enumerate(sizes)
        ]
        request.tokens, request.left = sum(sizes), len(sizes)
        request.take = lambda *values: None  # type: ignore[method-assign]
        self.dispatcher.waiting.add(request, [rows])
        if dispatched:
            self.dispatcher.dispatch()


def test_one_alone_has_all_cores_and_the_next_gets_a_lane_of_its_own() -> None:
    async def play() -> None:
        at = Floor(2)
        at.request(10)
        at.request(12)
        at.request(14)
        assert at.worker.lanes == [("quick-0", False), ("quick-1", True)]
        at.worker.answer(1, 1)
        assert at.worker.lanes[2:] == [("quick-1", True)]
        at.worker.answer(0, 1)
        at.worker.answer(2, 1)
        assert at.dispatcher.waiting.tokens == at.dispatcher.running_tokens == at.record.quick_tokens == 0
        at.request(10)
        assert at.worker.lanes[3:] == [("quick-0", False)]

    asyncio.run(play())


def test_many_that_wait_are_divided() -> None:
    async def play() -> None:
        at = Floor(2)
        for _ in range(40):
            at.request(12, dispatched=False)
        at.dispatcher.dispatch()
        assert at.worker.lanes == [("quick-0", True), ("quick-1", True)]
        assert FEW <= at.worker.tokens[1] <= at.worker.tokens[0] <= 252

    asyncio.run(play())


def test_rows_of_short_requests_have_few_shapes_and_those_of_a_long_one_little_padding() -> None:
    async def play() -> None:
        at = Floor(2)
        sizes = list(np.random.default_rng(0).integers(6, 30, 2000))
        at.request(*map(int, sizes))
        at.request(10)
        assert [(head["lane"], head["mixed"]) for head in at.worker.sent] == [
            (BULK, False),
            (BULK, False),
            ("quick-0", True),
        ]
        found = {}
        for mixed in (False, True):
            lengths = np.sort(np.array(sizes, np.int32))
            arrays = [lengths, lengths, np.zeros(lengths.sum(), np.int32), np.empty(0, np.int32)]
            slab = Slab({**at.worker.sent[0], "mixed": mixed}, arrays)
            shapes = [batch.ids.shape for batch in slab.batches.values()]
            widths = {width for _, width in shapes}
            padded = sum(rows * width for rows, width in shapes) / int(lengths.sum())
            found[mixed] = len(shapes), len(widths), padded
        assert found[False][2] < 1.05 and found[True][2] < 1.15
        assert found[True][1] < found[False][1] / 2
        assert found[True][0] <= 1.25 * found[False][0]  # once hundreds of batches of one row

    asyncio.run(play())


def test_an_engine_that_computes_one_batch_at_a_time_has_one_lane() -> None:
    async def play() -> None:
        at = Floor(1)
        at.request(10)
        at.request(12)
        at.request(14)
        assert at.worker.lanes == [("quick-0", False)]
        at.worker.answer(0, 1)
        assert at.worker.lanes[1:] == [("quick-0", False)]
        assert at.worker.tokens == [10, 26]

    asyncio.run(play())


def test_a_slab_of_short_requests_has_a_bound() -> None:
    async def play() -> None:
        at = Floor(1)
        for _ in range(300):
            at.request(12, dispatched=False)
        at.dispatcher.dispatch()
        assert at.worker.lanes[0] == ("quick-0", True)
        assert at.worker.tokens[0] <= QUICK + 12
        assert at.worker.lanes[1][0] == BULK  # the rest goes with the long ones

    asyncio.run(play())


def test_the_wait_counts_what_is_computed_at_the_speed_of_full_slabs() -> None:
    async def play() -> None:
        at = Floor(2)
        at.record.rate = 1000.0
        assert at.dispatcher.waiting.wait_s(10) == 0
        at.request(10)
        at.request(20)
        at.request(30)  # waits
        assert at.dispatcher.waiting.wait_s(10) == pytest.approx(0.06)
        at.worker.answer(1, 1)  # a small slab says nothing of the speed
        assert at.dispatcher.waiting.wait_s(10) == pytest.approx(0.04)
        assert at.record.quick_rate == 0

    asyncio.run(play())


def test_what_the_worker_lost_is_not_waited_for() -> None:
    async def play() -> None:
        at = Floor(2)
        at.record.rate = 1000.0
        at.request(10)
        at.dispatcher.lost("it died")
        assert at.record.quick_tokens == 0
        assert at.dispatcher.waiting.wait_s(10) == pytest.approx(0.01)  # the row waits again

    asyncio.run(play())


def test_a_pause_of_the_machine_does_not_refuse_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("jinyi.serve.queue.engine.time.monotonic", lambda: clock)

    async def play() -> None:
        nonlocal clock
        record = Floor(2).record
        for _ in range(100):
            record.measured_quick(200, 0.02)
        assert record.quick_rate == pytest.approx(10_000)
        record.measured_quick(200, 60.0)
        assert record.quick_rate < 100
        clock += 3
        assert record.quick_rate == 0  # as if never measured
        record.measured_quick(200, 0.02)
        assert record.quick_rate == pytest.approx(10_000)

    asyncio.run(play())
