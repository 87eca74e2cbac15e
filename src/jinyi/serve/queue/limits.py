"""What is set about a queue, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jinyi.batches import TOKEN_BUDGET

Observer = Callable[[str, dict[str, float]], None]
"""Told of each event by its name, with figures:

- "slab": rows computed together: rows, tokens, padded (tokens with padding), seconds;
- "request": a request was let in: rows, and of these cached (kept from before), shared (others had asked for them);
- "refused", "late", "left": a request that found no room, passed its deadline, was given up by its client;
- "failed": rows that could not be computed: rows;
- "lost": the worker ended or hung: rows (that it had).
"""


@dataclass(frozen=True)
class QueueLimits:
    """Bounds of a queue.

    Args:
        batch_tokens: most tokens of a batch, padding included; slow models get smaller ones.
        max_waiting_tokens: tokens that may wait; with so many, new work is refused.
        max_wait_s: new work that would take longer behind what is there already, as estimated, is refused.
        hang_s: a batch that lasts this much longer than it should is taken for hung.
        compile_s: what the first batch of a kind may last longer.
        open_s: what opening an engine may last; it is tried three times.
        retry_s: pauses after which a model that could not be opened again is tried once more; the last one lasts.
        cache_bytes: memory for outputs of rows seen before; 0 keeps none.
    """

    batch_tokens: int = TOKEN_BUDGET
    max_waiting_tokens: int = 4_000_000
    max_wait_s: float = 5.0
    hang_s: float = 3.0
    compile_s: float = 60.0
    open_s: float = 300.0
    retry_s: tuple[float, ...] = (60.0, 120.0, 300.0)
    cache_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """What a work took.

    Args:
        queue_s: until its first row went to the worker.
        inference_s: from then on, until its last row was there.
        rows: rows it needed.
        tokens: tokens in these.
        cached_rows: rows whose outputs were kept from before.
    """

    queue_s: float
    inference_s: float
    rows: int
    tokens: int
    cached_rows: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A queue at one moment.

    Args:
        requests: works that are not done.
        waiting_rows: rows that wait, equal ones once.
        waiting_tokens: tokens in these.
        running_rows: rows the worker has.
        running_tokens: tokens in these.
        worker: "starting", "ready" or "down".
        restarts: how often the worker was started again.
        tokens_per_second: as measured over the last slabs of some size; 0 before.
        wait_s: what a short request would wait, as estimated.
        cache_rows: outputs kept.
        cache_bytes: memory they take.
        faults: why engines cannot be opened (any more), by the path of the folder.
    """

    requests: int
    waiting_rows: int
    waiting_tokens: int
    running_rows: int
    running_tokens: int
    worker: str
    restarts: int
    tokens_per_second: float
    wait_s: float
    cache_rows: int = 0
    cache_bytes: int = 0
    faults: dict[str, str] = field(default_factory=dict)
