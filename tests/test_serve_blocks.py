"""Long answers, written in blocks: the same JSON, with the loop free in between."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi.serve.protocols import blocks
from jinyi.serve.protocols.blocks import (
    item_blocks,
    list_blocks,
    nested_blocks,
    numbers_in,
    row_blocks,
    written,
)
from jinyi.serve.protocols.ranked import Ranked
from jinyi.serve.protocols.tokens import Tokens
from jinyi.serve.settings import ModelSetting, Settings
from serve_app import RunningApp, running_app


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "rows",
    [
        numbers(0, 4),
        numbers(3, 4),
        numbers(50, 4),
        numbers(50, 4)[:, :3],  # apart in memory, as vectors cut to their first numbers are
        numbers(40, 200),  # one row is more than a block
        [numbers(2, 4), numbers(30, 4), numbers(1, 4), numbers(100, 4)],
        [numbers(1, 4)],
    ],
    ids=lambda rows: "x".join(map(str, getattr(rows, "shape", ["list", len(rows)]))),
)
def test_blocks_are_the_json_of_the_whole(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)
    parts = list(row_blocks(rows))
    found = json.loads(b"".join(parts))
    assert len(found) == len(rows)
    assert all(np.array_equal(np.float32(got), row) for got, row in zip(found, rows, strict=True))
    assert numbers_in(rows) == sum(row.size for row in rows)
    widest = max((row.shape[-1] for row in rows), default=0)
    assert max(part.count(b".") for part in parts) <= max(64, widest)


def test_a_list_of_objects() -> None:
    items = [{"index": place, "embedding": row} for place, row in enumerate(numbers(7, 3))]
    for step in (1, 2, 7, 100):
        found = json.loads(b"".join(list_blocks(items, step)))
        assert [item["index"] for item in found] == list(range(7))


def test_lists_of_objects_are_the_json_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "OBJECTS", 3)
    assert [json.loads(b"".join(item_blocks(iter(items)))) for items in ([], [1], [1, {"a": [2]}])] == [
        [],
        [1],
        [1, {"a": [2]}],
    ]
    rows = [list(range(count)) for count in (0, 1, 3, 10)]
    for some in ([], rows[:1], rows):
        assert json.loads(b"".join(nested_blocks(some))) == some


def vectors() -> Iterator[bytes]:
    return row_blocks(numbers(16_000, 312))


def labels_of_texts() -> Iterator[bytes]:
    scores = numbers(500, 1000)
    order = (-scores).argsort(axis=1)
    return item_blocks(Ranked(order, scores).rows([f"label {number}" for number in range(1000)]))


def tokens_of_a_text() -> Iterator[bytes]:
    places = np.arange(400_000, dtype=np.int32).reshape(-1, 2)
    return nested_blocks([Tokens("怎" * 400_000, np.full(200_000, 7, np.int32), places, {})])


@pytest.mark.parametrize("parts", [vectors, labels_of_texts, tokens_of_a_text])
def test_others_are_answered_between_two_blocks(parts: Callable[[], Iterator[bytes]]) -> None:
    """50 MB as JSON take long; whatever else the loop has to do waits for no more than some blocks."""

    async def play() -> float:
        prepared = parts()
        sent: list[bytes] = []
        waits: list[float] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(3600)
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))

        async def turn() -> None:
            while True:
                before = time.thread_time()
                await asyncio.sleep(0)
                waits.append(time.thread_time() - before)

        request = {"type": "http", "method": "POST"}
        await written(iter([b"[]"]), {})(request, receive, send)  # type: ignore[arg-type]  # imports what it needs
        turning = asyncio.create_task(turn())
        begun = time.thread_time()
        await written(prepared, {})(request, receive, send)  # type: ignore[arg-type]
        whole = time.thread_time() - begun
        turning.cancel()
        assert len(b"".join(sent)) > 10_000_000
        return max(waits) / whole

    gc.collect()
    gc.freeze()  # as the server does: what is there before is not walked through
    try:
        # What holds the loop does so each time; what the machine does between, now and then.
        assert min(asyncio.run(play()) for _ in range(3)) < 1 / 10
    finally:
        gc.unfreeze()


@pytest.fixture(scope="module")
def running(folders: dict[str, Path]) -> Iterator[RunningApp]:
    names = ("embed", "topic", "classes")
    with running_app(Settings(models=tuple(ModelSetting(str(folders[name]), name) for name in names))) as app:
        yield app


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": [f"{number}怎么" for number in range(40)]}),
        ("/embed", {"inputs": [f"{number}怎么" for number in range(40)], "dimensions": 5}),
        ("/embed_all", {"inputs": [f"{number}怎么" * (number % 5 + 1) for number in range(40)]}),
        ("/v1/embeddings", {"input": [f"{number}怎么" for number in range(40)], "model": "embed"}),
        ("/v1/embeddings", {"input": ["好"] * 40, "model": "embed", "encoding_format": "base64"}),
        ("/v1/classify", {"input": ["好", "今天天气"] * 20, "labels": ["体育", "财经", "天"]}),
        ("/v1/classify", {"input": ["好", "今天天气"] * 20, "labels": {"a": "体育", "b": "天"}, "top_k": 1}),
        ("/v1/classify", {"input": ["好", "今天天气"] * 20, "model": "classes"}),
        ("/predict", {"inputs": [["好"], ["今天天气"]] * 20, "model": "classes"}),
        ("/tokenize", {"inputs": ["好", "今天天气", "a1 b2" * 20] * 20}),
        ("/tokenize", {"inputs": ["今天天气" * 20], "add_special_tokens": False}),
    ],
)
def test_an_answer_is_the_same_in_blocks(
    running: RunningApp, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = running.ask("POST", path, body)
    assert whole.status == 200 and "content-length" in whole.headers
    for place in ("calls", "openai"):
        monkeypatch.setattr(f"jinyi.serve.protocols.{place}.MANY", 64)
    for place in ("tei", "topics"):
        monkeypatch.setattr(f"jinyi.serve.protocols.{place}.MANY_OBJECTS", 30)
    monkeypatch.setattr(blocks, "OBJECTS", 8)
    monkeypatch.setattr("jinyi.serve.protocols.openai.BLOCK", 64)
    monkeypatch.setattr(blocks, "BLOCK", 64)
    monkeypatch.setattr(blocks, "_LEAST", 100)
    parts = running.ask("POST", path, body)
    assert parts.status == 200 and "content-length" not in parts.headers
    assert parts.headers["content-type"] == "application/json"
    assert parts.headers.get("x-compute-tokens") == whole.headers.get("x-compute-tokens")
    assert parts.json == whole.json
