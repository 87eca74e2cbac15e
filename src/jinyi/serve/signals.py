"""SIGINT and SIGTERM from the first moment of a start, when nobody is there yet whom they could stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notes the signals that end a server, inside of a `with`.

    Nothing is raised where they happen to arrive: an exception in the middle of an import, or in a callback whose
    errors Python passes over, would be lost or end in a traceback.

    Attributes:
        caught: the signals that came, in their order.
        forward: is called with each; None as long as there is nobody to stop.
    """

    def __init__(self) -> None:
        self.caught: list[int] = []
        self.forward: Callable[[int, FrameType | None], None] | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._note) for number in HANDLED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal` itself has returned

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught.append(number)
        if self.forward is not None:
            self.forward(number, frame)
