"""Requests to an HTTP server at a known load, from one process that takes as little of the processor as it can.

    python load.py < SPEC > RESULT

SPEC is a JSON object: {"port", "seconds", "warm_up", "groups": [GROUP]}. GROUP is one kind of client:

    name         of the group in RESULT
    path         of the URL
    bodies       file with one request body a line
    clients      closed loop: so many clients, each sends its next request when the last one is answered
    rate         open loop: so many requests a second on average, at random times (Poisson), whatever the server does
    pause        closed loop: seconds a client rests between answer and next request (0)
    source       address to connect from (127.0.0.1); 127.0.0.2 is another client to the server
    seed         of the random times (0)

RESULT has for each group how many requests ended in each status, and the latencies of those that were *due* after
the warm-up. In the open loop a latency counts from the time at which the request was due, not from when it could be
sent: a server that stands still is charged for all who came meanwhile. HTTP/1.1 with kept connections, one request at a
time on each; a request that finds all connections busy opens a new one. Standard library alone, no asyncio: one
selector, requests made in advance, bodies of answers counted and thrown away.
"""

from __future__ import annotations

import json
import random
import resource
import select
import selectors
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
GRACE = 10.0  # seconds that answers may take after the end of the run
MOST_CONNECTIONS = 4000
SOON = 0.01  # seconds within which a refusal should be told: RESULT has the share of answers that were
CHUNKS_END = b"\r\n0\r\n\r\n"
HEAD = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Connection:
    """A kept connection with at most one request on its way."""

    __slots__ = ("chunked", "closes", "due", "group", "left", "socket", "status", "tail", "unsent")

    def __init__(self, port: int, group: Group) -> None:
        self.group = group
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((group.source, 0))
        self.socket.connect((HOST, port))
        self.socket.setblocking(False)
        self.unsent = b""
        self.closes = False
        self.forget()

    def forget(self) -> None:
        """Be ready for the next request."""
        self.due = 0.0
        self.status = 0
        self.left = -1
        self.chunked = False
        self.tail = b""

    def send(self, request: bytes, due: float) -> bool:
        """Send a request, or as much of it as goes now; returns whether all of it went."""
        self.due = due
        try:
            sent = self.socket.send(request)
        except BlockingIOError:
            sent = 0
        self.unsent = request[sent:]
        return not self.unsent

    def send_rest(self) -> bool:
        """Send more of a large request; returns whether all of it went."""
        sent = self.socket.send(self.unsent)
        self.unsent = self.unsent[sent:]
        return not self.unsent

    def receive(self) -> bool:
        """Take what has come; returns whether the answer is complete."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError
        if self.chunked:
            return self.ends(data)
        if self.left >= 0:
            self.left -= len(data)
            return self.left <= 0
        data = self.tail + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.tail = data
            return False
        head = data[:end].lower()
        self.status = int(head[9:12])
        self.closes = b"\r\nconnection: close" in head
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            if b"\r\ntransfer-encoding: chunked" not in head:
                raise SystemExit(f"an answer of unknown length: {head!r}")
            self.chunked, self.tail = True, b""
            return self.ends(data[end + 4 :])
        self.left = int(head[at + 17 :].split(b"\r\n", 1)[0]) - (len(data) - end - 4)
        return self.left <= 0

    def ends(self, data: bytes) -> bool:
        """Take more of an answer in chunks; returns whether the empty one that ends it is there."""
        self.tail = (self.tail + data[-len(CHUNKS_END) :])[-len(CHUNKS_END) :]
        return self.tail == CHUNKS_END


class Group:
    """One kind of client and what became of its requests."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.source: str = spec.get("source", HOST)
        self.clients: int = spec.get("clients", 0)
        self.rate: float = spec.get("rate", 0.0)
        self.pause: float = spec.get("pause", 0.0)
        self.random = random.Random(spec.get("seed", 0))
        path = spec["path"].encode()
        bodies = Path(spec["bodies"]).read_bytes().splitlines()
        self.requests = [HEAD % (path, len(body)) + body for body in bodies]
        self.sent = 0
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.due: list[float] = []
        self.latency: list[float] = []
        self.status: list[int] = []

    def next_request(self) -> bytes:
        """The requests in turn."""
        request = self.requests[self.sent % len(self.requests)]
        self.sent += 1
        return request


