"""One request on its way through the door: who asks, what is answered, how long it takes."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from starlette.types import Message, Receive, Scope, Send

FACTS = MappingProxyType(
    {
        b"x-compute-tokens": "tokens",
        b"x-compute-characters": "characters",
        b"x-truncated-inputs": "truncated",
        b"x-tokenization-time": "tokenization_ms",
        b"x-queue-time": "queue_ms",
        b"x-inference-time": "inference_ms",
    }
)
"""Response headers of the routes that compute, and what log and metrics call them."""

_REQUEST_ID = re.compile(rb"[\w.:+/=-]{1,128}", re.ASCII)


class Left(Exception):
    """The client hung up before its request was whole."""


class Visit:
    """A request and what becomes of it.

    Args:
        scope: of ASGI.
        send: sends the response.

    Attributes:
        path: of the request.
        headers: of the request, names in lower case; of equal names the last.
        announced: bytes of the body by its Content-Length; 0 where it has none.
        state: what handlers see as `request.state`.
        address: of the client; None where it has none.
        client: what the queue is fair to: the key, else the address.
        request_id: the client's own X-Request-Id, or a new one.
        status: of the response; 0 before it.
        begun: whether the response has begun.
        gone: whether the client hung up while the request was computed.
        facts: numbers in the response's headers, by the names of `FACTS`.
    """

    __slots__ = (
        *(
            "_ended",
            "_send",
            "_started",
            "address",
            "announced",
            "begun",
            "client",
            "facts",
            "gone",
            "headers",
        ),
        *("path", "request_id", "scope", "state", "status"),
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self._started = time.perf_counter()
        self._send = send
        self._ended = False
        self.scope = scope
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        announced = self.headers.get(b"content-length", b"0")
        self.announced = int(announced) if announced.isdigit() else 0
        self.address: str | None = scope["client"][0] if scope.get("client") else None
        self.client: Hashable = self.address
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.status = 0
        self.begun = False
        self.gone = False
        self.facts: dict[str, float] = {}
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.state["request_id"] = self.request_id
        self.state["started"] = self._started

    def seconds(self) -> float:
        """Return the time since the request came."""
        return time.perf_counter() - self._started

    async def send(self, message: Message) -> None:
        """Send a part of the response, with the headers every response has."""
        if message["type"] == "http.response.start":
            self.begun = True
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            for name, value in headers:
                fact = FACTS.get(name)
                if fact is not None:
                    self.facts[fact] = int(value) if value.isdigit() else float(value)
            headers.append((b"x-request-id", self.request_id.encode()))
            message["headers"] = headers
        elif not message.get("more_body", False):
            self._ended = True
        await self._send(message)

    async def watch(self, receive: Receive, task: asyncio.Task[Any]) -> None:
        """Cancel a task when the client hangs up.

        Args:
            receive: of ASGI, with the body read.
            task: what computes the request.
        """
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self.gone = True
            task.cancel()


class TimeLimit:
    """Cancels the task it was made in when its time is over."""

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._passed = False
        self._handle = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._passed = True
        self._task.cancel()

    def passed(self) -> bool:
        """Return whether a CancelledError came from here, and take it back."""
        if self._passed and hasattr(self._task, "uncancel"):  # Python 3.11 counts them
            self._task.uncancel()
        return self._passed

    def stop(self) -> None:
        """End the limit."""
        self._handle.cancel()


@contextmanager
def time_limit(seconds: float) -> Iterator[TimeLimit]:
    """Limit the time of what runs inside; cheaper than `asyncio.wait_for`, which makes a task.

    Args:
        seconds: after which the task gets a CancelledError, for which `TimeLimit.passed` is to be asked.
    """
    limit = TimeLimit(seconds)
    try:
        yield limit
    finally:
        limit.stop()
