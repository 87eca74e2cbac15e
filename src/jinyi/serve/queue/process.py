"""The worker process as the event loop sees it: started, written to, read frame by frame, killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from jinyi.serve.frames import PREFIX, Array, Frame, body_length, pack, unpack

COMMAND = (sys.executable, "-m", "jinyi.serve.worker")


class WorkerProcess(asyncio.SubprocessProtocol):
    """One life of the worker.

    Args:
        on_frame: called with each frame it sends.
        on_end: called once, when it has ended and everything it sent is read, with its exit code.
    """

    def __init__(self, on_frame: Callable[[Frame], None], on_end: Callable[[int | None], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._buffer = bytearray()
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: Any = None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        on_frame: Callable[[Frame], None],
        on_end: Callable[[int | None], None],
    ) -> WorkerProcess:
        """Start the process.

        Args:
            command: program and arguments.
            on_frame: as for the class.
            on_end: as for the class.

        Raises:
            OSError: it cannot be started.
        """
        worker = cls(on_frame, on_end)
        # Standard error is the server's own. A terminal's Ctrl-C is for the server alone, which stops gently.
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(lambda: worker, *command, stderr=None, start_new_session=True)
        return worker

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._transport.get_pid() if self._transport is not None else None

    def send(self, head: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
        """Write a frame; it is dropped if the process is ending."""
        if not self._input.is_closing():
            self._input.write(pack(head, arrays))

    def close_input(self) -> None:
        """Let the process end on its own."""
        self._input.close()

    def kill(self) -> None:
        """End the process now; `on_end` follows."""
        if self._transport is not None and self._transport.get_returncode() is None:
            self._transport.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; called by the loop."""
        # uvloop's has the methods of asyncio's and is none of its children.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._input = self._transport.get_pipe_transport(0)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Cut what was read into frames; called by the loop."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= PREFIX:
            end = PREFIX + body_length(buffer)
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[PREFIX:end])
            del buffer[:end]
            self._on_frame(unpack(body))

    def connection_lost(self, error: BaseException | None) -> None:
        """Tell that the process is gone; called by the loop when it has ended and its pipes are read."""
        transport, self._transport = self._transport, None
        self._on_end(transport.get_returncode() if transport is not None else None)
