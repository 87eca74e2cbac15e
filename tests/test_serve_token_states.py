"""The engine of /embed_all: opened for the first who asks, once, and beside the work of others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jinyi.errors import FolderError
from jinyi.models.source import Source
from jinyi.pipelines import pipeline
from jinyi.runtime import Head
from jinyi.serve.queue import QueuedEngine, RowQueue
from jinyi.serve.settings import ModelSetting, Settings
from serve_app import RunningApp, running_app
from serve_asgi import JSON, Client, scope

TEXTS = ["怎么改密码？", "a1 b2"]


class Openings:
    """What a queue opened, as (folder, head); those of tokens wait until they may, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may = threading.Event()
        self.fault: Exception | None = None
        self.done: list[tuple[str, str]] = []
        real = RowQueue.opener

        def opener(queue: RowQueue, source: Source, head: Head) -> QueuedEngine:
            self.done.append((source.folder.path.name, head.kind))
            if head.kind == "tokens":
                assert self.may.wait(10)
                if self.fault is not None:
                    raise self.fault
            return real(queue, source, head)

        monkeypatch.setattr(RowQueue, "opener", opener)

    @property
    def of_tokens(self) -> list[str]:
        return [name for name, kind in self.done if kind == "tokens"]


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> Openings:
    return Openings(monkeypatch)


@pytest.fixture
def app(folders: dict[str, Path], openings: Openings, request: pytest.FixtureRequest) -> Iterator[RunningApp]:
    """An app with two models; a test's parameter is its time for requests."""
    models = tuple(ModelSetting(str(folders[name]), name) for name in ("embed", "topic"))
    with running_app(Settings(models=models, request_timeout_s=getattr(request, "param", 60.0))) as running:
        yield running
        openings.may.set()


def body(model: str) -> dict[str, object]:
    return {"inputs": TEXTS, "model": model}


async def together(app: RunningApp, bodies: list[dict[str, object]]) -> list[int]:
    clients = [Client([json.dumps(one).encode()]) for one in bodies]
    doing = [
        app.app(scope("POST", "/embed_all", [JSON], app=app.app), client.receive, client.send)
        for client in clients
    ]
    await asyncio.gather(*doing)
    return [client.answer.status for client in clients]


def test_it_is_opened_once_for_all_who_ask(
    app: RunningApp, openings: Openings, folders: dict[str, Path]
) -> None:
    assert openings.done and not openings.of_tokens
    openings.may.set()
    assert app.do(together(app, [body("embed"), body("topic")] * 4)) == [200] * 8
    assert sorted(openings.of_tokens) == ["embed", "topic"]
    for name in ("embed", "topic"):
        expected = pipeline("feature-extraction", folders[name])(TEXTS)
        for row, wanted in zip(app.ask("POST", "/embed_all", body(name)).json, expected, strict=True):
            np.testing.assert_allclose(row, np.asarray(wanted)[0], rtol=0, atol=2e-6)
    assert len(openings.of_tokens) == 2


@pytest.mark.parametrize("app", [2.0], indirect=True)
def test_others_do_not_wait_for_it(app: RunningApp, openings: Openings) -> None:
    # Longer than its time: this one is told so, and the next finds it open.
    late = asyncio.run_coroutine_threadsafe(together(app, [body("embed")]), app.loop)
    assert app.ask("POST", "/embed", {"inputs": ["今天" * 600]}).status == 200
    assert app.ask("GET", "/readyz").status == 200
    assert not late.done()
    assert late.result(10) == [429]
    openings.may.set()
    # On a busy machine what is left of opening it takes longer than a request may.
    statuses = (app.ask("POST", "/embed_all", body("embed")).status for _ in range(10))
    assert next(status for status in statuses if status != 429) == 200
    assert openings.of_tokens == ["embed"]


def test_what_cannot_be_opened_is_not_tried_again(app: RunningApp, openings: Openings) -> None:
    openings.fault = FolderError(found="other weights", expected="the same", fix="Start again.")
    openings.may.set()
    for _ in range(2):
        reply = app.ask("POST", "/embed_all", body("topic"))
        assert reply.status == 424 and "other weights" in reply.json["error"]
        assert reply.json["error_type"] == "Backend"
    assert openings.of_tokens == ["topic"]
    assert app.ask("POST", "/embed", {"inputs": "今天"}).status == 200
