"""The app: settings in, FastAPI out. Door, routes and error shapes are put together here, and models opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from jinyi import __version__
from jinyi.errors import JinyiError
from jinyi.serve import docs, health, page
from jinyi.serve.door import Door
from jinyi.serve.health import Health
from jinyi.serve.logs import AccessLog, LogWriter
from jinyi.serve.metrics import Metrics
from jinyi.serve.opening import Opening
from jinyi.serve.problems import Problem, problem_of
from jinyi.serve.protocols import routers
from jinyi.serve.protocols.shortcut import Shortcut
from jinyi.serve.settings import Settings

_DESCRIPTION = (
    "Chinese sentence vectors, similarity and topics. The routes of TEI, of OpenAI's and Cohere's APIs, and "
    "/v1/classify for topics that the request names. Errors have the shape their clients read."
)
_log = logging.getLogger("jinyi.serve")
_operation = APIRouter(tags=["operation"])


def create_app(
    settings: Settings,
    *,
    log: LogWriter | None = None,
    on_failed: Callable[[BaseException], None] | None = None,
    opening: Opening | None = None,
) -> FastAPI:
    """Build the app; its models are opened when it starts.

    Args:
        settings: what to serve, and the limits.
        log: where a line for each request goes; None writes none.
        on_failed: called in place of raising where the models cannot be opened. With it the app answers from its
            first moment (`/livez` 200, `/readyz` 503), without it only once the models are there.
        opening: of the models, where it has begun already.

    Returns:
        an app with `app.state.settings`, `queue`, `models` (once opened), `health` and `metrics`.
    """
    metrics = Metrics()
    state = Health(settings.ready_timeout_s)

    def observe(event: str, figures: dict[str, float]) -> None:
        metrics.queue_event(event, figures)
        if event == "slab":
            state.computed()
        elif event == "lost":
            state.worker_lost()

    opening = opening or Opening(settings)
    queue = opening.queue
    queue.on_event = observe
    metrics.watch(queue.snapshot, lambda: state.phase == "ready")
    app = _App(
        title="jinyi",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(on_failed),
    )
    app.state.settings, app.state.queue, app.state.health, app.state.metrics = settings, queue, state, metrics
    app.state.opening = opening
    public = (health.router, _operation, docs.router, page.router)
    protected = (*routers(), page.facts)
    for router in (*protected, *public):
        app.include_router(router)
    for kind in (Problem, JinyiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(Shortcut, routers=protected)  # inside of the door, which stands outermost
    app.add_middleware(
        Door,
        settings=settings,
        phase=lambda: state.phase,
        check_room=queue.check_room,
        computing=_paths(protected, "POST"),
        public={*_paths(public, "GET"), "/openapi.json"},
        metrics=metrics,
        access=AccessLog(log, settings.log_level, _paths((health.router, _operation), "GET")),
    )
    if settings.cors_origins:
        # Outside of the door: a browser asks first, without a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["retry-after", "x-request-id", "x-truncated-inputs", "x-compute-tokens"],
        )
    app.add_middleware(_Entrance, app_of=app)
    return app


class _App(FastAPI):
    """FastAPI, whose own outermost layers no POST passes.

    They would take a tenth of a short request's time, and have nothing to do where the door answers for every error.
    """

    entrance: ASGIApp | None = None
    """What stands behind these layers; None until they are built, with the app's first call."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.entrance is None or scope["type"] != "http" or scope["method"] != "POST":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.entrance(scope, receive, send)


class _Entrance:
    """Tells the app what comes next; stands outermost.

    Args:
        app: what comes next.
        app_of: the app to tell.
    """

    def __init__(self, app: ASGIApp, *, app_of: _App) -> None:
        self._next = app_of.entrance = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._next(scope, receive, send)


def _paths(routed: tuple[APIRouter, ...], method: str) -> set[str]:
    return {
        route.path
        for router in routed
        for route in router.routes
        if isinstance(route, APIRoute) and method in (route.methods or ())
    }


def _lifespan(
    on_failed: Callable[[BaseException], None] | None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open(app))
        if on_failed is None:
            await opening
        else:
            opening.add_done_callback(_report(on_failed))
        try:
            yield
        finally:
            app.state.health.phase = "draining"
            opening.cancel()
            await asyncio.wait([opening])
            # Until then the queue has their golden sentences alone, for which nobody waits.
            opened = hasattr(app.state, "models")
            await app.state.queue.close(drain_s=app.state.settings.drain_s if opened else 0.0)

    return lifespan


def _report(on_failed: Callable[[BaseException], None]) -> Callable[[asyncio.Task[None]], None]:
    def done(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            on_failed(error)

    return done


async def _open(app: FastAPI) -> None:
    """Wait for the models, and let requests in."""
    state = app.state
    state.models = await state.opening.models()
    state.health.open(state.models, state.queue)
    _log.info("ready", extra={"models": state.models.names, "open_s": round(state.opening.seconds, 3)})
    # The description is made once, and not while the first who asks for it holds up the loop.
    await asyncio.to_thread(app.openapi)


async def _answer(request: Request, error: Exception) -> Response:
    """Return the response for an error, in the shape of its route."""
    return _problem(error).response(request.url.path)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, JinyiError):
        return problem_of(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return Problem(422, "Validation", f"{where}: {first['msg']}", str(first["loc"][-1]))
    assert isinstance(error, HTTPException)
    words = {404: "no such path; /openapi.json lists those there are", 405: "this path takes another method"}
    text = words.get(error.status_code, str(error.detail))
    return Problem(error.status_code, "Validation", text, headers=error.headers)


@_operation.head("/metrics", include_in_schema=False)
@_operation.get("/metrics", response_class=Response, summary="Prometheus")
async def metrics(request: Request) -> Response:
    """Return the server's metrics in Prometheus' text format."""
    content = request.app.state.metrics.text()
    return Response(content, media_type="text/plain; version=0.0.4")
