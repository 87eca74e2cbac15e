"""Logs: one JSON object a line (or plain text on a terminal) on standard error, never a user's text.

Lines are written by a thread of their own: a reader of standard error that has stopped reading must not stop the
server. A request's line holds its route, status, times and counts; the path only where it is a route, as anything may
stand in the path of other requests.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Collection
from datetime import datetime, timezone
from typing import IO, Any

import orjson

from jinyi.serve.settings import LOG_LEVELS, Settings
from jinyi.serve.visit import Visit

_MOST_LINES = 20_000
_FLUSH_S = 0.2
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class LogWriter:
    """Writes lines in the background.

    Args:
        stream: binary; where the lines go.
        text: plain lines for people in place of JSON.
    """

    def __init__(self, stream: IO[bytes], *, text: bool) -> None:
        self._stream = stream
        self._text = text
        self._lines: deque[dict[str, Any]] = deque(maxlen=_MOST_LINES)
        self._lost = 0
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="jinyi-log", daemon=True)
        self._thread.start()

    def put(self, line: dict[str, Any], *, at_once: bool = False) -> None:
        """Take a line: "time" (seconds since 1970), "level", "message" and whatever else it says.

        Args:
            line: what to write.
            at_once: now, and not with others a little later.
        """
        if len(self._lines) == _MOST_LINES:
            self._lost += 1
        self._lines.append(line)
        if at_once:
            self._wake.set()

    def close(self) -> None:
        """Write what is left, within a second, and end."""
        self._stop = True
        self._wake.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            stopped = self._stop
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            lost, self._lost = self._lost, 0
            if lost:
                lines.append({"time": time.time(), "level": "warning", "message": f"{lost} log lines lost"})
            if lines:
                self._stream.write(b"".join(map(self._plain if self._text else _json, lines)))
                self._stream.flush()

    def _plain(self, line: dict[str, Any]) -> bytes:
        clock = datetime.fromtimestamp(line["time"]).strftime("%H:%M:%S")
        rest = (f"{name}={value}" for name, value in line.items() if name not in ("time", "level", "message"))
        return (" ".join((clock, f"{line['level']:<7}", line["message"], *rest)) + "\n").encode(
            "utf-8", "replace"
        )


def _json(line: dict[str, Any]) -> bytes:
    stamp = datetime.fromtimestamp(line["time"], timezone.utc).isoformat(timespec="milliseconds")
    line = {**line, "time": stamp}
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # half a surrogate pair, as in a file's name, or a very large number
        return (json.dumps(line, default=str) + "\n").encode("ascii")


class _Handler(logging.Handler):
    """Gives records of Python's logging to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        line = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        line["logger"] = record.name
        line.update((name, value) for name, value in vars(record).items() if name not in _OWN)
        if record.exc_info and record.exc_info[0] is not None:
            # Not the error's message, which may quote a user's text.
            line["error"] = record.exc_info[0].__name__
            line["frames"] = self._frames(record)
        self._writer.put(line, at_once=True)

    @staticmethod
    def _frames(record: logging.LogRecord) -> list[str]:
        trace = record.exc_info[2] if record.exc_info else None
        frames = []
        while trace is not None:
            frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
            trace = trace.tb_next
        return frames


class AccessLog:
    """A line for each request.

    Args:
        writer: where it goes; None writes none.
        level: lines below it are not written.
        quiet: paths whose requests are of level debug whatever comes of them: those that are asked all the time.
    """

    def __init__(self, writer: LogWriter | None, level: str = "info", quiet: Collection[str] = ()) -> None:
        self._writer = writer
        self._written = frozenset(LOG_LEVELS[LOG_LEVELS.index(level) :])
        self._quiet = frozenset(quiet)

    def write(self, route: str, visit: Visit, seconds: float) -> None:
        """Write what a request was and became.

        Args:
            route: the path, where it is one of the server's.
            visit: the request.
            seconds: it took.
        """
        level = "debug" if route in self._quiet else "info" if visit.status < 500 else "warning"
        if self._writer is None or level not in self._written:
            return
        line: dict[str, Any] = {
            "time": time.time(),
            "level": level,
            "message": "request",
            "method": visit.scope["method"],
            "route": route,
            "status": visit.status,
            "ms": round(seconds * 1000, 2),
            "request_id": visit.request_id,
            "client": visit.address,
        }
        for name in ("model", "rows"):
            if name in visit.state:
                line[name] = visit.state[name]
        line.update(visit.facts)
        self._writer.put(line)


def set_up(settings: Settings) -> LogWriter:
    """Send Python's logging, uvicorn's lines included, to standard error.

    Args:
        settings: level and format.

    Returns:
        the writer, to be closed at the end.
    """
    stream = sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    writer = LogWriter(stream.buffer, text=text)
    handler = _Handler(writer)
    for name in ("jinyi", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(settings.log_level.upper())
    # Its lines tell of sockets and lifespans; requests and the server's phases have lines of their own.
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    return writer
