"""Engines of the worker, as the server knows them and as models use them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jinyi import errors
from jinyi.batches import TOKEN_BUDGET, Batch
from jinyi.errors import FolderError, JinyiError
from jinyi.models.source import Source
from jinyi.models.work import Pass, RowOutputs, Work
from jinyi.runtime import Head, Output
from jinyi.serve.frames import Array
from jinyi.tokens import Encoded, TruncationReport

if TYPE_CHECKING:
    from jinyi.serve.queue.queue import RowQueue

_FORGET_S = 2.0
_LEAST_BATCH = 256
_BATCH_S = 0.1
_RATE_FROM = 256  # tokens: the time of smaller slabs says little about many


@dataclass(frozen=True, slots=True)
class _Sums:
    """Fading sums, so that their ratio is the speed of now."""

    tokens: float = 0.0
    seconds: float = 0.0
    at: float = -math.inf


class EngineRecord:
    """One engine of the worker.

    Args:
        number: what the worker knows it by.
        path: of its folder.
        frame: has the worker open it; see `opening`.
        opened: set when the worker has opened it for the first time, or to why it cannot.
    """

    def __init__(
        self,
        number: int,
        path: str,
        frame: tuple[dict[str, Any], list[Array]],
        opened: asyncio.Future[None],
    ) -> None:
        self.number = number
        self.path = path
        self.frame = ({**frame[0], "engine": number}, frame[1])
        self.opened = opened
        self.ready = False
        self.tries = 0
        """Lives of the worker that ended while it was being opened."""
        self.fault = ""
        """Why the worker cannot open it any more; empty again when it could after all."""
        self.given_up = 0
        """How often in a row that came out."""
        self.retry_at = math.inf
        """When it is tried once more, on the clock of `time.monotonic`."""
        self.retrying = False
        """Whether the worker tries now."""
        self.info: dict[str, Any] = {}
        self.precision = ""
        self.rate = 0.0
        """Tokens per second where there are many; 0 before it was measured."""
        self._quick = _Sums()
        self.pace = 0.0
        """Tokens per second over slabs of any size, which are slower if they are small."""
        self.short_tokens = 0
        """Waiting tokens of short requests."""
        self.quick_tokens = 0
        """Tokens on the lanes for these."""
        self.long_tokens = 0
        """Waiting tokens of long requests."""
        self.long_requests = 0

    @property
    def wanted(self) -> bool:
        """Whether the worker is to have it open, or to open it now."""
        return self.retrying or not self.fault

    @property
    def streams(self) -> int:
        """Batches the engine computes at a time, each on one core; 1: one has all."""
        return int(self.info.get("streams", 1))

    def batch_tokens(self, most: int) -> int:
        """Return the tokens of a batch: fewer for slow models, so that no batch holds others up for long.

        Args:
            most: as set; processors compute more than `TOKEN_BUDGET` at once no faster.
        """
        if self.info.get("device") == "cpu":
            most = min(most, TOKEN_BUDGET)
        if not self.rate:
            return most
        return max(min(most, int(self.rate * _BATCH_S)), min(most, _LEAST_BATCH))

    def slab_tokens(self, most: int) -> int:
        """Return the tokens of a slab: a few batches for each of the engine's streams."""
        return self.batch_tokens(most) * max(2, self.streams)

    def measured(self, tokens: int, seconds: float) -> None:
        """Take note of what a slab took."""
        now = tokens / seconds
        self.pace += 0.2 * (now - self.pace) if self.pace else now
        if tokens >= _RATE_FROM:
            self.rate += 0.2 * (now - self.rate) if self.rate else now

    def measured_quick(self, tokens: int, seconds: float) -> None:
        """Take note of how long it took, beside other slabs, until one of short requests was done.

        Args:
            tokens: of this one.
            seconds: since the one before was done, on whatever lane.
        """
        now = time.monotonic()
        if now - self._quick.at > _FORGET_S:
            self._quick = _Sums()
        # Over many, as two that end together say nothing one by one.
        self._quick = _Sums(0.95 * self._quick.tokens + tokens, 0.95 * self._quick.seconds + seconds, now)

    @property
    def quick_rate(self) -> float:
        """Tokens per second of short requests where there are many; 0 where it was not measured lately."""
        # A pause of the machine would count for ever, if it were not forgotten: what is refused is not measured.
        fresh = time.monotonic() - self._quick.at <= _FORGET_S
        return self._quick.tokens / self._quick.seconds if fresh and self._quick.seconds else 0.0