class Load:
    """The run."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.port: int = spec["port"]
        self.seconds: float = spec["seconds"]
        self.warm_up: float = spec["warm_up"]
        self.groups = [Group(group) for group in spec["groups"]]
        self.selector = selectors.DefaultSelector()
        self.connections = 0
        self.flying = 0
        self.late = 0.0  # the longest time by which this process sent a request after it was due

    def run(self) -> dict[str, Any]:
        """Send and receive until the time is up and every answer is there."""
        begin = time.perf_counter()
        end = begin + self.seconds
        timers: list[tuple[float, Group]] = []  # few: one a group of the open loop, one a resting client
        for group in self.groups:
            for _ in range(group.clients):
                self._send(group, begin)
            if group.rate:
                timers.append((begin + group.random.expovariate(group.rate), group))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        while True:
            now = time.perf_counter()
            if now >= end and not self.flying:
                break
            if now >= end + GRACE:
                break
            waits = [due for due, _ in timers if due < end]
            wait = min([*waits, end if now < end else end + GRACE]) - now
            if wait > 0:
                # A selector's own timeout is rounded to milliseconds; select's on its descriptor is not.
                select.select([self.selector.fileno()], [], [], wait)  # type: ignore[attr-defined]
            for key, mask in self.selector.select(0):
                self._serve(key.data, mask, end, timers)
            now = time.perf_counter()
            rest: list[tuple[float, Group]] = []
            for due, group in timers:
                while due <= now and due < end:
                    self.late = max(self.late, now - due)
                    self._send(group, due)
                    if not group.rate:
                        due = end
                        break
                    due += group.random.expovariate(group.rate)
                if due < end:
                    rest.append((due, group))
            timers[:] = rest
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        return {
            "seconds": time.perf_counter() - begin,
            "cpu": cpu,
            "latest_send_ms": 1e3 * self.late,
            "connections": self.connections,
            "groups": {group.name: self._result(group, begin + self.warm_up, end) for group in self.groups},
        }

    def _send(self, group: Group, due: float) -> None:
        """Send the group's next request on an idle connection, or a new one."""
        if group.idle:
            connection = group.idle.pop()
            change = self.selector.modify
        elif self.connections < MOST_CONNECTIONS:
            connection = Connection(self.port, group)
            self.connections += 1
            change = self.selector.register
        else:
            group.waiting.append(due)
            return
        self.flying += 1
        whole = connection.send(group.next_request(), due)
        if not whole or change == self.selector.register:
            events = selectors.EVENT_READ | (0 if whole else selectors.EVENT_WRITE)
            change(connection.socket, events, connection)

    def _serve(self, connection: Connection, mask: int, end: float, timers: list[Any]) -> None:
        group = connection.group
        try:
            if mask & selectors.EVENT_WRITE and connection.send_rest():
                self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
            if not mask & selectors.EVENT_READ:
                return
            if not connection.receive():
                return
        except (ConnectionResetError, BrokenPipeError):
            if not connection.due:  # the server ended an idle connection, as it may
                group.idle.remove(connection)
                self._close(connection)
                return
            connection.status, connection.closes = 0, True
        now = time.perf_counter()
        self.flying -= 1
        group.due.append(connection.due)
        group.latency.append(now - connection.due)
        group.status.append(connection.status)
        if connection.closes:
            self._close(connection)
        else:
            connection.forget()
            group.idle.append(connection)
        if group.waiting:
            self._send(group, group.waiting.popleft())
        elif group.clients and now < end:
            if group.pause:
                timers.append((now + group.pause, group))
            else:
                self._send(group, now)

    def _close(self, connection: Connection) -> None:
        self.selector.unregister(connection.socket)
        connection.socket.close()
        self.connections -= 1

    @staticmethod
    def _result(group: Group, begin: float, end: float) -> dict[str, Any]:
        counts: dict[str, int] = {}
        latencies: dict[str, list[float]] = {}
        finished = 0
        for due, latency, status in zip(group.due, group.latency, group.status, strict=True):
            if due >= begin:
                name = str(status) if status else "broken"
                counts[name] = counts.get(name, 0) + 1
                latencies.setdefault(name, []).append(latency)
            finished += status == 200 and begin <= due + latency < end
        return {
            "counts": counts,
            "per_second": finished / (end - begin),
            "unanswered": group.sent + len(group.waiting) - len(group.status),
            "ms": {name: percentiles(values) for name, values in latencies.items()},
        }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds at the places that the tables show, by rank."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    places = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}
    found = {name: 1e3 * ordered[round(last * place)] for name, place in places.items()}
    return {**found, "soon": sum(value <= SOON for value in ordered) / len(ordered)}


if __name__ == "__main__":
    json.dump(Load(json.load(sys.stdin)).run(), sys.stdout)
