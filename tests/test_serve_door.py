"""The door: who is let in, what is turned away unread, and what the log keeps of it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest

from jinyi.serve.door import Door
from jinyi.serve.logs import AccessLog, LogWriter
from jinyi.serve.metrics import Metrics
from jinyi.serve.problems import Overloaded
from jinyi.serve.settings import Settings
from serve_asgi import JSON, Answer, Client, ask, scope

KEY = "s3cret-key"
NESTED = {"message", "type", "param", "code"}


class House:
    """What stands behind the door: it says what it was given, and can wait or fail."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.states: list[dict[str, Any]] = []
        self.cancelled = 0
        self.wait: float = 0
        self.error: Exception | None = None
        self.begun = asyncio.Event()

    async def __call__(self, request: dict[str, Any], receive: Any, send: Any) -> None:
        if request["method"] == "POST":
            message = await receive()
            assert not message.get("more_body")
            self.bodies.append(message["body"])
        self.states.append(dict(request["state"]))
        self.begun.set()
        try:
            await asyncio.sleep(self.wait)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        headers = [
            (b"content-type", b"application/json"),
            (b"x-compute-tokens", b"7"),
            (b"x-truncated-inputs", b"2"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"[1]"})


class Place:
    """A door with its house, and what it writes."""

    def __init__(self, *, phase: str = "ready", full: bool = False, **settings: Any) -> None:
        self.house = House()
        self.stream = io.BytesIO()
        self.writer = LogWriter(self.stream, text=False)
        self.metrics = Metrics()
        self.phase = phase

        def check_room() -> None:
            if full:
                raise Overloaded(2.5)

        self.door = Door(
            self.house,
            settings=Settings(**settings),
            phase=lambda: self.phase,
            check_room=check_room,
            computing={"/embed", "/v1/embeddings"},
            public={"/livez", "/"},
            metrics=self.metrics,
            access=AccessLog(self.writer),
        )

    def ask(self, client: Client | None = None, **request: Any) -> Answer:
        answer = ask(self.door, scope(**request), client)
        assert self.door.active == 0
        assert self.door.held == 0
        return answer

    def lines(self) -> list[dict[str, Any]]:
        self.writer.close()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {key}".encode()


def test_a_request_comes_through_whole() -> None:
    place = Place()
    answer = place.ask(Client([b'{"inputs": ', b'"a"}']))
    assert (answer.status, answer.body) == (200, b"[1]")
    assert place.house.bodies == [b'{"inputs": "a"}']
    state = place.house.states[0]
    assert state["client"] == "10.0.0.7"
    assert state["request_id"] == answer.headers["x-request-id"]
    assert state["deadline"] > 0


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", f"{KEY}"]
)
def test_a_wrong_key_is_refused_unread(header: str | None) -> None:
    place = Place(api_keys=("other", KEY))
    headers = [JSON] if header is None else [JSON, (b"authorization", header.encode())]
    client = Client([b"x"])
    answer = place.ask(client, headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(answer.json) == {"error", "error_type"}
    assert KEY not in answer.body.decode()
    assert client.taken == 0
    assert place.ask(method="GET", path="/v1/models", headers=headers[1:]).status == 401


@pytest.mark.parametrize("key", ["other", KEY])
def test_any_of_the_keys_opens(key: str) -> None:
    place = Place(api_keys=("other", KEY))
    assert place.ask(headers=[JSON, bearer(key)]).status == 200
    assert place.ask(headers=[JSON, (b"authorization", f"bearer  {key}".encode())]).status == 200
    # The queue is fair to keys, and the key itself is not what it keeps.
    clients = [state["client"] for state in place.house.states]
    assert clients[0] == clients[1] != "10.0.0.7"
    assert key.encode() not in clients[0]


def test_health_and_page_need_no_key() -> None:
    place = Place(api_keys=(KEY,), phase="starting")
    for path in ("/livez", "/"):
        assert place.ask(method="GET", path=path, headers=()).status == 200


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"]
)
def test_json_is_json(kind: str) -> None:
    assert Place().ask(headers=[(b"content-type", kind.encode())]).status == 200


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_content_is_refused(kind: str | None) -> None:
    client = Client([b"x"])
    answer = Place().ask(client, headers=[] if kind is None else [(b"content-type", kind.encode())])
    assert answer.status == 415
    assert "Content-Type: application/json" in answer.json["error"]
    assert client.taken == 0


