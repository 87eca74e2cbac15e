"""Graphs of fixed shape: the same results as the graph for any shape, made in pauses, in no one's way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np
import pytest

from jinyi.batches import make_batches
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError
from jinyi.runtime import Head, fixed, open_engine
from jinyi.runtime import engine as engine_module
from jinyi.runtime.engine import OpenVinoEngine
from jinyi.runtime.fixed import FixedGraphs
from jinyi.runtime.int8 import measure_ranges
from jinyi.runtime.openvino_api import load_openvino
from runtime_oracle import CHARACTERS, Oracle, encode, oracle, texts

WIDTHS = (8, 16, 24, 32, 40)


def opened(found: Oracle, head: Head, **options: Any) -> OpenVinoEngine:
    engine = open_engine(found.config, found.weights, head, **options)
    assert isinstance(engine, OpenVinoEngine)
    return engine


def rows_of(lengths: list[int]) -> SimpleNamespace:
    """Rows of so many tokens."""
    return encode(["".join(CHARACTERS[place : place + length - 4]) for place, length in enumerate(lengths)])


def answer(engine: OpenVinoEngine, rows: SimpleNamespace) -> list[np.ndarray]:
    """The outputs of a call of one batch."""
    ((batch, output),) = engine.run(make_batches(rows, pad_id=0))
    outputs = output if isinstance(output, tuple) else (output,)
    assert batch.rows.tolist() == list(range(len(rows.ids)))
    if outputs[0].ndim == 3 and rows.masks is None:
        assert outputs[0].shape[1] == batch.ids.shape[1]
        return [outputs[0][place, :length] for place, length in enumerate(batch.lengths)]
    return list(outputs)


def graphs(engine: OpenVinoEngine) -> FixedGraphs:
    engine._graph("alone")
    assert engine._fixed is not None
    return engine._fixed


@pytest.fixture(autouse=True)
def some(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """No graphs in the background, until this is called: then after 8 calls."""
    there = fixed._SOME
    monkeypatch.setattr(fixed, "_SOME", 10**9)
    return lambda: monkeypatch.setattr(fixed, "_SOME", there)


class Clock:
    """Stands for the time of `fixed`: it passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeping = threading.Event()
        self.go_on = threading.Event()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeping.set()
        assert self.go_on.wait(60)
        self.go_on.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, some: Callable[[], None]) -> Clock:
    """With graphs in the background."""
    some()
    clock = Clock()
    monkeypatch.setattr(fixed, "time", clock)
    return clock


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call, whether a graph of fixed shape answered it."""
    found: list[bool] = []
    infer = FixedGraphs.infer

    def watched(self: FixedGraphs, shape: Any, inputs: Any) -> Any:
        outputs = infer(self, shape, inputs)
        found.append(outputs is not None)
        return outputs

    monkeypatch.setattr(FixedGraphs, "infer", watched)
    return found


@pytest.mark.parametrize("kind", ["vector", "tokens", "classes", "mlm"])
@pytest.mark.parametrize("name", ["bert", "megatron"])
def test_results_are_those_of_the_graph_for_any_shape(name: str, kind: str, answered: list[bool]) -> None:
    engine = opened(oracle(name), Head(kind, pooling="mean", log_normalizer=kind == "mlm"))
    calls = [rows_of([length]) for length in (*range(6, 41), 41)]
    calls += [rows_of([length, length - 2]) for length in range(9, 41, 5)]
    calls += [rows_of([9, 8, 7])]
    if kind != "mlm":
        for rows in calls:
            rows.masks = None
    before = [answer(engine, rows) for rows in calls]
    answered.clear()
    for count in (1, 2):
        made = graphs(engine)
        made._graphs.clear()
        made._begun.clear()
        for width in WIDTHS:
            made.make((count, width, 2 if kind == "mlm" else 0))
        for rows, expected in zip(calls, before, strict=True):
            for found, outputs in zip(answer(engine, rows), expected, strict=True):
                np.testing.assert_allclose(found, outputs, rtol=0, atol=1e-6 * max(1, np.abs(outputs).max()))
        assert sum(answered) == (35 if count == 1 else 7)
        answered.clear()


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("int8", 0.1), ("int8-weights", 1e-5), ("int8-dynamic", 0.1), ("bfloat16", 0.03)],
)
def test_results_in_each_precision(precision: str, tolerance: float, answered: list[bool]) -> None:
    native = "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and not native:
        with pytest.raises(InputError, match="bfloat16"):
            opened(oracle("bert"), Head(), precision=precision)
        return
    found = oracle("bert")
    rows = make_batches(encode(texts(50)), pad_id=0)
    ranges = measure_ranges(found.config, found.weights, rows) if precision == "int8" else None
    engine = opened(found, Head(normalize=True), precision=precision, ranges=ranges)
    calls = [rows_of([length]) for length in range(6, 41)]
    before = np.concatenate([answer(engine, rows)[0] for rows in calls])
    for width in WIDTHS:
        graphs(engine).make((1, width, 0))
    answered.clear()
    after = np.concatenate([answer(engine, rows)[0] for rows in calls])
    assert answered == [True] * 35
    np.testing.assert_allclose(after, before, rtol=0, atol=tolerance)


def test_rows_of_all_positions_and_any_padding() -> None:
    found = oracle("bert")
    name = "embeddings.position_embeddings.weight"
    config = EncoderConfig.from_dict({**found.config.to_dict(), "max_position_embeddings": 37})
    odd = Oracle(
        config, {**found.weights, name: found.weights[name][:37]}, [], [], found.words, found.classes
    )
    engine = opened(odd, Head(pooling="max"))
    rows = rows_of([37])
    (before,) = answer(engine, rows)
    graphs(engine).make((1, 40, 0))
    ((_, after),) = engine.run(make_batches(rows, pad_id=250))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_an_answer_outlives_the_next_call() -> None:
    engine = opened(oracle("bert"), Head())
    graphs(engine).make((1, 8, 0))
    (first,) = answer(engine, rows_of([7]))
    kept = first.copy()
    (second,) = answer(engine, rows_of([6]))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(first, kept)


def test_only_short_calls_of_small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(oracle("bert"), Head())
    for rows in (rows_of([41]), rows_of([8, 8, 8])):
        for _ in range(20):
            answer(engine, rows)
    assert not graphs(engine)._calls
    monkeypatch.setattr(engine_module, "SMALL_MODEL", 0)
    larger = opened(oracle("bert"), Head())
    (vector,) = answer(larger, rows_of([7]))
    assert larger._fixed is None and larger.info()["fixed_shapes"] == []
    np.testing.assert_allclose(vector, answer(engine, rows_of([7]))[0], rtol=0, atol=2e-6)


def test_a_graph_is_made_in_a_pause(clock: Clock, answered: list[bool]) -> None:
    engine = opened(oracle("bert"), Head())
    rows = rows_of([7])
    for _ in range(7):
        (before,) = answer(engine, rows)
    made = graphs(engine)
    assert made._thread is None  # a few calls make none
    answer(engine, rows)
    assert clock.sleeping.wait(60)
    clock.sleeping.clear()
    answer(engine, rows)
    clock.go_on.set()
    assert clock.sleeping.wait(60)  # calls go on
    assert made.shapes == [] and answered == [False] * 9
    clock.now += 1
    clock.go_on.set()
    made.wait()
    assert made.shapes == [(1, 8, 0)] and engine.info()["fixed_shapes"] == [(1, 8)]
    np.testing.assert_allclose(answer(engine, rows)[0], before, rtol=0, atol=1e-6)
    assert answered[-1]


def test_many_calls_without_a_pause(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "_MANY", 10)
    engine = opened(oracle("bert"), Head())
    for _ in range(8):
        answer(engine, rows_of([7]))
    made = graphs(engine)
    assert clock.sleeping.wait(60) and made.shapes == []
    for _ in range(2):
        answer(engine, rows_of([7]))
    clock.go_on.set()
    made.wait()
    assert made.shapes == [(1, 8, 0)]


def test_so_many_graphs_and_no_more(monkeypatch: pytest.MonkeyPatch, some: Callable[[], None]) -> None:
    some()
    monkeypatch.setattr(fixed, "_PAUSE", 0.0)
    monkeypatch.setattr(fixed, "_MOST", 2)
    engine = opened(oracle("bert"), Head())
    for length in (7, 15, 23, 31):
        for _ in range(8):
            answer(engine, rows_of([length]))
        graphs(engine).wait()
    assert graphs(engine).shapes == [(1, 8, 0), (1, 16, 0)]


def test_a_graph_that_cannot_be_made_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, some: Callable[[], None]
) -> None:
    some()
    told: list[Any] = []
    monkeypatch.setattr(fixed, "_PAUSE", 0.0)
    monkeypatch.setattr(threading, "excepthook", told.append)
    engine = opened(oracle("bert"), Head())
    made = graphs(engine)

    def fail(model: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(made, "_compile", fail)
    for _ in range(30):
        answer(engine, rows_of([7]))
        made.wait()
    assert [str(args.exc_value) for args in told] == ["no room"]
    assert made.shapes == []


def test_a_waiting_thread_keeps_no_engine(clock: Clock) -> None:
    engine = opened(oracle("bert"), Head())
    for _ in range(8):
        answer(engine, rows_of([7]))
    thread, gone = graphs(engine)._thread, ref(engine)
    assert thread is not None and clock.sleeping.wait(60)
    del engine
    assert gone() is None
    clock.go_on.set()
    thread.join(60)
    assert not thread.is_alive()


def test_threads_share_the_graphs() -> None:
    engine = opened(oracle("bert"), Head())
    calls = [rows_of([length]) for length in range(6, 17)]
    for width in (8, 16):
        graphs(engine).make((1, width, 0))
    alone = [answer(engine, rows)[0] for rows in calls]
    others: list[list[np.ndarray]] = []
    barrier = threading.Barrier(4)

    def call() -> None:
        barrier.wait()
        others.append([answer(engine, rows)[0] for _ in range(20) for rows in calls])

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(others) == 4
    for other in others:
        np.testing.assert_array_equal(np.concatenate(other), np.concatenate(alone * 20))


def test_what_does_not_fit_is_still_refused(answered: list[bool]) -> None:
    found = oracle("bert")
    name = "embeddings.word_embeddings.weight"
    words = found.weights[name].copy()
    words[rows_of([7]).ids[0][4]] = np.nan
    engine = opened(
        Oracle(found.config, {**found.weights, name: words}, [], [], found.words, found.classes), Head()
    )
    fine = encode(["".join(CHARACTERS[50:53])])
    answer(engine, fine)
    graphs(engine).make((1, 8, 0))
    answered.clear()
    with pytest.raises(FolderError, match="row 0"):
        answer(engine, rows_of([7]))
    assert answered == [True]
    wrong = SimpleNamespace(ids=[[1, 304, 2]], splits=[3], masks=None)
    with pytest.raises(InputError, match="token id: 304"):
        answer(engine, wrong)
    assert np.isfinite(answer(engine, fine)[0]).all()


def script(text: str) -> None:
    program = (
        f"from jinyi import SentenceEncoder\nfrom jinyi.runtime import fixed\nimport os, threading\n{text}"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("pause", [0, 1000])
def test_the_process_may_end_meanwhile(pause: int) -> None:
    """While a graph is compiled, and while a thread waits for a pause."""
    script(f"""
fixed._PAUSE = {pause}
encoder = SentenceEncoder.load()
for _ in range(8):
    encoder.encode("怎么改密码")
assert encoder._engine._opened()._fixed._thread.is_alive()
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_process_may_fork_meanwhile() -> None:
    script("""
fixed._PAUSE = 0
begun, done = threading.Event(), []
encoder = SentenceEncoder.load()
encoder.encode("怎么改密码")
made = encoder._engine._opened()._fixed
compile_model = made._compile
def watched(model):
    begun.set()
    compiled = compile_model(model)
    done.append(1)
    return compiled
made._compile = watched
for _ in range(7):
    encoder.encode("怎么改密码")
begun.wait()
child = os.fork()
assert done, "a graph was half made when the process forked"
if not child:
    for _ in range(8):
        vector = encoder.encode("怎么改密码")
    ours = encoder._engine._opened()._fixed
    ours.wait()
    os._exit(0 if ours is not made and ours.shapes else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
made.wait()
assert made.shapes
""")
