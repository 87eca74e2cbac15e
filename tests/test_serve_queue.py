"""The queue when all goes well: the models' own numbers, equal rows once, fair turns, bounds, deadlines, departures."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.models.open_labels import OpenLabels
from jinyi.models.source import Source
from jinyi.models.work import run
from jinyi.serve.frames import PREFIX, body_length, pack, unpack
from jinyi.serve.problems import DeadlinePassed, Overloaded
from jinyi.serve.queue import RowQueue
from jinyi.serve.queue.rows import Row
from queue_tools import stage
from queue_worker import SLOW, expected
from small_models import whitening, write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好", "怎么改密码", "新闻" * 15]
PAIRS = [("怎么改密码", "如何修改密码"), ("今天天气很好", "心情不好"), ("体育", "财经新闻")]


def rows(count: int, start: int = 0, length: int = 3) -> list[list[int]]:
    return [[2, 10 + number, *[3] * (length - 2)] for number in range(start, start + count)]


def check(results: np.ndarray, wanted: list[list[int]]) -> None:
    assert np.array_equal(results, np.array([expected(row) for row in wanted], np.float32))


def test_results_are_those_of_the_models(folders: dict[str, Path], tmp_path: Path) -> None:
    white = write_small(tmp_path / "white", dense=[whitening()])
    fitted = tmp_path / "fitted"
    TopicClassifier.load(folders["embed"]).fit(TEXTS, ["a", "b", "a", "b", "a", "b"]).save(fitted)

    def load(opener=None) -> list:
        labels = OpenLabels(Source.open(folders["topic"], "topic", opener=opener))
        return [
            SentenceEncoder.load(folders["embed"], opener=opener),
            SentenceEncoder.load(white, opener=opener),
            PairScorer.load(folders["pair"], opener=opener),
            TopicClassifier.load(folders["topic"], opener=opener),
            TopicClassifier.load(folders["classes"], opener=opener),
            TopicClassifier.load(fitted, opener=opener),
            labels,
        ]

    def works(models: list) -> list:
        embed, whitened, pair, topic, classes, heads, labels = models
        return [
            embed.prepare(TEXTS),
            embed.prepare(TEXTS, truncate="window", max_length=8, normalize=False),
            embed.prepare_tokens(TEXTS),
            whitened.prepare(TEXTS, truncate_dim=5),
            pair.prepare(PAIRS),
            pair.prepare(PAIRS, symmetric=False, raw_scores=True),
            topic.prepare(TEXTS),
            classes.prepare(TEXTS),
            heads.prepare(TEXTS),
            labels.prepare(TEXTS, ["体育", "财经"]),
            labels.prepare(TEXTS, ["体育", "天气很"]),
            labels.prepare(TEXTS, ["体育", "天"], multi_label=True),
        ]

    async def play() -> None:
        queue = RowQueue()
        await queue.start()
        try:
            served = await asyncio.to_thread(lambda: works(load(queue.opener)))
            here = works(load())
            results = await asyncio.gather(*(queue.compute(work) for work in served))
            for (result, timings), work in zip(results, here, strict=True):
                wanted = run(work)
                assert len(result) == len(wanted) > 0
                for one, other in zip(result, wanted, strict=True):
                    assert one.shape == other.shape and one.dtype == other.dtype
                    np.testing.assert_allclose(one, other, atol=1e-5)
                assert timings.tokens == work.tokens and timings.inference_s > 0
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_models_work_as_usual_from_a_thread(folders: dict[str, Path]) -> None:
    async def play() -> None:
        queue = RowQueue()
        await queue.start()

        def use() -> None:
            encoder = SentenceEncoder.load(folders["embed"], opener=queue.opener)
            here = SentenceEncoder.load(folders["embed"])
            np.testing.assert_allclose(encoder.encode(TEXTS), here.encode(TEXTS), atol=1e-6)
            assert encoder.info() == here.info()
            scorer = PairScorer.load(folders["pair"], opener=queue.opener)
            np.testing.assert_allclose(
                scorer.predict(PAIRS), PairScorer.load(folders["pair"]).predict(PAIRS), atol=1e-6
            )
            states = run(encoder.prepare_tokens(TEXTS))
            for one, other in zip(states, run(here.prepare_tokens(TEXTS)), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)

        try:
            await asyncio.to_thread(use)
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_equal_rows_are_computed_once(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            block = on.soon([[2, SLOW, 3]])
            tasks = [on.soon(rows(30) + rows(30), client=number) for number in range(4)]
            await block
            results = [await task for task in tasks]
            for result in results:
                check(result, rows(30) + rows(30))
            results[0][:] = 0  # nobody else's array
            check(results[1], rows(30) + rows(30))
            assert on.events.total("slab", "rows") == 31
            assert on.events.total("request", "shared") == 4 * 60 - 30
            # Segments are part of a row.
            other = on.work(rows(1))
            other.passes[0].encoded.splits[0] = 1
            await asyncio.gather(on.queue.compute(other), on.compute(rows(1)))
            assert on.events.total("slab", "rows") == 33

    asyncio.run(play())


def test_a_short_request_does_not_wait_for_an_equal_row_of_a_long_one(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            long = on.soon([[2, SLOW, 3], *rows(300)])
            await on.until(lambda: on.queue.snapshot().running_rows == 301)
            first, second = on.soon(rows(2)), on.soon(rows(2))
            check(await first, rows(2))
            check(await second, rows(2))
            assert not long.done()
            check((await long)[1:], rows(300))
            assert on.events.total("slab", "rows") == 303

    asyncio.run(play())


def test_an_output_is_kept_for_all_whoever_it_was_computed_for() -> None:
    line = (0, 0, 0, None)
    row = Row((line, 3, b"ids", b""), line, b"ids", 3, 3, b"")
    kept = row.content
    row.key = ("short", row.key)
    assert row.content == kept != Row((line, 2, b"ids", b""), line, b"ids", 3, 2, b"").content


def test_outputs_are_kept_only_where_memory_is_given(folders: dict[str, Path]) -> None:
    async def play(cache_bytes: int) -> tuple[float, int]:
        async with stage(folders["embed"], cache_bytes=cache_bytes) as on:
            for _ in range(3):
                result = await on.compute(rows(5))
                check(result, rows(5))
                result[:] = 0
            _, timings = await on.queue.compute(on.work(rows(5)))
            assert timings.rows == 5
            assert on.queue.snapshot().cache_bytes <= cache_bytes
            assert on.events.total("request", "rows") == 20  # kept ones too
            return on.events.total("slab", "rows"), timings.cached_rows

    assert asyncio.run(play(0)) == (20, 0)
    assert asyncio.run(play(100_000)) == (5, 5)
    computed, kept = asyncio.run(play(1_000))  # room for two
    assert computed >= 11 and kept <= 2


def test_states_of_tokens_are_kept_whole_and_apart(folders: dict[str, Path]) -> None:
    from jinyi.serve.queue import QueueLimits

    async def play() -> None:
        queue = RowQueue(QueueLimits(cache_bytes=10**6))
        await queue.start()
        try:
            encoder = await asyncio.to_thread(SentenceEncoder.load, folders["embed"], opener=queue.opener)
            prepare = encoder.prepare_tokens
            wanted = run(SentenceEncoder.load(folders["embed"]).prepare_tokens(TEXTS))
            for _ in range(2):
                work = await asyncio.to_thread(prepare, TEXTS)
                states, timings = await queue.compute(work)
                for one, other in zip(states, wanted, strict=True):
                    np.testing.assert_allclose(one, other, atol=1e-5)
                    one[:] = 7
            assert timings.cached_rows == len(TEXTS)
        finally:
            await queue.close(drain_s=0)

    asyncio.run(play())


def test_a_deadline_ends_the_wait_and_spares_the_work(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], hang_s=60) as on:
            block = on.soon([[2, SLOW, 3]])
            await on.until(lambda: on.queue.snapshot().running_rows)
            os.kill(
                on.queue.worker_pid, signal.SIGSTOP
            )  # nothing comes from there: the deadline alone ends the wait
            begin = time.monotonic()
            with pytest.raises(DeadlinePassed):
                await on.compute(rows(50), deadline=begin + 0.1)
            assert time.monotonic() - begin >= 0.1
            assert on.queue.snapshot().waiting_rows == 0 and not block.done()
            os.kill(on.queue.worker_pid, signal.SIGCONT)
            await block
            with pytest.raises(DeadlinePassed):
                await on.compute(rows(50), deadline=time.monotonic() - 1)
            check(await on.compute(rows(2), deadline=time.monotonic() + 20), rows(2))
            assert on.events.total("slab", "rows") == 3
            assert on.events.count("late") == 2

    asyncio.run(play())


def test_rows_of_departed_clients_are_not_computed(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            block = on.soon([[2, SLOW, 3]])
            await on.until(lambda: on.queue.snapshot().running_rows)
            leaver, stayer = on.soon(rows(50)), on.soon(rows(10))  # ten rows in common
            await on.until(lambda: on.queue.snapshot().requests == 3)
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            assert on.queue.snapshot().waiting_rows == 10
            check(await stayer, rows(10))
            await block
            assert on.events.total("slab", "rows") == 11
            snapshot = on.queue.snapshot()
            assert (snapshot.requests, snapshot.waiting_tokens, snapshot.running_tokens) == (0, 0, 0)

    asyncio.run(play())


def test_work_beyond_the_bounds_is_refused(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], speed=8000, max_waiting_tokens=1000, max_wait_s=99) as on:
            large = on.soon(rows(4000))  # more than the bound, and admitted: there is room
            await on.until(lambda: on.queue.snapshot().waiting_tokens > 1000)
            with pytest.raises(Overloaded) as caught:
                on.queue.check_room()
            assert caught.value.status == 429 and int(caught.value.headers["retry-after"]) >= 1
            with pytest.raises(Overloaded):
                await on.compute(rows(1, 17_000))
            check(await large, rows(4000))
            on.queue.check_room()
            assert on.events.count("refused") == 2

    asyncio.run(play())


def test_a_long_wait_is_refused_but_a_short_request_passes_a_long_one(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], speed=3000, max_wait_s=1.0) as on:
            await on.compute(rows(200, 5000))
            await on.compute(rows(200, 6000))  # the speed is known, the first slab aside
            large = on.soon(rows(2000))  # two seconds, in ten slabs
            await on.until(lambda: on.queue.snapshot().waiting_tokens > 3500)
            with pytest.raises(Overloaded) as caught:
                await on.compute(rows(300, 9000))
            assert 0 < caught.value.retry_after_s < 6000 / on.engine.record.rate
            on.queue.check_room()
            assert on.queue.snapshot().wait_s < 1
            begin = len(on.events)
            check(await on.compute(rows(1, 9000)), rows(1, 9000))
            assert on.events.slabs_before(1, begin) <= 2
            assert not large.done()
            check(await large, rows(2000))
            assert 500 < on.queue.snapshot().tokens_per_second < 3100

    asyncio.run(play())


def test_one_client_with_very_many_rows_does_not_hold_up_others(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], speed=20_000, batch_tokens=256) as on:
            large = on.soon(rows(2000, length=20), client="bulk")  # 2 s, in eighty slabs
            await on.until(lambda: on.queue.snapshot().running_rows)
            before = []
            while not large.done() and len(before) < 20:
                begin = len(on.events)
                await on.compute(rows(1, 9000 + len(before), 10), client="single")
                before.append(on.events.slabs_before(1, begin))
                await asyncio.sleep(0.01)
            assert len(before) == 20
            assert np.median(before) <= 1 and max(before) <= 5  # of those that were there when it came
            check(await large, rows(2000, length=20))
            assert on.events.count("slab") > 70

    asyncio.run(play())


def test_clients_with_as_much_to_do_finish_together(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], speed=30_000, batch_tokens=512) as on:
            order = []

            async def one(client: str, start: int, count: int) -> None:
                check(await on.compute(rows(count, start, 10), client=client), rows(count, start, 10))
                order.append(client)

            # "many" comes with ten requests of 200 rows, the others with one: each gets a third of the turns.
            await asyncio.gather(
                *(one("many", 1000 * number, 200) for number in range(10)),
                one("second", 20_000, 300),
                one("third", 30_000, 300),
            )
            assert order.index("second") < 4 and order.index("third") < 5

    asyncio.run(play())


def test_engines_take_turns(folders: dict[str, Path]) -> None:
    from jinyi.runtime import Head
    from queue_tools import work_of

    async def play() -> None:
        async with stage(folders["embed"], speed=30_000, batch_tokens=512) as on:
            source = Source.open(folders["embed"], "embed")
            other = await asyncio.to_thread(on.queue.opener, source, Head("vector", pooling="cls"))
            large = on.soon(rows(2000, length=20))  # 1.3 s, in forty slabs
            await on.until(lambda: on.queue.snapshot().running_rows)
            begin = len(on.events)
            wanted = rows(40, length=20)  # one slab
            check((await on.queue.compute(work_of(other, wanted)))[0], wanted)
            assert (
                on.events.slabs_before(40, begin) <= 4 and not large.done()
            )  # two were sent before, and a turn
            await large
            assert on.events.count("slab") > 35

    asyncio.run(play())


def test_batches_hold_rows_of_similar_length_within_the_budget(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"], batch_tokens=256) as on:
            wanted = [[2, *[5 + number] * (1 + number % 40), 3] for number in range(400)]
            np.random.default_rng(0).shuffle(wanted)
            check(await on.compute(wanted), wanted)
            tokens, padded = on.events.total("slab", "tokens"), on.events.total("slab", "padded")
            # Widths in steps of four to eight: few shapes.
            assert tokens == sum(map(len, wanted)) and tokens <= padded < 1.25 * tokens
            assert on.events.count("slab") > 400 * 22 / 512 / 2

    asyncio.run(play())


def test_nothing_to_compute_is_done_at_once(folders: dict[str, Path]) -> None:
    async def play() -> None:
        async with stage(folders["embed"]) as on:
            result, timings = await on.queue.compute(on.work([]))
            assert len(result) == 0 and timings.rows == 0

    asyncio.run(play())


TYPES = st.sampled_from([np.int32, np.int64, np.float32])
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3)


@given(st.lists(st.tuples(TYPES, SHAPES), max_size=5), st.text(max_size=20))
def test_frames_come_out_as_they_went_in(kinds: list, text: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-9, 9, shape).astype(dtype) for dtype, shape in kinds]
    data = pack({"kind": "x", "text": text}, arrays)
    assert body_length(data) == len(data) - PREFIX
    frame = unpack(data[PREFIX:])
    assert frame.head == {"kind": "x", "text": text}
    assert len(frame.arrays) == len(arrays)
    for one, other in zip(frame.arrays, arrays, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)
        assert one.ctypes.data % 4 == 0
