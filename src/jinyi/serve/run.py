"""The server as a process: address, logs, signals, exit codes.

SIGTERM (and Ctrl-C) stops it gently: no new connections, what is in flight is answered, then the worker ends and the
exit code is 0. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import math
import selectors
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

from jinyi.errors import InputError, MissingExtraError
from jinyi.registry import default_model, find_model
from jinyi.serve.settings import TASKS, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

EXTRA = ("fastapi", "uvicorn", "orjson", "prometheus_client")
_GRACE_S = 0.3  # requests that were sent before the stop may still lie in their connections
_ACCEPT_S = 2.0
_KEEP_ALIVE_S = 75  # longer than the 60 s of common proxies, who else meet a closed connection
_log = logging.getLogger("jinyi.serve")


def serve(settings: Settings) -> None:
    """Serve until a signal ends it.

    Args:
        settings: what is served, where, with which limits.

    Raises:
        JinyiError: the address is taken, a model is not there or damaged; before or shortly after the start.
        MissingExtraError: the extra `serve` is not installed.
    """
    check_extra()
    for name in [model.source for model in settings.models] or map(default_model, TASKS):
        find_model(name)
    listener = _listen(settings)
    # Only now: these take half a second to import.
    from jinyi.serve.app import create_app
    from jinyi.serve.logs import set_up

    log = set_up(settings)
    try:
        failed: list[BaseException] = []
        app = create_app(settings, log=log, on_failed=failed.append)
        _run(app, settings, listener, failed)
        if failed:
            raise failed[0]
        _log.info("stopped")
    finally:
        log.close()


def check_extra() -> None:
    """Raise MissingExtraError where a package of the extra `serve` is not installed."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            found=f"no {', '.join(missing)}",
            expected="the packages of the server",
            fix='Install them with: pip install "jinyi[serve]"',
            where="jinyi serve",
        )


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen()  # now, as two that are bound and do not listen can share a port
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            found=str(error),
            expected="an address of this machine with a free port",
            fix="Choose another --port (0 takes a free one) or another --host.",
            where=f"{settings.host}:{settings.port}",
        ) from error
    listener.setblocking(False)
    return listener


def _announce(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log.info("listening on http://%s:%d", shown, port)
    if not settings.loopback and not settings.api_keys:
        _log.warning("no API key: whoever reaches this address may use the server; set JINYI_API_KEY")


def _run(app: FastAPI, settings: Settings, listener: socket.socket, failed: list[BaseException]) -> None:
    import uvicorn

    from jinyi.serve.connection import PatientProtocol

    class Protocol(PatientProtocol):
        header_timeout_s = settings.body_timeout_s

    class Server(uvicorn.Server):
        """Uvicorn's server; it stops when the models cannot be opened, and leaves no request unread."""

        frozen = False

        async def on_tick(self, counter: int) -> bool:
            if not self.frozen and app.state.health.phase == "ready":
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
            app.state.health.phase = "draining"
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=Protocol,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_s)),
    )
    # Uvicorn listens to signals a little later than this, and raises those it caught once more when it is done.
    server = Server(config)
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    _announce(settings, listener)
    try:
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


async def _until_idle(listener: socket.socket) -> None:
    """Wait until no connection waits to be taken from a listening socket, at most a few seconds."""
    end = time.monotonic() + _ACCEPT_S
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while selector.select(0) and time.monotonic() < end:
            await asyncio.sleep(0.01)
