"""Connections that say nothing, or say it drop by drop: uvicorn waits for headers for ever, the server does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:  # one of two classes, as installed
    _Base: Any = object
else:
    _Base = AutoHTTPProtocol


class PatientProtocol(_Base):  # type: ignore[misc]
    """Uvicorn's protocol, which closes a connection whose headers are not whole in time.

    Attributes:
        header_timeout_s: for a first request after connecting, and for each next one from its first byte.
    """

    header_timeout_s = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a request; called by the loop."""
        super().connection_made(transport)
        self._waits: asyncio.TimerHandle | None = None
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and go on waiting if it was no whole head; called by the loop."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        elif self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def connection_lost(self, error: Exception | None) -> None:
        """Stop waiting; called by the loop."""
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(error)

    def _wait(self) -> None:
        if self._waits is None:
            self._waits = self.loop.call_later(self.header_timeout_s, self.transport.close)
