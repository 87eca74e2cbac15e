"""A whole app on a loop of its own, with its worker process, asked without a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from jinyi.serve.app import create_app
from jinyi.serve.logs import LogWriter
from jinyi.serve.settings import Settings
from serve_asgi import JSON, Answer, Client, scope


class RunningApp:
    """An app that has started; its loop turns in a thread."""

    def __init__(self, settings: Settings, log: LogWriter | None = None) -> None:
        self.app = create_app(settings, log=log)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._lifespan = self.app.router.lifespan_context(self.app)
        try:
            self.do(self._lifespan.__aenter__(), 60)
        except BaseException:
            self._end()
            raise

    def do(self, doing: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        """Run something on the loop and return what it gives."""
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(seconds)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request: anything as JSON, bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = [JSON] if body is not None else []
        sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return self.do(self._ask(scope(method, path, sent, app=self.app), Client([content])))

    async def _ask(self, request: dict[str, Any], client: Client) -> Answer:
        await self.app(request, client.receive, client.send)
        return client.answer

    def close(self) -> None:
        self.do(self._lifespan.__aexit__(None, None, None))
        self._end()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@contextmanager
def running_app(settings: Settings, log: LogWriter | None = None) -> Iterator[RunningApp]:
    """Start an app, and stop it afterwards."""
    running = RunningApp(settings, log)
    try:
        yield running
    finally:
        running.close()
