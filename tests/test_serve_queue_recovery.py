"""The queue after a fault: what goes on meanwhile, and what becomes of errors that nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.serve.health import Health
from jinyi.serve.problems import ComputeFailed
from queue_tools import Stage, stage, work_of
from queue_worker import DEADLY, DIES, SLOW, expected
from small_models import write_small


def check(results: np.ndarray, wanted: list[list[int]]) -> None:
    assert np.array_equal(results, np.array([expected(row) for row in wanted], np.float32))


async def second_engine(on: Stage, folder: Path):
    """An engine that takes half a second to open."""
    return await asyncio.to_thread(on.queue.opener, Source.open(folder, "embed"), Head("tokens"))


def test_a_row_that_waits_for_its_engine_holds_up_no_other(folders: dict[str, Path]) -> None:
    """After the worker was lost, rows of an engine that opens slowly are tried alone once it is there."""

    async def play() -> None:
        async with stage(folders["embed"]) as on:
            slow = await second_engine(on, folders["embed"])
            held = asyncio.create_task(on.queue.compute(work_of(slow, [[2, SLOW, 7]])))
            await on.until(lambda: on.queue.snapshot().running_rows)
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            await on.until(lambda: on.queue.snapshot().worker == "starting")
            check(await on.compute([[2, 11, 3]]), [[2, 11, 3]])
            assert not slow.record.ready and not held.done()
            check((await held)[0], [[2, SLOW, 7]])

    asyncio.run(play())


def test_nothing_goes_along_with_a_row_that_is_tried_alone(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            bad = on.soon([[2, SLOW, DIES, 3]])
            await on.until(lambda: on.events.count("lost") == 1)
            await on.until(lambda: on.queue.snapshot().running_rows == 1)
            good = [on.soon([[2, number, 3]], client=number) for number in range(20, 25)]
            with pytest.raises(ComputeFailed, match="exit code 7"):
                await bad
            for number, task in zip(range(20, 25), good, strict=True):
                check(await task, [[2, number, 3]])
            assert [figures["rows"] for name, figures in on.events if name == "lost"] == [1, 1]

    asyncio.run(play())


def test_a_defect_in_looking_after_the_worker_is_told_and_mended(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            floor = on.queue._floor
            lost = floor.lost

            def broken(reason: str) -> None:
                floor.lost = lost
                raise KeyError(reason)

            floor.lost = broken
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            await on.until(lambda: on.queue.defect)
            assert on.queue.defect == "a defect in looking after the worker: KeyError"
            check(await on.compute([[2, 11, 3]]), [[2, 11, 3]])
            assert on.queue.defect == ""

    caplog.set_level(logging.ERROR, "jinyi.serve")
    asyncio.run(play())
    told = [record for record in caplog.records if "looking after" in record.getMessage()]
    assert len(told) == 1 and told[0].exc_info is not None


def test_a_defect_in_the_watch_is_told_and_mended(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            floor = on.queue._floor
            hung = floor.hung

            def broken() -> str:
                floor.hung = hung
                raise ZeroDivisionError

            floor.hung = broken
            await on.until(lambda: on.queue.defect)
            check(await on.compute([[2, 11, 3]]), [[2, 11, 3]])
            assert on.queue.defect == ""
            on.queue._keeper._floor.hung = lambda: "it is said to hang"
            pid = on.queue.worker_pid
            await on.until(lambda: on.queue.worker_pid not in (pid, None))  # the watch is there again
            floor.hung = hung
            check(await on.compute([[2, 12, 3]]), [[2, 12, 3]])

    asyncio.run(play())


def test_a_worker_that_dies_at_once_is_started_ever_more_slowly(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            on.queue._keeper._command = (sys.executable, "-S", "-c", "raise SystemExit(3)")
            begun, before = time.monotonic(), on.queue.snapshot().restarts
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            with pytest.raises(ComputeFailed, match="exit code 3"):
                await asyncio.wait_for(on.compute([[2, 11, 3]]), 30)
            assert on.queue.snapshot().worker == "down"
            assert on.queue.defect == "no model can be opened any more"
            while time.monotonic() - begun < 4:
                await asyncio.sleep(0.1)
            # At once, and after 0, 0.1, 0.5, 2 and 5 s.
            assert 3 <= on.queue.snapshot().restarts - before <= 6
            with pytest.raises(ComputeFailed, match="exit code 3"):
                await on.compute([[2, 12, 3]])

    asyncio.run(play())


def test_a_model_that_was_given_up_is_opened_again_after_ever_longer_pauses(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Red meanwhile, while the other models compute; green once it opens."""
    folder = write_small(tmp_path / "model")
    caplog.set_level(logging.INFO, "jinyi.serve")

    async def play() -> None:
        async with stage(folder, retry_s=(0.2, 0.4)) as on:
            source = Source.open(folders["pair"], "pair")
            other = await asyncio.to_thread(on.queue.opener, source, Head("classes"))
            health = Health(5.0)
            model = SimpleNamespace(works=lambda text: [on.work([[2, 100 + int(text[2:]), 3]])])
            health.open([model], on.queue)  # type: ignore[arg-type, list-item]
            assert await health.fault() == ""

            (folder / DEADLY).touch()
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            with pytest.raises(ComputeFailed, match="exit code 9"):
                await on.compute([[2, 11, 3]])
            assert on.queue.snapshot().worker in ("down", "starting") and on.queue.defect == ""
            for retries in (1, 2, 3):
                await on.until(lambda: on.engine.record.given_up > retries)  # noqa: B023 - awaited here
                assert on.queue.snapshot().worker in ("down", "starting")
                assert "exit code 9" in on.queue.snapshot().faults[str(folder)]
                check((await on.queue.compute(work_of(other, [[2, 11, 3]])))[0], [[2, 11, 3]])
                with pytest.raises(ComputeFailed, match="exit code 9"):
                    await on.compute([[2, 11, 3]])
            # The first time it was tried three times, then once each.
            assert on.queue.snapshot().restarts >= 1 + 3 + 2
            while not (fault := await health.fault()):
                await asyncio.sleep(0.02)
            assert "exit code 9" in fault or "started again" in fault

            (folder / DEADLY).unlink()
            await on.until(lambda: not on.queue.snapshot().faults)
            assert on.queue.snapshot().worker == "ready"
            check(await on.compute([[2, 12, 3]]), [[2, 12, 3]])
            while await health.fault():
                await asyncio.sleep(0.02)
            assert on.engine.record.given_up == 0

    asyncio.run(asyncio.wait_for(play(), 60))
    told = [record.getMessage() for record in caplog.records]
    pauses = [text.rpartition("tried again in ")[2] for text in told if "tried again in" in text]
    assert pauses[:3] == ["0.2 s", "0.4 s", "0.4 s"]
    assert any(text == f"{folder}: opened again" for text in told)


def test_a_retry_under_a_defect_is_not_forgotten(folders: dict[str, Path], tmp_path: Path) -> None:
    """A worker that is lost by a defect while a model is tried again: the next one tries it."""
    folder = write_small(tmp_path / "model")

    async def play() -> None:
        async with stage(folder, retry_s=(0.1,)) as on:
            (folder / DEADLY).touch()
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            await on.until(lambda: on.engine.record.given_up)
            assert on.queue.defect == "no model can be opened any more"
            keeper, floor = on.queue._keeper, on.queue._floor
            lost = floor.lost

            def broken(reason: str) -> None:
                floor.lost = lost
                (folder / DEADLY).unlink()
                raise KeyError(reason)

            floor.lost = broken
            await on.until(lambda: on.engine.record.ready)
            assert keeper.defect == "" and on.engine.record.fault == ""
            check(await on.compute([[2, 12, 3]]), [[2, 12, 3]])

    asyncio.run(asyncio.wait_for(play(), 60))
