"""The queue when things go wrong: rows that raise, hang, kill or give no number, and a worker that dies by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jinyi import SentenceEncoder
from jinyi.errors import FolderError, JinyiError
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.serve.problems import ComputeFailed, NotReady
from jinyi.serve.queue import QueueLimits, RowQueue
from queue_tools import Stage, stage
from queue_worker import DIES, HANGS, NO_NUMBER, RAISES, SLOW, expected
from small_models import random_weights, write_small


def rows(count: int, start: int = 0) -> list[list[int]]:
    return [[2, 10 + number, 3] for number in range(start, start + count)]


def check(results: np.ndarray, wanted: list[list[int]]) -> None:
    assert np.array_equal(results, np.array([expected(row) for row in wanted], np.float32))


async def beside_poison(on: Stage, poison: int, message: str) -> float:
    """Compute a poisonous row among many others of several requests; return how long it took."""
    begin = time.monotonic()
    await on.compute([[2, SLOW, 3]])  # warm
    first = on.soon([[2, SLOW, 4]])  # the others wait behind it and go together
    good = [on.soon(rows(20, 100 * number), client=number) for number in range(5)]
    bad = on.soon([*rows(3, 700), [2, poison, 3], *rows(3, 800)], client="bad")
    await first
    for number, task in enumerate(good):
        check(await task, rows(20, 100 * number))
    with pytest.raises(ComputeFailed, match=message) as caught:
        await bad
    assert caught.value.status == 424
    check(await on.compute(rows(4)), rows(4))
    assert on.events.total("failed", "rows") == 1
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("poison", "message"), [(RAISES, "RuntimeError: this row is poison"), (NO_NUMBER, "NaN")]
)
def test_a_row_that_raises_or_gives_no_number_fails_its_request_alone(
    folders: dict[str, Path], poison: int, message: str
) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            await beside_poison(on, poison, message)
            assert on.queue.snapshot().restarts == 0

    asyncio.run(play())


def test_a_row_that_kills_the_worker_fails_its_request_alone(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            await beside_poison(on, DIES, "exit code 7")
            assert on.queue.snapshot().restarts == 2  # with the others, and alone

    asyncio.run(play())


def test_a_row_that_hangs_fails_its_request_alone(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], hang_s=0.5, compile_s=0) as on:
            took = await beside_poison(on, HANGS, "did not compute a batch within")
            assert on.queue.snapshot().restarts == 2
            assert took < 15

    asyncio.run(play())


def test_a_killed_worker_loses_nothing(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            for round_ in range(3):
                pid = on.queue.worker_pid
                tasks = [on.soon([[2, SLOW, number]]) for number in range(100, 103)]
                tasks += [on.soon(rows(30, 50 * number)) for number in range(4)]
                await on.until(lambda: on.queue.snapshot().running_rows)
                os.kill(pid, signal.SIGKILL)
                for number, task in zip(range(100, 103), tasks[:3], strict=True):
                    check(await task, [[2, SLOW, number]])
                for number, task in enumerate(tasks[3:]):
                    check(await task, rows(30, 50 * number))
                assert on.queue.worker_pid != pid
                assert on.queue.snapshot().restarts == round_ + 1
            assert on.events.count("lost") == 3
            assert on.events.count("failed") == 0

    asyncio.run(play())


def test_a_worker_killed_while_idle_comes_back(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            os.kill(on.queue.worker_pid, signal.SIGKILL)
            await on.until(lambda: on.queue.snapshot().worker == "starting")
            check(await on.compute(rows(2)), rows(2))
            assert on.queue.snapshot().worker == "ready"

    asyncio.run(play())


def test_an_engine_that_is_opened_later_keeps_nobody_waiting(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            source = Source.open(folders["embed"], "embed")
            later = asyncio.create_task(asyncio.to_thread(on.queue.opener, source, Head("tokens")))
            await asyncio.sleep(0.1)
            assert on.queue.snapshot().worker == "ready"
            check(await on.compute(rows(2)), rows(2))
            assert not later.done()
            await later

    asyncio.run(play())


def test_signals_for_the_server_leave_the_worker_alone(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            await on.compute(rows(1))
            for name in (signal.SIGTERM, signal.SIGINT):
                os.kill(on.queue.worker_pid, name)
            task = on.soon([[2, SLOW, 3]])
            check(await task, [[2, SLOW, 3]])
            assert on.queue.snapshot().restarts == 0

    asyncio.run(play())


def test_rows_in_flight_are_finished_when_the_queue_is_closed(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            tasks = [on.soon([[2, SLOW, number]]) for number in range(4)]
            await on.until(lambda: on.queue.snapshot().requests == 4)
            pid = on.queue.worker_pid
            await on.queue.close(drain_s=20)
            for number, task in enumerate(tasks):
                check(await task, [[2, SLOW, number]])
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            with pytest.raises(NotReady):
                await on.compute(rows(1))

    asyncio.run(play())


def test_what_does_not_finish_in_time_fails_when_the_queue_is_closed(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], hang_s=60) as on:
            task = on.soon([[2, HANGS, 3]])
            await on.until(lambda: on.queue.snapshot().running_rows)
            begin = time.monotonic()
            await on.queue.close(drain_s=0.2)
            assert time.monotonic() - begin < 5
            with pytest.raises(NotReady):
                await task

    asyncio.run(play())


def test_a_worker_that_never_starts_is_told(folders: dict[str, Path]) -> None:
    async def play(*command: str) -> None:
        queue = RowQueue(command=command)
        await queue.start()
        try:
            with pytest.raises(ComputeFailed, match="while opening it"):
                await asyncio.to_thread(lambda: SentenceEncoder.load(folders["embed"], opener=queue.opener))
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play(sys.executable, "-c", "raise SystemExit(3)"))
    asyncio.run(play("/nowhere/at/all"))


def test_an_engine_that_is_never_open_is_given_up(folders: dict[str, Path]) -> None:
    async def play() -> None:
        sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
        queue = RowQueue(QueueLimits(open_s=0.3), command=sleeper)
        await queue.start()
        try:
            with pytest.raises(ComputeFailed, match="not opened within 0.3 s"):
                await asyncio.to_thread(lambda: SentenceEncoder.load(folders["embed"], opener=queue.opener))
            assert queue.snapshot().restarts == 2
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_closing_ends_the_wait_for_an_engine(folders: dict[str, Path]) -> None:
    def load() -> None:
        with pytest.raises(NotReady):
            SentenceEncoder.load(folders["embed"], opener=queue.opener)

    async def play() -> None:
        await queue.start()
        opening = asyncio.create_task(asyncio.to_thread(load))
        await asyncio.sleep(0.3)
        await queue.close(drain_s=0)
        await asyncio.wait_for(opening, 5)
        await asyncio.wait_for(asyncio.to_thread(load), 5)  # as a thread does that opens several models

    queue = RowQueue(command=(sys.executable, "-c", "import sys; sys.stdin.read()"))
    asyncio.run(play())


def test_an_engine_that_cannot_be_opened_raises_what_it_raises_here(folders: dict[str, Path]) -> None:
    async def play() -> None:
        queue = RowQueue()
        await queue.start()
        try:
            with pytest.raises(JinyiError, match="bfloat16|int8") as caught:
                await asyncio.to_thread(
                    lambda: SentenceEncoder.load(folders["embed"], precision="int8", opener=queue.opener)
                )
            with pytest.raises(type(caught.value)) as here:
                SentenceEncoder.load(folders["embed"], precision="int8")
            assert str(caught.value) == str(here.value)
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_a_folder_that_became_another_model_is_refused_after_a_restart(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "model")

    async def play() -> None:
        queue = RowQueue()
        await queue.start()
        try:
            encoder = await asyncio.to_thread(lambda: SentenceEncoder.load(folder, opener=queue.opener))
            await queue.compute(encoder.prepare(["怎么改密码"]))
            write_small(folder, weights=random_weights(seed=5), overwrite=True)
            os.kill(queue.worker_pid, signal.SIGKILL)
            with pytest.raises(ComputeFailed, match="Start the server again"):
                await queue.compute(encoder.prepare(["今天天气"]))
            with pytest.raises(ComputeFailed, match="Start the server again"):
                await queue.compute(encoder.prepare(["心情不好"]))
            assert queue.snapshot().worker == "down"
            assert list(queue.snapshot().faults) == [str(folder)]
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_the_worker_ends_with_the_server(folders: dict[str, Path]) -> None:
    script = """
