"""Graphs of fixed shape for one or two short rows, compiled in pauses between calls.

A graph for any shape works out all shapes anew in each call; for a short question that takes a quarter of the time.
Shapes that come again and again get graphs of their own. Until they are ready, and for all other shapes, the graph for
any shape answers.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch

Shape = tuple[int, int, int]
"""Rows, columns, and mask positions in a row."""

# Weights in the layers up to which graphs are made: each holds them once more, and the more of them there are, the less
# of a call's time goes into shapes.
SMALL_MODEL = 10_000_000
_ROWS = 2  # a pair in both orders
_WIDEST = 40
_STEP = 8
_MOST = 5  # graphs of an engine: the shipped model's take 20 to 32 MB each
_SOME = 8  # calls with a shape before a graph is made of it
# Compiling takes 0.2 to 0.4 s of one core, in which calls take twice as long: it waits for a pause of so many seconds,
# and without any until the calls with the shape have lost as much time as it takes.
_PAUSE = 0.25
_MANY = 1000

# One graph is made at a time. Held over a fork, lest the child inherit a lock of the runtime that nobody opens.
_making = threading.Lock()
_ending = threading.Event()


@atexit.register
def _end() -> None:
    """Let a graph be finished, and no other begun: the end of the process takes the runtime down."""
    with _making:
        _ending.set()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release
    )


def fixed_shape(batch: Batch, *, masks: bool) -> Shape | None:
    """Return the shape that a batch is filled up to for a graph of fixed shape; None: it is too large for one.

    Args:
        batch: rows for one call.
        masks: whether the graph reads their mask positions.
    """
    rows, columns = batch.ids.shape
    if rows > _ROWS or columns > _WIDEST:
        return None
    places = batch.positions.shape[1] if masks and batch.positions is not None else 0
    return rows, filled_columns(columns), places


def filled_columns(columns: int) -> int:
    """Return the width of the shape for so many columns."""
    return -(-columns // _STEP) * _STEP


@dataclass(frozen=True, eq=False)
class _Request:
    """A request with views of its tensors, which stay in place as long as shapes do."""

    request: Any
    inputs: list[npt.NDArray[np.int32]]
    outputs: list[npt.NDArray[np.float32]]

    @classmethod
    def of(cls, model: Any) -> _Request:
        request = model.create_infer_request()
        inputs = [tensor.data for tensor in request.input_tensors]
        return cls(request, inputs, [tensor.data for tensor in request.output_tensors])

    def infer(self, inputs: Sequence[npt.NDArray[np.int32]]) -> list[npt.NDArray[np.float32]]:
        for view, array in zip(self.inputs, inputs, strict=True):
            view[...] = array
        self.request.infer(share_outputs=True)
        return [view.copy() for view in self.outputs]


@dataclass(frozen=True, eq=False)
class _Graph:
    """A compiled graph with its idle requests: each call has one of its own."""

    model: Any
    idle: deque[_Request]


class FixedGraphs:
    """The graphs of one engine.

    Args:
        model: the graph for any shape, not compiled.
        compile_model: compiles a graph.
    """

    _last_call = 0.0  # of all engines, by time.monotonic

    def __init__(self, model: Any, compile_model: Callable[[Any], Any]) -> None:
        self._model = model
        self._compile = compile_model
        self._graphs: dict[Shape, _Graph] = {}
        self._begun: set[Shape] = set()
        self._calls: Counter[Shape] = Counter()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def shapes(self) -> list[Shape]:
        """Shapes that have a graph."""
        return sorted(self._graphs)

    def infer(
        self, shape: Shape, inputs: Sequence[npt.NDArray[np.int32]]
    ) -> list[npt.NDArray[np.float32]] | None:
        """Compute in this thread; safe to use from several.

        Args:
            shape: from `fixed_shape`.
            inputs: of the graph, filled up to the shape.

        Returns:
            the graph's outputs; None where this shape has no graph, or none yet.
        """
        FixedGraphs._last_call = time.monotonic()
        graph = self._graphs.get(shape)
        if graph is None:
            self._count(shape)
            return None
        try:
            request = graph.idle.pop()
        except IndexError:
            request = _Request.of(graph.model)
        outputs = request.infer(inputs)
        graph.idle.append(request)
        return outputs

    def make(self, shape: Shape) -> None:
        """Compile the graph of a shape, in this thread; at the end of the process nothing is done."""
        rows, columns, masks = shape
        sizes = {"ids": [rows, columns], "lengths": [rows], "segments": [rows, columns]}
        with _making:
            self._begun.add(shape)
            if _ending.is_set():
                return
            # A copy that has its weights in common with the other graphs, but for those that kernels pack anew.
            model = self._model.clone()
            model.reshape({**sizes, "positions": [rows, masks]} if masks else sizes)
            graph = _Graph(self._compile(model), deque())
            request = _Request.of(graph.model)
            lengths_alone_are_1 = [np.full_like(view, view.ndim == 1) for view in request.inputs]
            request.infer(lengths_alone_are_1)  # the first time takes longer
            graph.idle.append(request)
            self._graphs[shape] = graph

    def wait(self) -> None:
        """Wait until the graphs that are due have been made."""
        if (thread := self._thread) is not None:
            thread.join()

    def _count(self, shape: Shape) -> None:
        """Count a call, and have graphs made once there have been enough."""
        with self._lock:
            self._calls[shape] += 1
            if self._thread is not None or self._due() is None:
                return
            # A daemon, so that its pauses do not hold up the end of the process; nothing of the runtime runs in them.
            thread = threading.Thread(target=_work, args=(ref(self),), name="compile", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process is ending
                return
            self._thread = thread

    def _due(self) -> Shape | None:
        """Return the shape most asked for of those that should have a graph and have none; None where there is none."""
        if len(self._begun) == _MOST:
            return None
        calls = {shape: calls for shape, calls in self._calls.items() if shape not in self._begun}
        shape = max(calls, key=lambda shape: calls[shape], default=None)
        return None if shape is None or calls[shape] < _SOME else shape

    def _next(self) -> tuple[Shape, bool] | None:
        """Return a shape to be made and whether it is the time for it; None, and no other call, ends the thread."""
        with self._lock:
            if (shape := self._due()) is None:
                self._thread = None
                return None
            pause = time.monotonic() - FixedGraphs._last_call
            return shape, pause >= _PAUSE or self._calls[shape] >= _MANY


def _work(graphs: ref[FixedGraphs]) -> None:
    """Make the graphs that are due, as long as their engine exists."""
    while (fixed := graphs()) is not None and (due := fixed._next()) is not None:
        shape, now = due
        if now:
            fixed.make(shape)
        else:
            del fixed  # an engine that is given up meanwhile goes at once
            time.sleep(_PAUSE)
