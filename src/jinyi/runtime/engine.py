"""The engine on processors: compiles the graph, feeds the streams, bounds the first sentence's delay."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch, padded_length, padded_rows
from jinyi.config import EncoderConfig
from jinyi.errors import InputError
from jinyi.runtime import Head, Output
from jinyi.runtime.checks import check_batch, check_finite
from jinyi.runtime.cores import available_cores, has_int8_dot
from jinyi.runtime.graph import build_graph
from jinyi.runtime.openvino_api import load_openvino

# Up to this many tokens a call is one person's question: all cores work on each batch in turn. Above it each
# core takes batches of its own, which wastes less on hand-over and lets a busy core fall behind alone.
SMALL_WORK = 2048
_Purpose = Literal["alone", "shared", "bulk"]
"""What a graph is compiled for: a few tokens on all cores, a few beside other calls, many."""
# Weights in the layers from which on one batch keeps all cores busy: one compiled graph does for both.
LARGE_MODEL = 40_000_000
_WARM_WIDTHS = 64
# Kernels that OpenVINO keeps for each stream, some twenty a shape; its 5,000 take gigabytes in 8 bits (10 MB a shape).
# Few rows need theirs again and again; of many, no two batches are alike.
_KEPT_KERNELS: dict[_Purpose, int] = {"alone": 1500, "shared": 1500, "bulk": 500}
# Up to so many tokens a small model's batch is filled up to one of few numbers of rows: the kernels of a new shape take
# longer than the added rows, and memory for good. Fuller ones are as full as the budget of a batch allows.
_FILLED = 1792


@cache
def _core() -> Any:
    """OpenVINO's entry point; making one loads the processor plugin."""
    return load_openvino().Core()


def _leave_core() -> None:
    """In a forked child the parent's core is never used, and never freed, which would wait for its threads."""
    if _core.cache_info().currsize:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_core()))
        _core.cache_clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_leave_core)


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A compiled graph with its idle requests; a call has `depth` batches with it at a time."""

    model: Any
    depth: int
    idle: deque[Any]

    def request(self) -> Any:
        """Take an idle request or make one; `deque.pop` is atomic, so threads may share the engine."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.model.create_infer_request()