def test_compressed_bodies_are_refused() -> None:
    answer = Place().ask(headers=[JSON, (b"content-encoding", b"gzip")])
    assert answer.status == 415


def test_an_announced_body_above_the_limit_is_not_read() -> None:
    client = Client([b"x" * 200])
    answer = Place(payload_limit=100).ask(client, headers=[JSON, (b"content-length", b"1200")])
    assert answer.status == 413
    assert "1,200" in answer.json["error"] and "payload_limit is 100" in answer.json["error"]
    assert client.taken == 0


def test_a_chunked_body_is_stopped_at_the_limit() -> None:
    place = Place(payload_limit=100)
    client = Client([b"x" * 60] * 5)
    answer = place.ask(client, headers=[JSON, (b"transfer-encoding", b"chunked")])
    assert answer.status == 413
    assert "more than 120" in answer.json["error"]
    assert answer.headers["connection"] == "close"
    assert not place.house.bodies
    assert Place(payload_limit=300).ask(Client([b"x" * 60] * 5)).status == 200


def test_the_whole_body_counts_where_none_was_announced() -> None:
    assert Place(payload_limit=100).ask(Client([b"x" * 101])).status == 413
    assert Place(payload_limit=100).ask(Client([b"x" * 100])).status == 200


def test_a_slow_body_is_given_up() -> None:
    place = Place(body_timeout_s=0.05)
    answer = place.ask(Client([b"x", 5.0, b"y"]))
    assert answer.status == 400
    assert "0.05 s" in answer.json["error"]
    assert answer.headers["connection"] == "close"
    assert not place.house.bodies


def test_no_room_no_reading() -> None:
    client = Client([b"x"])
    answer = Place(full=True).ask(client)
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert answer.json["error_type"] == "Overloaded"
    assert client.taken == 0


def test_only_so_many_at_once() -> None:
    place = Place(max_concurrent_requests=3)
    place.house.wait = 0.2

    async def crowd() -> list[Client]:
        clients = [Client() for _ in range(5)]
        await asyncio.gather(*(place.door(scope(), other.receive, other.send) for other in clients))
        return clients

    clients = asyncio.run(crowd())
    assert sorted(other.answer.status for other in clients) == [200, 200, 200, 429, 429]
    refused = next(other for other in clients if other.answer.status == 429)
    assert "3 requests" in refused.answer.json["error"]
    assert refused.taken == 0
    assert place.ask().status == 200


def test_bodies_of_all_requests_are_bounded() -> None:
    place = Place(payload_limit=10)
    place.house.wait = 0.2
    headers = [JSON, (b"content-length", b"10")]

    async def crowd() -> list[Client]:
        clients = [Client([b"x" * 10]) for _ in range(70)]
        await asyncio.gather(*(place.door(scope(headers=headers), c.receive, c.send) for c in clients))
        return clients

    statuses = [other.answer.status for other in asyncio.run(crowd())]
    assert (statuses.count(200), statuses.count(429)) == (64, 6)
    assert place.door.held == 0


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_not_before_and_not_after(phase: str) -> None:
    place = Place(phase=phase)
    for request in ({}, {"path": "/v1/embeddings"}, {"method": "GET", "path": "/v1/models", "headers": ()}):
        answer = place.ask(**request)
        assert answer.status == 503
        assert phase in answer.body.decode()
        assert "retry-after" in answer.headers
    assert not place.house.states


def test_a_client_that_leaves_is_not_computed() -> None:
    place = Place()
    place.house.wait = 5

    async def leave() -> Client:
        client = Client()
        task = asyncio.create_task(place.door(scope(), client.receive, client.send))
        await place.house.begun.wait()
        client.gone.set()
        await asyncio.wait_for(task, 2)
        return client

    client = asyncio.run(leave())
    assert place.house.cancelled == 1
    assert client.answer.status == 0
    assert place.door.active == 0
    assert [line["status"] for line in place.lines()] == [499]


