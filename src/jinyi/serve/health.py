"""Whether the server lives, and whether it can compute: two questions, as orchestrators ask them.

`/livez` answers 200 as long as the loop turns, unless only a new process can help. `/readyz` (and TEI's `/health` and
`/ping`) has every engine compute a short text, through the queue and the worker, within a time limit: a worker that
hangs turns it red although every process is there. One such check serves all who ask within a second.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from jinyi.serve.problems import DeadlinePassed, NotReady, Overloaded, Problem

if TYPE_CHECKING:
    from jinyi.serve.models import ServedModels
    from jinyi.serve.queue import RowQueue

_FRESH_S = 1.0
_RESTART = "the worker hung or ended and is started again"
_log = logging.getLogger("jinyi.serve")
PROBE = "health"
"""The client the queue sees behind a check."""


class Health:
    """The phase of a server and what its last check found.

    Args:
        timeout_s: what a check may take.

    Attributes:
        phase: "starting", "ready" (to take requests) or "draining".
    """

    def __init__(self, timeout_s: float) -> None:
        self.phase = "starting"
        self._timeout_s = timeout_s
        self._numbers = itertools.count()
        self._checked = float("-inf")
        self._fault = ""
        self._running: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._worker: Callable[[], str] = lambda: "starting"
        self._progress = float("-inf")
        self._compute: Callable[[str], Coroutine[Any, Any, None]] | None = None

    def open(self, models: ServedModels, queue: RowQueue) -> None:
        """Say what a check computes, and let requests in."""

        async def compute(text: str) -> None:
            deadline = time.monotonic() + self._timeout_s
            works = [work for model in models for work in model.works(text)]
            await asyncio.gather(*(queue.compute(work, client=PROBE, deadline=deadline) for work in works))

        self._compute = compute
        self._worker = lambda: queue.snapshot().worker
        self.phase = "ready"

    def computed(self) -> None:
        """Note that the worker has just computed something for somebody."""
        self._progress = time.monotonic()

    def worker_lost(self) -> None:
        """Note that the worker hung or died: a check that waits for it has its answer."""
        self._lost.set()

    async def fault(self) -> str:
        """Return what is wrong with the server; empty if nothing is."""
        if self.phase != "ready":
            return f"the server is {self.phase}"
        if self._worker() == "starting":
            self._note(_RESTART)
        elif time.monotonic() - self._checked >= _FRESH_S or self._fault == _RESTART:
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._check())
            # Shielded: one who asks and leaves does not end the check for the others.
            await asyncio.shield(self._running)
        return self._fault

    async def _check(self) -> None:
        assert self._compute is not None
        begun = time.monotonic()
        self._lost.clear()
        # No two texts are equal: a result that was kept would say nothing about the worker.
        computed = asyncio.create_task(self._compute(f"近义{next(self._numbers)}"))
        lost = asyncio.create_task(self._lost.wait())
        await asyncio.wait((computed, lost), timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        late = not computed.done()
        computed.cancel()
        error = (await asyncio.gather(computed, return_exceptions=True))[0]
        fault = ""
        if self._lost.is_set():
            fault = _RESTART
        elif late or isinstance(error, (Overloaded, DeadlinePassed)):
            if (
                self._progress < begun
            ):  # else it is busy with others, and no other server would help by waiting
                fault = f"the models did not compute a short text within {self._timeout_s:g} s"
        elif isinstance(error, Problem):
            fault = f"the models could not compute a short text: {error.message}"
        elif error is not None:
            raise error
        self._note(fault)

    def _note(self, fault: str) -> None:
        if fault and fault != self._fault:
            _log.warning("not ready: %s", fault)
        elif self._fault and not fault:
            _log.info("ready again")
        self._checked = time.monotonic()
        self._fault = fault


router = APIRouter(tags=["operation"])
_ANSWERS: dict[int | str, dict[str, Any]] = {
    503: {"description": "starting, draining, or the models do not compute"}
}
_DEFECT: dict[int | str, dict[str, Any]] = {
    503: {"description": "nothing computes any more, and only a new process can help"}
}


@router.head("/livez", include_in_schema=False)
@router.get("/livez", response_class=Response, responses=_DEFECT, summary="The process lives")
async def livez(request: Request) -> Response:
    """Answer 200 as long as requests are answered at all and the models may compute again; nothing is computed."""
    defect = request.app.state.queue.defect
    if defect:
        raise NotReady(defect)
    return Response()


@router.head("/readyz", include_in_schema=False)
@router.head("/health", include_in_schema=False)
@router.head("/ping", include_in_schema=False)
@router.get("/readyz", response_class=Response, responses=_ANSWERS, summary="The models compute")
@router.get("/health", response_class=Response, responses=_ANSWERS, summary="The models compute (TEI)")
@router.get("/ping", response_class=Response, responses=_ANSWERS, summary="The models compute (SageMaker)")
async def readyz(request: Request) -> Response:
    """Answer 200 when every model has just computed a short text within the time limit."""
    fault = await request.app.state.health.fault()
    if fault:
        raise NotReady(fault)
    return Response()
