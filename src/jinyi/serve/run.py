"""The server as a process: address, logs, signals, exit codes.

SIGTERM (and Ctrl-C) stops it gently: no new connections, what is in flight is answered, then the worker ends and the
exit code is 0. A second signal stops at once.
"""

from __future__ import annotations

import importlib.util
import logging
import signal
import socket
import sys

from jinyi.errors import InputError, MissingExtraError
from jinyi.serve.settings import TASKS, Settings
from jinyi.serve.signals import StopSignals

EXTRA = ("fastapi", "uvicorn", "orjson", "prometheus_client")
_log = logging.getLogger("jinyi.serve")


def serve(settings: Settings) -> None:
    """Serve until a signal ends it.

    Args:
        settings: what is served, where, with which limits.

    Raises:
        JinyiError: the address is taken, a model is not there or damaged; before or shortly after the start.
        MissingExtraError: the extra `serve` is not installed.
        KeyboardInterrupt: SIGINT has stopped it.
    """
    with StopSignals() as signals:
        check_extra()
        # All this takes a second to import, which is no time to be without an ear for signals.
        from jinyi.registry import default_model, find_model

        for name in [model.source for model in settings.models] or map(default_model, TASKS):
            find_model(name)
        with _listen(settings) as listener:
            from jinyi.serve.logs import set_up
            from jinyi.serve.server import run

            log = set_up(settings)
            try:
                if not signals.caught:
                    run(settings, listener, log, signals)
                if signal.SIGINT in signals.caught:
                    raise KeyboardInterrupt
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
