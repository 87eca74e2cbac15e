"""What is computed before the server says it is ready: the largest batches, so that memory and kernels are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jinyi.batches import TOKEN_BUDGET

if TYPE_CHECKING:
    from jinyi.serve.models import ServedModel
    from jinyi.serve.queue import RowQueue

WARM_UP = "warm-up"
"""The client the queue sees behind it."""


async def warm_up(models: Iterable[ServedModel], queue: RowQueue, max_batch_tokens: int) -> None:
    """Compute, with every engine, one row of the model's full length, then one full batch of such rows.

    Args:
        models: opened ones.
        queue: that computes.
        max_batch_tokens: of one batch.
    """
    for model in models:
        longest = model.max_length
        engines = [part.engine for work in model.works("好") for part in work.passes]
        most = max_batch_tokens
        if all(engine.info().get("device") == "cpu" for engine in engines):
            most = min(most, TOKEN_BUDGET)  # processors get no larger batches
        for rows in (1, max(1, most // longest)):
            # Of different lengths, as equal rows would be computed once.
            works = [work for row in range(rows) for work in model.works("好" * max(1, longest - row))]
            await asyncio.gather(*(queue.compute(work, client=WARM_UP, bounded=False) for work in works))