def test_a_client_that_leaves_within_its_body() -> None:
    place = Place()
    assert place.ask(Client([b"x"], leaves=True)).status == 0
    assert not place.house.bodies
    assert [line["status"] for line in place.lines()] == [499]


def test_a_client_that_leaves_after_the_answer_cancels_nothing() -> None:
    place = Place()

    async def twice() -> None:
        for _ in range(2):
            client = Client()
            await place.door(scope(), client.receive, client.send)
            client.gone.set()
            await asyncio.sleep(0.01)
            assert client.complete

    asyncio.run(twice())
    assert place.house.cancelled == 0


def test_the_servers_own_end_is_told() -> None:
    """A task that the server cancels at the end of its patience answers, and does not swallow the end."""
    place = Place()
    place.house.wait = 5

    async def stop() -> Client:
        client = Client()
        task = asyncio.create_task(place.door(scope(), client.receive, client.send))
        await place.house.begun.wait()
        place.phase = "draining"
        task.cancel()
        await asyncio.wait([task])
        return client

    client = asyncio.run(stop())
    assert client.answer.status == 503
    assert place.door.active == 0


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_a_defect_has_the_same_shape_and_its_text_stays_out(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    place.house.error = RuntimeError("用户的句子")
    with caplog.at_level(logging.ERROR, "jinyi.serve"):
        answer = place.ask(path=path)
    assert answer.status == 500
    error = answer.json["error"]
    assert set(error) == NESTED if path.startswith("/v1/") else isinstance(error, str)
    record = caplog.records[0].getMessage()
    assert "RuntimeError" in record and "test_serve_door.py" in record
    assert "用户" not in record + answer.body.decode()


@pytest.mark.parametrize("given", ["abc-123", "0af7651916cd43dd8448eb211c80319c"])
def test_the_clients_request_id_is_kept(given: str) -> None:
    assert Place().ask(headers=[JSON, (b"x-request-id", given.encode())]).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "用户", "x" * 129, "a\tb", '{"a"'])
def test_other_request_ids_are_replaced(given: str) -> None:
    answer = Place().ask(headers=[JSON, (b"x-request-id", given.encode())])
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 16


def test_the_log_knows_routes_and_no_texts() -> None:
    place = Place()
    place.ask(Client(["用户的句子".encode()]))
    place.ask(method="GET", path="/用户的句子", headers=())
    place.ask(method="POST", path="/embed/用户的句子")
    lines = place.lines()
    assert [line["route"] for line in lines] == ["/embed", "(unknown)", "(unknown)"]
    assert "用户" not in json.dumps(lines, ensure_ascii=False)
    first = lines[0]
    assert (first["status"], first["tokens"], first["truncated"]) == (200, 7, 2)
    assert first["client"] == "10.0.0.7"
    assert first["ms"] >= 0


def test_requests_are_counted() -> None:
    place = Place(payload_limit=100)
    place.ask()
    place.ask(Client([b"x" * 200]))
    place.ask(method="GET", path="/somewhere", headers=())
    text = place.metrics.text().decode()
    assert 'jinyi_requests_total{route="/embed",status="200"} 1.0' in text
    assert 'jinyi_requests_total{route="/embed",status="413"} 1.0' in text
    assert 'route="(unknown)"' in text and "somewhere" not in text
    assert "jinyi_requests_in_flight 0.0" in text
    assert "jinyi_truncated_inputs_total 4.0" in text


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_every_refusal_has_the_shape_of_its_route(path: str) -> None:
    cases = [
        (Place(api_keys=(KEY,)), 401, {}),
        (Place(), 415, {"headers": ()}),
        (Place(payload_limit=10), 413, {"headers": [JSON, (b"content-length", b"11")]}),
        (Place(full=True), 429, {}),
        (Place(phase="starting"), 503, {}),
    ]
    for place, status, request in cases:
        answer = place.ask(path=path, **request)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        if path.startswith("/v1/"):
            assert set(answer.json) == {"error"} and set(answer.json["error"]) == NESTED
        else:
            assert set(answer.json) == {"error", "error_type"}
