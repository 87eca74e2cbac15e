"""The engine on processors: compiles the graph, feeds the streams, bounds the first sentence's delay."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch, padded_length, padded_rows
from jinyi.config import EncoderConfig
from jinyi.errors import InputError
from jinyi.runtime import Head, Output
from jinyi.runtime.checks import check_batch, check_finite
from jinyi.runtime.cores import available_cores, has_int8_dot
from jinyi.runtime.fixed import SMALL_MODEL, FixedGraphs, filled_columns, fixed_shape
from jinyi.runtime.graph import build_graph
from jinyi.runtime.openvino_api import compile_graph, load_openvino, openvino_core

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
    more for bulk work and, in the background, for calls beside others and (small models) for the shapes of single
    short rows. `weights` is kept for that: a memory-mapped file costs nothing, while arrays in memory stay there. One
    engine may be used from several threads.
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
        self._core = openvino_core()
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
        self._small = layer * config.num_hidden_layers <= SMALL_MODEL
        self._masks = head.kind == "mlm"
        self._tokens = head.kind == "tokens"
        # Rows of one question: a pair has both orders.
        self._single_rows = (1, 2) if head.kind == "classes" else (1,)
        self._outputs = 2 if head.kind == "mlm" and head.log_normalizer else 1
        self._model: Any = self._build()  # here, so that unusable weights are told at once
        if rounded:
            layers = len({config.weights_of(layer) for layer in range(config.num_hidden_layers)})
            self._why_precision += f"; {_rounded(self._model)} of {6 * layers} matrices in 8 bits"
        self._compiled: dict[_Purpose, _Compiled] = {}
        self._fixed: FixedGraphs | None = None  # made with the graph for calls alone
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
        if tokens <= SMALL_WORK and not shared:
            for batch in begin:
                yield batch, self._alone(batch)
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
            "fixed_shapes": [] if self._fixed is None else [shape[:2] for shape in self._fixed.shapes],
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
                graph = self._model or self._build()
                self._model = graph if self._small else None  # of a small one more graphs are made
                compile_model = partial(compile_graph, precision=self.precision, threads=self.threads)
                model = compile_model(graph, streams=streams, kernels=_KEPT_KERNELS[purpose])
                # Every stream is kept busy, and one batch ready for each; beside others a call has one stream.
                compiled = _Compiled(model, 2 * streams if purpose == "bulk" and streams > 1 else 1, deque())
                if purpose == "alone" and self._small:
                    self._fixed = FixedGraphs(
                        graph, partial(compile_model, streams=1, kernels=_KEPT_KERNELS[purpose])
                    )
                if streams == 1 and not self._large:
                    self._warm_up(compiled)
                self._compiled[purpose] = compiled
            return self._compiled[purpose]

    def _warm_up(self, compiled: _Compiled) -> None:
        """Create the kernels of one short question (each unseen shape costs milliseconds once)."""
        limit = min(_WARM_WIDTHS, self._config.max_position_embeddings)
        widths = {padded_length(length, coarse=True) for length in range(1, limit + 1)}
        if self._fixed is not None:
            widths = {filled_columns(width) for width in widths}
        request = compiled.request()
        for rows, width in product(self._single_rows, sorted(widths)):
            ids = np.full((rows, min(width, limit)), self._config.pad_token_id, np.int32)
            positions = np.zeros((rows, 1), np.int32) if self._masks else None
            batch = Batch(np.arange(rows), ids, np.ones(rows, np.int32), None, positions)
            request.infer(self._inputs(batch), share_inputs=True)
        compiled.idle.append(request)

    def _alone(self, batch: Batch) -> Output:
        """Compute a batch of a small call in this thread: handing it to another takes time."""
        compiled = self._graph("alone")
        shape = None if self._fixed is None else fixed_shape(batch, masks=self._masks)
        inputs = self._inputs(batch, None if shape is None else shape[1])
        outputs = None
        if self._fixed is not None and shape is not None:
            outputs = self._fixed.infer(shape, inputs)
        if outputs is None:
            request = compiled.request()
            request.infer(inputs, share_inputs=True, share_outputs=True)
            outputs = self._take(compiled, request, len(batch.ids))
        if self._tokens:
            outputs = [output[:, : batch.ids.shape[1]] for output in outputs]
        return self._checked(batch, outputs)

    def _feed(self, compiled: _Compiled, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Output]]:
        """Compute batches, drawing no more from the source than are computed at a time."""
        running: deque[tuple[Batch, tuple[npt.NDArray[np.int32], ...], Any]] = deque()
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
        self, compiled: _Compiled, running: deque[tuple[Batch, tuple[npt.NDArray[np.int32], ...], Any]]
    ) -> tuple[Batch, Output]:
        batch, _, request = running[0]
        request.wait()
        running.popleft()
        return batch, self._checked(batch, self._take(compiled, request, len(batch.ids)))

    def _take(self, compiled: _Compiled, request: Any, rows: int) -> list[npt.NDArray[np.float32]]:
        """Copy the outputs of so many rows out of a request, which is idle again."""
        outputs = [request.get_output_tensor(place).data[:rows].copy() for place in range(self._outputs)]
        compiled.idle.append(request)
        return outputs

    def _checked(self, batch: Batch, outputs: list[npt.NDArray[np.float32]]) -> Output:
        for output in outputs:
            check_finite(batch, output)
        return outputs[0] if self._outputs == 1 else (outputs[0], outputs[1])

    def _inputs(self, batch: Batch, columns: int | None = None) -> tuple[npt.NDArray[np.int32], ...]:
        """Return the graph's inputs, filled up to few numbers of rows and to so many columns.

        A tuple: of a list OpenVINO asks whether it is one input, which takes it longer than all the rest.
        """
        check_batch(self._config, batch, masks=self._masks)
        segments = np.zeros_like(batch.ids) if batch.segments is None else batch.segments
        inputs = [batch.ids, batch.lengths, segments]
        if self._masks and batch.positions is not None:
            inputs.append(batch.positions)
        if columns is not None and columns > batch.ids.shape[1]:
            inputs[0] = _widened(batch.ids, columns, self._config.pad_token_id)
            inputs[2] = _widened(segments, columns, 0)
        fill = batch.ids.size <= _FILLED and not self._large
        more = padded_rows(len(batch.ids)) - len(batch.ids) if fill else 0
        if more:  # the last row again: it is as good as any, and its output is dropped
            inputs = [np.concatenate([array, np.repeat(array[-1:], more, axis=0)]) for array in inputs]
        return tuple(np.ascontiguousarray(array, np.int32) for array in inputs)


def _widened(array: npt.NDArray[np.int32], columns: int, value: int) -> npt.NDArray[np.int32]:
    wide = np.full((len(array), columns), value, np.int32)
    wide[:, : array.shape[1]] = array
    return wide


def _rounded(graph: Any) -> int:
    """Return how many matrices of a graph are in 8 bits."""
    kind = load_openvino().Type.i8
    constants = (node for node in graph.get_ordered_ops() if node.get_type_name() == "Constant")
    return sum(node.get_element_type() == kind for node in constants)