import asyncio, sys
from jinyi import SentenceEncoder
from jinyi.serve.queue import RowQueue
async def play():
    queue = RowQueue()
    await queue.start()
    await asyncio.to_thread(lambda: SentenceEncoder.load(sys.argv[1], opener=queue.opener))
    print(queue.worker_pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(play())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folders["embed"])], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        os.kill(pid, 0)
        server.kill()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").is_file():
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        if state == "Z":  # ended, and nobody has asked after it
            break
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.02)


def test_calls_that_would_block_the_loop_are_refused(folders: dict[str, Path]) -> None:
    queue = RowQueue(QueueLimits())
    with pytest.raises(RuntimeError, match="has not started"):
        SentenceEncoder.load(folders["embed"], opener=queue.opener)

    async def play() -> None:
        await queue.start()
        try:
            with pytest.raises(RuntimeError, match="in a thread"):
                SentenceEncoder.load(folders["embed"], opener=queue.opener)
            encoder = await asyncio.to_thread(
                lambda: SentenceEncoder.load(folders["embed"], opener=queue.opener)
            )
            with pytest.raises(RuntimeError, match="in a thread"):
                encoder.encode(["怎么改密码"])
            with pytest.raises(TypeError, match="opener="):
                await queue.compute(SentenceEncoder.load(folders["embed"]).prepare(["怎么"]))
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_golden_sentences_are_computed_in_the_worker(tmp_path: Path) -> None:
    from jinyi.folder import Golden

    golden = Golden("vectors", ("怎么改密码",), np.zeros((1, 32), np.float32))
    folder = write_small(tmp_path / "model", golden=golden)

    async def play() -> None:
        queue = RowQueue()
        await queue.start()
        try:
            with pytest.raises(FolderError, match="golden sentences"):
                await asyncio.to_thread(lambda: SentenceEncoder.load(folder, opener=queue.opener))
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())
