"""Uvicorn as it is run here: its app comes late, its end is gentle.

The start is a matter of order: the worker is started, and has models to open, while this process still imports the
app, which takes as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import selectors
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from jinyi.serve.connection import PatientProtocol
from jinyi.serve.logs import LogWriter
from jinyi.serve.opening import Opening
from jinyi.serve.settings import Settings
from jinyi.serve.signals import StopSignals

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

_GRACE_S = 0.3  # requests that were sent before the stop may still lie in their connections
_ACCEPT_S = 2.0
_KEEP_ALIVE_S = 75  # longer than the 60 s of common proxies, who else meet a closed connection
_log = logging.getLogger("jinyi.serve")


class _LateApp:
    """An ASGI app that is made when the server's loop turns.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Awaitable[FastAPI]]) -> None:
        self._make = make
        self.app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the app for the first that comes, which is the server that starts it, and hand everything on."""
        if self.app is None:
            self.app = await self._make()
        await self.app(scope, receive, send)

    def phase(self) -> str:
        """Return the phase of its health."""
        return self.app.state.health.phase if self.app is not None else "starting"

    def drain(self) -> None:
        """Take no more requests."""
        if self.app is not None:
            self.app.state.health.phase = "draining"


def _app_factory() -> Callable[..., FastAPI]:
    from jinyi.serve.app import create_app

    return create_app


def run(settings: Settings, listener: socket.socket, log: LogWriter, signals: StopSignals) -> None:
    """Serve on a socket that listens, until a signal comes.

    Args:
        settings: what is served, with which limits.
        listener: the socket.
        log: where a line for each request goes.
        signals: noted ones.

    Raises:
        JinyiError: a model is not there or damaged.
    """
    failed: list[BaseException] = []

    async def make() -> FastAPI:
        try:
            opening = Opening(settings)
            await opening.begin()
            create_app = await asyncio.to_thread(_app_factory)  # half a second
            return create_app(settings, log=log, on_failed=failed.append, opening=opening)
        except Exception as error:
            failed.append(error)
            raise

    late = _LateApp(make)

    class Protocol(PatientProtocol):
        header_timeout_s = settings.body_timeout_s

    class Server(uvicorn.Server):
        """Uvicorn's server; it stops when the models cannot be opened, and leaves no request unread."""

        frozen = False

        async def on_tick(self, counter: int) -> bool:
            if not self.frozen and late.phase() == "ready":
                # What is there now stays: the collector need not walk through it while requests wait.
                self.frozen = True
                gc.collect()
                gc.freeze()
            return await super().on_tick(counter) or bool(failed)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            _log.info("stopping", extra={"in_flight": len(self.server_state.tasks)})
            if not failed:
                # Whoever has connected already is let in, and has a moment to be heard.
                await _until_idle(listener)
                for server in self.servers:
                    server.close()
                await asyncio.sleep(_GRACE_S)
            late.drain()
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            super().handle_exit(sig, frame)

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are noted since long before

    config = uvicorn.Config(
        late,
        http=Protocol,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_s)),
    )
    server = Server(config)
    _announce(settings, listener)
    signals.forward = server.handle_exit
    if not signals.caught:
        try:
            server.run(sockets=[listener])
        except SystemExit:  # uvicorn's, where the app could not be made
            if not failed:
                raise
    if failed:
        raise failed[0]


def _announce(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log.info("listening on http://%s:%d", shown, port)
    if not settings.loopback and not settings.api_keys:
        _log.warning("no API key: whoever reaches this address may use the server; set JINYI_API_KEY")


async def _until_idle(listener: socket.socket) -> None:
    """Wait until no connection waits to be taken from a listening socket, at most a few seconds."""
    end = time.monotonic() + _ACCEPT_S
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while selector.select(0) and time.monotonic() < end:
            await asyncio.sleep(0.01)
