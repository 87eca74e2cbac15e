"""Asks an ASGI app without a socket: every message to and from it is in the test's hands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

JSON = (b"content-type", b"application/json")


@dataclass
class Answer:
    """Status, headers and body of a response; status 0 if none came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """The other end of one request.

    Args:
        parts: of the body, in the order in which they arrive; a number is a pause in seconds.
        leaves: whether it hangs up after the last part, though the body is not at its end.
    """

    def __init__(self, parts: Iterable[bytes | float] = (b"",), *, leaves: bool = False) -> None:
        self._parts = list(parts)
        self._leaves = leaves
        self.gone = asyncio.Event()
        self.taken = 0
        """Messages of the body that were read."""
        self.answer = Answer(0, {}, b"")
        self.complete = False

    async def receive(self) -> dict[str, Any]:
        while self._parts and not isinstance(self._parts[0], bytes):
            await asyncio.sleep(float(self._parts.pop(0)))
        if self._parts:
            self.taken += 1
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts) or self._leaves}
        if self._leaves:
            return {"type": "http.disconnect"}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert self.answer.status == 0, "a second response"
            headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
            assert len(dict(headers)) == len(headers), f"a header twice: {headers}"
            self.answer = Answer(message["status"], dict(headers), b"")
        else:
            self.answer.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)


def scope(
    method: str = "POST", path: str = "/embed", headers: Iterable[tuple[bytes, bytes]] = (JSON,), **more: Any
) -> dict[str, Any]:
    """A request as a server describes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("10.0.0.7", 1234),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


def ask(app: Any, request: dict[str, Any], client: Client | None = None) -> Answer:
    """Send one request and return the answer."""

    async def run() -> Answer:
        other = client or Client()
        await asyncio.wait_for(app(request, other.receive, other.send), 10)
        assert other.complete or other.answer.status == 0
        return other.answer

    return asyncio.run(run())
