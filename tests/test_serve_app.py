"""The app put together: errors of every kind in the shape of their route, operation routes, other origins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jinyi.errors import FolderError, ModelNotFoundError
from jinyi.serve.app import create_app
from jinyi.serve.queue import RowQueue
from jinyi.serve.settings import ModelSetting, Settings
from jinyi.serve.warmup import warm_up
from serve_app import RunningApp, running_app

NESTED = {"message", "type", "param", "code"}
ORIGIN = "https://faq.example"


def settings_of(folders: dict[str, Path], *names: str, **more: Any) -> Settings:
    models = tuple(ModelSetting(str(folders[name]), name) for name in names)
    return Settings(models=models, **more)


@pytest.fixture(scope="module")
def running(folders: dict[str, Path]) -> Iterator[RunningApp]:
    settings = settings_of(
        folders, "embed", "pair", cors_origins=(ORIGIN,), payload_limit=10_000, ready_timeout_s=10.0
    )
    with running_app(settings) as app:
        yield app


def check_shape(path: str, body: Any) -> None:
    if path.startswith(("/v1/", "/v2/")):
        assert set(body) == {"error"} and set(body["error"]) == NESTED
        assert isinstance(body["error"]["message"], str)
    else:
        assert set(body) == {"error", "error_type"}
        kinds = ("Validation", "Tokenizer", "Overloaded", "Backend", "Unhealthy", "Empty")
        assert body["error_type"] in kinds


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/embed", 405),
        ("GET", "/v1/embeddings", 405),
        ("DELETE", "/health", 405),
        ("PUT", "/v1/embeddings", 405),
    ],
)
def test_wrong_paths_and_methods(running: RunningApp, method: str, path: str, status: int) -> None:
    answer = running.ask(method, path, {} if method == "POST" else None)
    assert answer.status == status
    check_shape(path, answer.json)
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"inputs": NaN, "input": NaN}', 400),
        (b"[" * 5000, 400),
        (b'{"inputs": "\\ud800", "input": "\\ud800"}', 400),
        (b"[]", 422),
        (b"{}", 422),
        (b"x" * 10_001, 413),
    ],
)
def test_bodies_that_cannot_be_used(running: RunningApp, path: str, body: bytes, status: int) -> None:
    answer = running.ask("POST", path, body)
    assert answer.status == status
    check_shape(path, answer.json)


def test_a_computed_request(running: RunningApp) -> None:
    answer = running.ask("POST", "/embed", {"inputs": "怎么改密码"})
    assert answer.status == 200
    assert len(answer.json[0]) == 32
    assert float(answer.headers["x-compute-tokens"]) == 7
    assert answer.headers["x-truncated-inputs"] == "0"


def test_health(running: RunningApp) -> None:
    for path in ("/livez", "/readyz", "/health", "/ping"):
        answer = running.ask("GET", path)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/ping", "/metrics", "/"])
def test_balancers_may_ask_by_head(running: RunningApp, path: str) -> None:
    assert running.ask("HEAD", path).status == 200
    assert "head" not in running.app.openapi()["paths"].get(path, {})


def test_what_only_a_new_process_can_mend_turns_liveness_red(
    running: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RowQueue, "defect", "no model can be opened any more")
    answer = running.ask("GET", "/livez")
    assert answer.status == 503 and answer.json["error"] == "no model can be opened any more"
    assert running.ask("HEAD", "/livez").status == 503


def test_metrics_can_be_read_by_prometheus(running: RunningApp) -> None:
    running.ask("POST", "/embed", {"inputs": "好" * 100})
    answer = running.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found[("jinyi_requests_total", ("route", "/embed"), ("status", "200"))] >= 1
    assert found[("jinyi_truncated_inputs_total",)] >= 1
    assert found[("jinyi_slab_rows_count",)] >= 1
    assert found[("jinyi_stage_seconds_count", ("stage", "queue"))] >= 1
    assert found[("jinyi_worker_up",)] == found[("jinyi_ready",)] == 1
    assert found[("jinyi_queue_waiting_rows",)] == 0
    assert found[("jinyi_worker_restarts_total",)] == 0
    assert any(name[0] == "process_resident_memory_bytes" for name in found)


def test_other_origins_are_let_in_only_where_named(running: RunningApp) -> None:
    answer = running.ask("POST", "/embed", {"inputs": "好"}, origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-truncated-inputs" in answer.headers["access-control-expose-headers"].lower()
    asked = running.ask(
        "OPTIONS",
        "/embed",
        origin=ORIGIN,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )
    assert asked.status == 200
    other = running.ask("POST", "/embed", {"inputs": "好"}, origin="https://elsewhere.example")
    assert "access-control-allow-origin" not in other.headers


def test_browsers_ask_first_without_a_key(folders: dict[str, Path]) -> None:
    options = {"api_keys": ("k",), "cors_origins": (ORIGIN,), "ready_timeout_s": 10.0}
    with running_app(settings_of(folders, "embed", **options)) as app:
        asked = app.ask(
            "OPTIONS",
            "/v1/embeddings",
            origin=ORIGIN,
            access_control_request_method="POST",
            access_control_request_headers="authorization,content-type,x-request-id",
        )
        assert asked.status == 200
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        allowed = asked.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "x-request-id"))
        body = {"input": "好", "model": "embed"}
        refused = app.ask("POST", "/v1/embeddings", body, origin=ORIGIN)
        assert refused.status == 401  # and the page can read why
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        done = app.ask("POST", "/v1/embeddings", body, origin=ORIGIN, authorization="Bearer k")
        assert done.status == 200 and done.headers["access-control-allow-origin"] == ORIGIN
        other = app.ask(
            "OPTIONS", "/embed", origin="https://elsewhere.example", access_control_request_method="POST"
        )
        assert other.status == 400 and "access-control-allow-origin" not in other.headers


def test_no_other_origin_by_default(folders: dict[str, Path]) -> None:
    with running_app(settings_of(folders, "embed", api_keys=("k",), ready_timeout_s=10.0)) as app:
        asked = app.ask("OPTIONS", "/embed", origin=ORIGIN, access_control_request_method="POST")
        assert asked.status in (401, 405)
        assert not [name for name in asked.headers if name.startswith("access-control")]
        assert app.ask("GET", "/v1/models").status == 401
        assert app.ask("GET", "/info").status == 401
        assert app.ask("GET", "/readyz").status == 200
        assert app.ask("GET", "/v1/models", authorization="Bearer k").status == 200


def test_the_description_is_complete(running: RunningApp) -> None:
    answer = running.ask("GET", "/openapi.json")
    paths = answer.json["paths"]
    for path in ("/embed", "/v1/embeddings", "/rerank", "/v1/classify", "/metrics", "/readyz", "/livez"):
        assert path in paths
    page = running.ask("GET", "/docs")
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    assert all(path in text for path in paths)
    assert "http://" not in text and "https://" not in text  # nothing of it comes from elsewhere


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises((ModelNotFoundError, FolderError)),
        running_app(Settings(models=(ModelSetting(str(tmp_path / "none")),))),
    ):
        pass


def test_the_app_is_built_without_models() -> None:
    assert create_app(Settings()).openapi()["info"]["title"] == "jinyi"


@pytest.mark.parametrize(("device", "rows"), [("cpu", [1, 8]), ("cuda", [1, 64])])
def test_the_warm_up_computes_the_largest_batch_there_is(device: str, rows: list[int]) -> None:
    part = SimpleNamespace(engine=SimpleNamespace(info=lambda: {"device": device}))
    model = SimpleNamespace(max_length=256, works=lambda text: [SimpleNamespace(passes=[part], text=text)])
    computed: list[str] = []

    class Queue:
        async def compute(self, work: Any, client: str, bounded: bool) -> None:
            assert not bounded  # else a short --max-wait would refuse it
            computed.append(work.text)

    asyncio.run(warm_up([model], Queue(), 16_384))  # type: ignore[arg-type]
    assert len(computed) == sum(rows)
    assert len(set(computed[1:])) == rows[1] and max(map(len, computed)) == 256