class OpenVinoEngine:
    """Runs the graph of `jinyi.runtime.graph`; see `jinyi.runtime.open_engine` for the arguments.

    The graph is compiled on first use (tiny model: 0.3 s), once for few tokens and, if it comes to that, once
    more for bulk work and, in the background, for calls beside others. `weights` is kept for that: a memory-mapped
    file costs nothing, while arrays in memory stay there. One engine may be used from several threads.
    """

    def __init__(
        self,
        config: EncoderConfig,
        weights: Mapping[str, npt.NDArray[Any]],
        head: Head,
        *,
        precision: str = "auto",
        threads: int | None = None,
        ranges: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> None:
        self._config = config
        self._core = _core()
        self.precision, self._why_precision = self._choose_precision(precision, ranges)
        cores = available_cores()
        self.threads = threads or cores.count
        self._why_threads = "as asked" if threads else cores.why
        rounded = self.precision in ("int8-weights", "int8-dynamic")
        settings: dict[str, Any] = {
            "wide_heads": self.precision in ("bfloat16", "int8"),
            "int8_weights": rounded,
        }
        if self.precision == "int8":
            settings |= {"ranges": ranges, "weight_levels": 255 if has_int8_dot() else 128}
        self._build = partial(build_graph, config, weights, head, **settings)
        layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
        self._large = layer * config.num_hidden_layers >= LARGE_MODEL
        self._masks = head.kind == "mlm"
        self._outputs = 2 if head.kind == "mlm" and head.log_normalizer else 1
        self._model: Any = self._build()  # here, so that unusable weights are told at once
        if rounded:
            layers = len({config.weights_of(layer) for layer in range(config.num_hidden_layers)})
            self._why_precision += f"; {_rounded(self._model)} of {6 * layers} matrices in 8 bits"
        self._compiled: dict[_Purpose, _Compiled] = {}
        self._compiling: Future[_Compiled] | None = None
        self._lock = threading.Lock()

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        """Yield each batch with its output; see `jinyi.runtime.Engine.run`."""
        source = iter(batches)
        begin: list[Batch] = []
        tokens = 0
        while tokens <= SMALL_WORK and (batch := next(source, None)) is not None:
            begin.append(batch)
            tokens += batch.ids.size
        if not begin:
            return
        bulk = tokens > SMALL_WORK and len(begin) + (1 if self._large else 0) > 1
        compiled = self._shared() if shared and not bulk else self._graph("bulk" if bulk else "alone")
        yield from self._feed(compiled, chain(begin, source))

    def info(self) -> dict[str, Any]:
        """Return what runs where and why; see `jinyi.runtime.Engine.info`."""
        openvino = load_openvino()
        return {
            "device": "cpu",
            "processor": self._core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            "runtime": f"openvino {openvino.__version__}",
            "precision": self.precision,
            "why_precision": self._why_precision,
            "threads": self.threads,
            "why_threads": self._why_threads,
            "streams": self._streams,
        }

    def _choose_precision(self, asked: str, ranges: Any) -> tuple[str, str]:
        native = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if asked == "auto":
            return "float32", "the same vector within 1e-5 whatever the batch"
        if asked == "bfloat16" and not native:
            raise InputError(
                found="a processor without bfloat16 arithmetic",
                expected="AVX512_BF16 or AMX",
                fix='Use precision="auto" or "float32".',
                where='precision="bfloat16"',
            )
        if asked == "int8" and ranges is None:
            raise InputError(
                found="no ranges of the activations",
                expected="those measured by jinyi.runtime.int8.measure_ranges",
                fix='Measure and give them, or use precision="auto".',
                where='precision="int8"',
            )
        slow = asked in ("int8", "int8-dynamic") and not has_int8_dot()
        note = "; without VNNI it is no faster than float32" if slow else ""
        return asked, f"as asked{note}"

    @property
    def _streams(self) -> int:
        """Batches that are computed at a time where there are many."""
        return 1 if self._large else self.threads

    def _shared(self) -> _Compiled:
        """Return the graph for a call beside others; while it is compiled, the one for a call alone."""
        if self._compiling is None:
            self._compiling = ThreadPoolExecutor(1, "compile").submit(self._graph, "shared")
        return self._compiling.result() if self._compiling.done() else self._graph("alone")

    def _graph(self, purpose: _Purpose) -> _Compiled:
        """Return the graph compiled for a purpose."""
        if self._streams == 1:
            purpose = "alone"
        if (compiled := self._compiled.get(purpose)) is not None:
            return compiled
        with self._lock:
            if purpose not in self._compiled:
                streams = 1 if purpose == "alone" else self._streams
                options = {
                    "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bfloat16" else "f32",
                    # Beside 8-bit weights OpenVINO rounds activations too unless told not to.
                    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32" if self.precision == "int8-dynamic" else "0",
                    "NUM_STREAMS": str(streams),
                    "INFERENCE_NUM_THREADS": str(self.threads),
                    # A pinned thread waits for its core when another process has it.
                    "ENABLE_CPU_PINNING": "NO",
                    # Not in the list of properties, but the only bound there is.
                    "CPU_RUNTIME_CACHE_CAPACITY": str(_KEPT_KERNELS[purpose]),
                }
                graph, self._model = self._model or self._build(), None
                model = self._core.compile_model(graph, "CPU", options)
                # Every stream is kept busy, and one batch ready for each; beside others a call has one stream.
                compiled = _Compiled(model, 2 * streams if purpose == "bulk" and streams > 1 else 1, deque())
                if streams == 1 and not self._large:
                    self._warm_up(compiled)
                self._compiled[purpose] = compiled
            return self._compiled[purpose]

    def _warm_up(self, compiled: _Compiled) -> None:
        """Create the kernels of one short row (each unseen shape costs milliseconds once)."""
        limit = min(_WARM_WIDTHS, self._config.max_position_embeddings)
        widths = {padded_length(length, coarse=True) for length in range(1, limit + 1)}
        request = compiled.request()
        for width in sorted(widths):
            ids = np.full((1, min(width, limit)), self._config.pad_token_id, np.int32)
            positions = np.zeros((1, 1), np.int32) if self._masks else None
            batch = Batch(np.zeros(1, np.int64), ids, np.ones(1, np.int32), None, positions)
            request.infer(self._inputs(batch), share_inputs=True)
        compiled.idle.append(request)

    def _feed(self, compiled: _Compiled, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Output]]:
        """Compute batches, drawing no more from the source than are computed at a time."""
        running: deque[tuple[Batch, list[npt.NDArray[np.int32]], Any]] = deque()
        try:
            for batch in batches:
                if len(running) == compiled.depth:
                    yield self._finish(compiled, running)
                inputs = self._inputs(batch)
                request = compiled.request()
                request.start_async(inputs, share_inputs=True)
                running.append((batch, inputs, request))
            while running:
                yield self._finish(compiled, running)
        finally:
            for _, _, request in running:
                request.wait()

    def _finish(
        self, compiled: _Compiled, running: deque[tuple[Batch, list[npt.NDArray[np.int32]], Any]]
    ) -> tuple[Batch, Output]:
        batch, _, request = running[0]
        request.wait()
        running.popleft()
        rows = len(batch.ids)
        outputs = [request.get_output_tensor(place).data[:rows].copy() for place in range(self._outputs)]
        compiled.idle.append(request)
        for output in outputs:
            check_finite(batch, output)
        return batch, outputs[0] if self._outputs == 1 else (outputs[0], outputs[1])

    def _inputs(self, batch: Batch) -> list[npt.NDArray[np.int32]]:
        check_batch(self._config, batch, masks=self._masks)
        segments = np.zeros_like(batch.ids) if batch.segments is None else batch.segments
        inputs = [batch.ids, batch.lengths, segments]
        if self._masks and batch.positions is not None:
            inputs.append(batch.positions)
        fill = batch.ids.size <= _FILLED and not self._large
        more = padded_rows(len(batch.ids)) - len(batch.ids) if fill else 0
        if more:  # the last row again: it is as good as any, and its output is dropped
            inputs = [np.concatenate([array, np.repeat(array[-1:], more, axis=0)]) for array in inputs]
        return [np.ascontiguousarray(array, np.int32) for array in inputs]


def _rounded(graph: Any) -> int:
    """Return how many matrices of a graph are in 8 bits."""
    kind = load_openvino().Type.i8
    constants = (node for node in graph.get_ordered_ops() if node.get_type_name() == "Constant")
    return sum(node.get_element_type() == kind for node in constants)
