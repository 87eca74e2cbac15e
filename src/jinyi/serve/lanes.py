"""Where the worker computes: slabs of rows, one after the other, with every fault traced to its row."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch, make_batches
from jinyi.errors import JinyiError
from jinyi.models.work import pick
from jinyi.runtime import Engine, Output
from jinyi.runtime.checks import check_finite
from jinyi.runtime.engine import SMALL_WORK
from jinyi.serve.frames import BULK

Send = Callable[..., None]
# Niceness: half of the time of the server, which must hear and refuse while all cores compute, where both want it; and
# long requests half of the time of short ones.
_GIVES_WAY = {True: 6, False: 3}
_MESSAGE = 300  # characters of an unforeseen error that are passed on


class Slab:
    """Rows that are computed together.

    Args:
        head: "slab" (its number), "lane", "engine", "pad" (padding id), "budget" (tokens of a batch), "shared" (whether
            slabs of other lanes are computed at the same time), "mixed" (whether rows of short requests are in it).
        arrays: lengths int32 [n], splits int32 [n], ids int32 [tokens of all rows], masks int32 [n, m] or [0], and
            int64 [w] of the words whose scores are wanted, if not all.
    """

    def __init__(self, head: dict[str, Any], arrays: Sequence[npt.NDArray[Any]]) -> None:
        self.number: int = head["slab"]
        self.engine: int = head["engine"]
        self.shared: bool = head["shared"]
        self.words = arrays[4] if len(arrays) > 4 else None
        ends = np.cumsum(arrays[0]).tolist()
        ids = arrays[2].tolist()
        self.ids = [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        self.splits = arrays[1].tolist()
        self.masks = arrays[3].tolist() if arrays[3].ndim == 2 else None
        # Short requests come in ever other mixtures: a new shape takes longer than some padding, and memory for
        # good. The many rows of a long one need little padding as they are.
        coarse = True if head["mixed"] else None
        batches = make_batches(self, pad_id=head["pad"], token_budget=head["budget"], coarse=coarse)
        self.batches = {id(batch): batch for batch in batches}
        """Those still to be computed, by their identity."""
        self.left = len(self.ids)
        self.padded = 0
        self.begun = 0.0


@dataclass(eq=False)
class Opened:
    """An engine, and what it was used for."""

    engine: Engine
    used: set[str] = field(default_factory=set)
    """Kinds of work, "few" and "bulk" tokens, whose graph is compiled."""


class Lane:
    """One thread that computes slabs in the order in which they come.

    Args:
        name: `BULK` or another.
        engines: by their numbers.
        send: writes a frame.
    """

    def __init__(self, name: str, engines: Mapping[int, Opened], send: Send) -> None:
        self._name = name
        self._engines = engines
        self._to_server = send
        self._waiting: queue.SimpleQueue[Slab] = queue.SimpleQueue()
        self._next: Slab | None = None
        self._done = 0.0

    def put(self, slab: Slab) -> None:
        """Add a slab; any thread may."""
        self._waiting.put(slab)

    def serve(self) -> None:
        """Compute for ever."""
        # Elsewhere threads have no niceness of their own. Threads of graphs compiled here have this one's.
        if sys.platform == "linux":
            gives_way = _GIVES_WAY[self._name == BULK]
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + gives_way)
        while True:
            slab = self._next or self._waiting.get()
            self._next = None
            self._run(slab)

    def _run(self, first: Slab) -> None:
        """Compute a slab, and those of its engine that come before its last batches are fed."""
        opened = self._engines[first.engine]
        slabs = deque([first])
        owners: dict[int, Slab] = {}
        tokens = 0
        kind = ""  # of work this is, known when the first output comes

        def feed() -> Iterator[Batch]:
            nonlocal tokens
            slab: Slab | None = first
            while slab is not None:
                slab.begun = time.perf_counter()
                for batch in list(slab.batches.values()):
                    if not kind and tokens <= SMALL_WORK < tokens + batch.ids.size:
                        self._announce(opened, "bulk")
                    tokens += batch.ids.size
                    owners[id(batch)] = slab
                    yield batch
                slab = self._following(first.engine)
                if slab is not None:
                    slabs.append(slab)

        if sum(batch.ids.size for batch in first.batches.values()) <= SMALL_WORK:
            self._announce(opened, "few")
        try:
            for batch, output in opened.engine.run(feed(), shared=first.shared):
                if not kind:
                    kind = "bulk" if tokens > SMALL_WORK else "few"
                    opened.used.add(kind)
                self._finish(owners.pop(id(batch)), batch, output)
                while slabs and not slabs[0].left:
                    slabs.popleft()
        except Exception:  # any kind: found again, and told, when its row is alone
            for slab in slabs:
                for batch in list(slab.batches.values()):
                    del slab.batches[id(batch)]
                    self._isolate(opened.engine, slab, batch)

    def _following(self, engine: int) -> Slab | None:
        """Return the next slab if it is there and for the same engine.

        Not on the quick lanes: their slabs stay so small that the engine takes its graphs for few tokens.
        """
        if self._name != BULK:
            return None
        if self._next is None:
            try:
                self._next = self._waiting.get_nowait()
            except queue.Empty:
                return None
        if self._next.engine != engine:
            return None
        slab, self._next = self._next, None
        return slab

    def _announce(self, opened: Opened, kind: str) -> None:
        if kind not in opened.used:
            self._to_server({"kind": "compiling", "lane": self._name})

    def _finish(self, slab: Slab, batch: Batch, output: Output) -> None:
        """Send the outputs of a batch.

        Raises:
            FolderError: they hold NaN or infinity.
        """
        parts = pick(output, slab.words)
        arrays = list(parts) if isinstance(parts, tuple) else [parts]
        for array in arrays:
            check_finite(batch, array)
        slab.batches.pop(id(batch), None)
        slab.padded += batch.ids.size
        self._send("rows", slab, batch.rows, [np.asarray(array, np.float32) for array in arrays])

    def _isolate(self, engine: Engine, slab: Slab, batch: Batch) -> None:
        """Compute a batch in halves, and these in halves, until a row that cannot be computed is alone."""
        error: Exception | None = None
        try:
            for done, output in engine.run([batch]):
                self._finish(slab, done, output)
        except Exception as caught:  # any kind: told to the one request it belongs to
            error = caught
        if error is None:
            return
        if len(batch.rows) == 1:
            self._send("failed", slab, batch.rows, [], error=told(error))
            return
        for half in _halves(batch):
            self._isolate(engine, slab, half)

    def _send(
        self,
        kind: str,
        slab: Slab,
        rows: npt.NDArray[np.int64],
        arrays: list[npt.NDArray[np.float32]],
        **more: Any,
    ) -> None:
        slab.left -= len(rows)
        head = {"kind": kind, "slab": slab.number, **more}
        if slab.left == 0:
            now = time.perf_counter()
            # Where slabs follow each other in one run, the time of one begins when the one before is done.
            head |= {"seconds": now - max(slab.begun, self._done), "padded": slab.padded}
            self._done = now
        self._to_server(head, [rows, *arrays])


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    middle = len(batch.rows) // 2

    def part(rows: slice) -> Batch:
        segments = None if batch.segments is None else batch.segments[rows]
        positions = None if batch.positions is None else batch.positions[rows]
        return Batch(batch.rows[rows], batch.ids[rows], batch.lengths[rows], segments, positions)

    return part(slice(None, middle)), part(slice(middle, None))


def told(error: Exception) -> dict[str, str]:
    """Return an error as JSON: one of jinyi's in its parts, any other in its first words."""
    kind = type(error).__name__
    if isinstance(error, JinyiError):
        parts = {"found": error.found, "expected": error.expected, "fix": error.fix, "where": error.where}
        return {"type": kind, "message": str(error), **parts}
    text = " ".join(str(error).split())[:_MESSAGE]
    return {"type": kind, "message": f"{kind}: {text}" if text else kind}
