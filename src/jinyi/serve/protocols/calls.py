"""One request on its way: tokens off the loop, rows through the queue, the answer with what it cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from jinyi.errors import InputError
from jinyi.models.work import Work
from jinyi.serve.models import Operation, ServedModel
from jinyi.serve.problems import DeadlinePassed, Invalid
from jinyi.serve.protocols.blocks import MANY, Rows, dumps, numbers_in, row_blocks, written
from jinyi.tokens import TruncationReport

_INLINE = 1000
"""Characters that are tokenised on the loop: a thread would take longer to wake than that takes (0.3 ms)."""

TOKENISING_THREADS = 2

_pool = ThreadPoolExecutor(TOKENISING_THREADS, thread_name_prefix="tokens")


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a request's rows.

    Args:
        results: what the work's `finish` gave.
        report: which inputs were cut.
        tokens: ids that were computed, control tokens included.
        headers: what the client is told about it.
    """

    results: Any
    report: TruncationReport
    tokens: int
    headers: dict[str, str]

    @property
    def truncated(self) -> list[dict[str, int]]:
        """The inputs that were cut, and how many tokens of each were not read."""
        rows, lost = self.report.rows.tolist(), self.report.lost.tolist()
        return [{"index": row, "tokens_lost": cut} for row, cut in zip(rows, lost, strict=True)]

    @property
    def usage(self) -> dict[str, int]:
        """The tokens, as OpenAI counts them."""
        return {"prompt_tokens": self.tokens, "total_tokens": self.tokens}


def choose(request: Request, operation: Operation, name: str | None = None) -> ServedModel:
    """Return the model that answers, and note its name for the log.

    Raises:
        Problem: no such model, or none for this.
    """
    model: ServedModel = request.app.state.models.choose(operation, name)
    request.state.model = model.name
    return model


async def compute(
    request: Request, prepare: Callable[[], Work], characters: int, rows: int, *, extra: int = 0
) -> Done:
    """Make tokens, have them computed, and count what it cost.

    Args:
        request: which one, for the client it comes from and its deadline.
        prepare: makes the work; may raise InputError.
        characters: in all texts.
        rows: inputs, for the log.
        extra: what preparing takes besides reading these characters, in characters.

    Raises:
        Problem: the input cannot be used, the server has no room, the time is over, the model failed.
    """
    start = getattr(request.state, "started", time.perf_counter())
    request.state.rows = rows
    received = time.perf_counter()
    work = await off_loop(prepare, characters + extra)
    tokenised = time.perf_counter()
    results, timings = await request.app.state.queue.compute(
        work, client=getattr(request.state, "client", None), deadline=getattr(request.state, "deadline", None)
    )
    end = time.perf_counter()
    headers = {
        "x-compute-type": request.app.state.settings.device,
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(work.tokens),
        "x-compute-time": _ms(end - received),
        "x-total-time": _ms(end - start),
        "x-tokenization-time": _ms(tokenised - received),
        "x-queue-time": _ms(timings.queue_s),
        "x-inference-time": _ms(timings.inference_s),
        "x-truncated-inputs": str(work.report.cut),
    }
    return Done(results, work.report, work.tokens, headers)


async def in_time(request: Request, doing: Awaitable[None]) -> None:
    """Wait for something, at most until the request's deadline.

    Raises:
        DeadlinePassed: it was not done by then.
    """
    deadline = getattr(request.state, "deadline", None)
    try:
        await asyncio.wait_for(doing, None if deadline is None else deadline - time.monotonic())
    except asyncio.TimeoutError:
        raise DeadlinePassed from None


async def off_loop(function: Callable[[], Any], characters: int) -> Any:
    """Return what a function of so many characters gives, without holding the loop up.

    Raises:
        Problem: a text is too long where none may be cut.
        InputError: as the function.
    """
    try:
        if characters <= _INLINE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(_pool, function)
    except InputError as error:
        if not error.rows:
            raise
        raise Invalid(
            f"{error.where}: found {error.found}; expected {error.expected}. Shorten the texts, or send "
            "truncate: true to have them cut."
        ) from None


def answer(content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response; arrays of numpy may stand in `content`."""
    return Response(dumps(content), headers=headers, media_type="application/json")


def answer_rows(rows: Rows, headers: Mapping[str, str]) -> Response:
    """Return rows of numbers as a JSON response: in blocks where they are many."""
    return answer(rows, headers) if numbers_in(rows) <= MANY else written(row_blocks(rows), headers)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f}"
