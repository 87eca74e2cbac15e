"""Readiness: red when nothing computes, green when it does or when the models are merely busy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jinyi.serve import health as module
from jinyi.serve.health import Health
from jinyi.serve.problems import ComputeFailed, DeadlinePassed, Overloaded

Compute = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """A worker that computes."""


async def never() -> None:
    await asyncio.sleep(60)


def failing(error: Exception) -> Compute:
    async def compute() -> None:
        raise error

    return compute


class Queue:
    """A queue that does what a test says."""

    def __init__(self, compute: Compute) -> None:
        self.compute_one = compute
        self.texts: list[str] = []
        self.deadlines: list[float] = []
        self.worker = "ready"

    async def compute(self, work: str, *, client: object, deadline: float) -> None:
        assert client == module.PROBE
        self.texts.append(work)
        self.deadlines.append(deadline)
        await self.compute_one()

    def snapshot(self) -> Any:
        return SimpleNamespace(worker=self.worker)


def opened(queue: Queue, models: int = 1, timeout_s: float = 0.2) -> Health:
    health = Health(timeout_s)
    model = SimpleNamespace(works=lambda text: [text])
    health.open([model] * models, queue)  # type: ignore[arg-type]
    return health


def ask(queue: Queue, models: int = 1) -> str:
    async def run() -> str:
        return await asyncio.wait_for(opened(queue, models).fault(), 2)

    return asyncio.run(run())


def test_before_models_are_open() -> None:
    assert "starting" in asyncio.run(Health(1.0).fault())


def test_every_model_computes() -> None:
    queue = Queue(at_once)
    assert ask(queue, 3) == ""
    assert len(queue.texts) == 3


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (never, "within 0.2 s"),
        (failing(Overloaded()), "within 0.2 s"),
        (failing(DeadlinePassed()), "within 0.2 s"),
        (failing(ComputeFailed("the model gives NaN")), "the model gives NaN"),
    ],
)
def test_nothing_computes(compute: Compute, words: str) -> None:
    assert words in ask(Queue(compute))


def test_one_of_the_models_fails() -> None:
    queue = Queue(at_once)

    async def second_fails() -> None:
        if len(queue.texts) == 2:
            raise ComputeFailed("broken")

    queue.compute_one = second_fails
    assert "broken" in ask(queue, 3)


@pytest.mark.parametrize("error", [Overloaded(), DeadlinePassed()])
def test_busy_is_not_broken(error: Exception) -> None:
    async def run() -> str:
        async def busy() -> None:
            health.computed()  # for somebody else
            raise error

        health = opened(Queue(busy))
        return await health.fault()

    assert asyncio.run(run()) == ""


def test_a_lost_worker_answers_at_once() -> None:
    async def run() -> tuple[str, str, str]:
        queue = Queue(never)
        health = opened(queue, timeout_s=30)
        asked = asyncio.create_task(health.fault())
        await asyncio.sleep(0.02)
        queue.worker = "starting"
        health.worker_lost()
        lost = await asyncio.wait_for(asked, 1)
        meanwhile = await health.fault()
        queue.worker, queue.compute_one = "ready", at_once
        return lost, meanwhile, await health.fault()

    lost, meanwhile, after = asyncio.run(run())
    assert "started again" in lost
    assert "started again" in meanwhile
    assert after == ""


def test_one_check_serves_all_who_ask() -> None:
    async def run() -> Queue:
        async def slow() -> None:
            await asyncio.sleep(0.05)

        queue = Queue(slow)
        health = opened(queue)
        impatient = asyncio.create_task(health.fault())
        others = [asyncio.create_task(health.fault()) for _ in range(50)]
        await asyncio.sleep(0.01)
        impatient.cancel()
        assert await asyncio.gather(*others) == [""] * 50
        assert await health.fault() == ""
        return queue

    assert len(asyncio.run(run()).texts) == 1


def test_no_two_checks_ask_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of results could answer for a worker that is gone."""
    monkeypatch.setattr(module, "_FRESH_S", 0.0)

    async def run() -> Queue:
        queue = Queue(at_once)
        health = opened(queue)
        for _ in range(5):
            await health.fault()
        return queue

    queue = asyncio.run(run())
    assert len(set(queue.texts)) == 5