class QueuedEngine:
    """An engine in the worker; see `jinyi.runtime.Engine`.

    A server awaits `RowQueue.compute` with the work of a model whose engines are of this kind. `run` is for what
    happens in threads: golden sentences, and calls of the models' own methods.
    """

    def __init__(self, queue: RowQueue, record: EngineRecord, pad_id: int) -> None:
        self.record = record
        self.precision = record.precision
        self._queue = queue
        self._pad_id = pad_id

    def info(self) -> dict[str, Any]:
        """Return what runs where; see `jinyi.runtime.Engine.info`."""
        return dict(self.record.info)

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        """Yield each batch with its output, computed in the worker beside the rows of others.

        Blocks, so it may not be called from the event loop's own thread.

        Raises:
            RuntimeError: called from there.
            Problem: a row cannot be computed.
        """
        for batch in batches:
            yield batch, _padded(self._queue.compute_here(self._work(batch)), batch)

    def _work(self, batch: Batch) -> Work:
        rows, lengths = len(batch.rows), batch.lengths.tolist()
        ids = [batch.ids[row, :length].tolist() for row, length in enumerate(lengths)]
        splits = lengths
        if batch.segments is not None:
            splits = [int((batch.segments[row, :length] == 0).sum()) for row, length in enumerate(lengths)]
        masks = None if batch.positions is None else batch.positions.tolist()
        nothing = np.empty(0, np.int64)
        report = TruncationReport(rows, nothing, nothing)
        encoded = Encoded(ids, splits, masks, np.arange(rows), report)
        return Work((Pass(self, encoded, self._pad_id),), _first, report)


def _first(outputs: list[RowOutputs]) -> RowOutputs:
    return outputs[0]


def _padded(output: RowOutputs, batch: Batch) -> Output:
    if not isinstance(output, list):
        return output
    states = np.zeros((*batch.ids.shape, output[0].shape[1]), np.float32)
    for row, state in enumerate(output):
        states[row, : len(state)] = state
    return states


def opening(source: Source, head: Head) -> tuple[dict[str, Any], list[Array]]:
    """Return the frame that has the worker open an engine; `jinyi.serve.worker` reads it."""
    _, (model, options, fingerprint) = source.__reduce__()
    arrays: list[Array] = []
    if head.label_ids is not None:
        arrays.append(np.asarray(head.label_ids, np.int64))
    for weight, bias in head.dense:
        arrays += [np.asarray(part, np.float32) for part in (weight, bias) if part is not None]
    body = {
        "kind": head.kind,
        "pooling": head.pooling,
        "normalize": head.normalize,
        "log_normalizer": head.log_normalizer,
        "label_ids": head.label_ids is not None,
        "dense": [bias is not None for _, bias in head.dense],
    }
    told = {"model": model, "options": options, "fingerprint": fingerprint}
    return {"kind": "open", "model": told, "head": body}, arrays


def error_of(told: dict[str, str], where: str) -> JinyiError:
    """Return the error that the worker told of as one of this process.

    Args:
        told: from `jinyi.serve.lanes.told`.
        where: the folder, for errors that do not say.
    """
    kind = getattr(errors, told["type"], None)
    if "found" in told and isinstance(kind, type) and issubclass(kind, JinyiError):
        return kind(found=told["found"], expected=told["expected"], fix=told["fix"], where=told["where"])
    return FolderError(
        found=told["message"],
        expected="a model that can be computed",
        fix="Try the model in Python, which shows where it happens.",
        where=where,
    )
