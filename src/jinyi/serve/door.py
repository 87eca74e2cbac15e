"""The door: every HTTP request passes here first, and what cannot be let in is turned away before its body is read.

In this order: the key, the content type, whether the server is up, the size that was announced, room in the queue.
Then the body is read (bounded in bytes, in time and in memory over all requests) and given to the app whole. A client
that hangs up has its request cancelled, so that its rows are not computed. Afterwards the request is written to the
log and counted.

What a handler finds in `request.state`: `request_id`; `client`, which the queue is fair to; `deadline` on the clock of
`time.monotonic`; `started` on that of `time.perf_counter`. What it may put there for the log: `model` and `rows`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
import traceback
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jinyi.serve.logs import AccessLog
from jinyi.serve.metrics import Metrics
from jinyi.serve.problems import NotReady, Overloaded, Problem, TooLarge
from jinyi.serve.settings import Settings
from jinyi.serve.visit import Left, Visit, time_limit

_BODIES = 64  # bodies of the largest size that may lie in memory at once
_LINGER_BYTES = 16 * 2**20  # of a body that is refused; dropped, so that the client comes to read the answer
_LINGER_S = 5.0
_log = logging.getLogger("jinyi.serve")


class Door:
    """ASGI middleware; see the module.

    Args:
        app: what answers the requests that are let in.
        settings: keys and limits.
        phase: "starting", "ready" or "draining", asked for each request.
        check_room: of the queue; raises Overloaded.
        computing: paths whose POST requests carry work.
        public: paths that are read without a key and in every phase: health, as at TEI, and the page.
        metrics: counts requests.
        access: writes a line for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        phase: Callable[[], str],
        check_room: Callable[[], None],
        computing: Collection[str],
        public: Collection[str],
        metrics: Metrics,
        access: AccessLog,
    ) -> None:
        self._app = app
        self._settings = settings
        self._phase = phase
        self._check_room = check_room
        self._computing = frozenset(computing)
        self._public = frozenset(public)
        self._metrics = metrics
        self._access = access
        self._keys = [key.encode() for key in settings.api_keys]
        self._active = 0
        self._held = 0

    @property
    def active(self) -> int:
        """Number of requests with work that are in the house."""
        return self._active

    @property
    def held(self) -> int:
        """Bytes of bodies set aside for them."""
        return self._held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(scope, send)
        try:
            if scope["method"] == "POST" and visit.path in self._computing:
                self._admit(visit)
                await self._work(visit, receive)
            else:
                if visit.path not in self._public:
                    self._check_key(visit)
                    self._check_phase()
                await self._app(scope, receive, visit.send)
        except Problem as problem:
            await self._refuse(visit, problem, receive)
        except Left:
            visit.status = 499
        except asyncio.CancelledError:
            if visit.gone:
                visit.status = 499
            elif visit.begun:
                raise
            else:  # the server's patience with what is in flight is at its end
                await self._refuse(visit, NotReady("the server stops"), receive)
        except Exception as error:
            # The message may quote a user's text; the type and the lines of code do not.
            frames = "".join(traceback.format_tb(error.__traceback__))
            extra = {"request_id": visit.request_id}
            _log.error("a defect: %s\n%s", type(error).__name__, frames, extra=extra)
            if visit.begun:
                raise
            defect = Problem(500, "Backend", "a defect of the server; its log says where", code="defect")
            await self._refuse(visit, defect, receive)
        finally:
            route = self._route(visit)
            seconds = visit.seconds()
            self._metrics.request_done(route, visit, seconds)
            self._access.write(route, visit, seconds)

    def _route(self, visit: Visit) -> str:
        """Return the path for log and metrics; those of no route are one, as anything may stand in them."""
        if visit.path in self._computing or visit.path in self._public:
            return visit.path
        return getattr(visit.scope.get("route"), "path", None) or "(unknown)"

    def _check_phase(self) -> None:
        phase = self._phase()
        if phase != "ready":
            raise NotReady(f"the server is {phase}")

    def _check_key(self, visit: Visit) -> None:
        if not self._keys:
            return
        scheme, _, given = visit.headers.get(b"authorization", b"").partition(b" ")
        given = given.strip()
        # Every key is compared, in constant time, so that the time tells nothing.
        fits = [hmac.compare_digest(given, key) for key in self._keys]
        if scheme.lower() != b"bearer" or not any(fits):
            found = "a key that is not known" if given else "no key"
            raise Problem(
                401,
                "Validation",
                f"found {found}; send the header Authorization: Bearer KEY",
                headers={"www-authenticate": "Bearer"},
                code="invalid_api_key",
            )
        visit.client = hashlib.blake2b(given, digest_size=8).digest()

    def _admit(self, visit: Visit) -> None:
        """Turn away, without reading its body, a request that cannot be computed."""
        self._check_key(visit)
        headers = visit.headers
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
            shown = kind.decode("latin-1")[:80] or "none"
            raise _unsupported(
                f"content type {shown!r}", "JSON with the header Content-Type: application/json"
            )
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _unsupported("a compressed body", "it as it is")
        self._check_phase()
        if visit.announced > self._settings.payload_limit:
            raise self._too_large(f"{visit.announced:,}")
        limit = self._settings.max_concurrent_requests
        if self._active >= limit:
            raise Overloaded(
                message=f"{limit} requests are being computed, the most this server takes at once"
            )
        if self._held + visit.announced > _BODIES * self._settings.payload_limit:
            raise Overloaded(message="the bodies of other requests fill the memory set aside for them")
        self._check_room()
        visit.state["client"] = visit.client
        visit.state["deadline"] = time.monotonic() + self._settings.request_timeout_s

    async def _work(self, visit: Visit, receive: Receive) -> None:
        self._active += 1
        self._metrics.in_flight.inc()
        held = visit.announced
        self._held += held
        watcher: asyncio.Task[None] | None = None
        try:
            body = await self._body(visit, receive)
            self._held += len(body) - held
            held = len(body)
            task = asyncio.current_task()
            assert task is not None
            watcher = asyncio.create_task(visit.watch(receive, task))
            await self._app(visit.scope, _Once(body, watcher), visit.send)
        finally:
            if watcher is not None:
                watcher.cancel()
            self._held -= held
            self._active -= 1
            self._metrics.in_flight.dec()

    async def _body(self, visit: Visit, receive: Receive) -> bytes:
        """Read a body whole, within the limits of size and time."""
        limit = self._settings.body_timeout_s
        with time_limit(limit) as timer:
            try:
                return await self._parts(receive)
            except asyncio.CancelledError:
                if not timer.passed():
                    raise
        raise Problem(
            400,
            "Validation",
            f"the body did not arrive within {limit:g} s",
            headers={"connection": "close"},
            code="body_timeout",
        )

    async def _parts(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Left
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            more = message.get("more_body", False)
            if size > self._settings.payload_limit:
                raise self._too_large(f"more than {size:,}" if more else f"{size:,}")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, size: str) -> TooLarge:
        limit = self._settings.payload_limit
        return TooLarge(
            f"found a body of {size} bytes; payload_limit is {limit:,}; send the inputs in several requests"
        )

    async def _refuse(self, visit: Visit, problem: Problem, receive: Receive) -> None:
        """Answer with a problem, so that it arrives whatever lies unread in the connection."""
        unread = visit.headers.get(b"transfer-encoding") is not None or visit.announced > _LINGER_BYTES
        if isinstance(problem, TooLarge) and unread:
            # An answer with unread bytes behind it may be lost: some are dropped first, and then the door shuts.
            problem.headers["connection"] = "close"
            dropped, more = 0, True
            with time_limit(_LINGER_S) as timer:
                try:
                    while more and dropped < _LINGER_BYTES:
                        message = await receive()
                        dropped += len(message.get("body", b""))
                        more = message.get("more_body", False)
                except asyncio.CancelledError:
                    if not timer.passed():
                        raise
        response = problem.response(visit.path)
        await response(visit.scope, receive, visit.send)


class _Once:
    """Gives the app its body, and then waits for the client to leave.

    Args:
        body: of the request.
        watcher: ends when the client leaves.
    """

    def __init__(self, body: bytes, watcher: asyncio.Task[None]) -> None:
        self._body: bytes | None = body
        self._watcher = watcher

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.wait([self._watcher])
        return {"type": "http.disconnect"}


def _unsupported(found: str, send: str) -> Problem:
    text = f"found {found}; send {send}"
    return Problem(415, "Validation", text, code="unsupported_media_type")
