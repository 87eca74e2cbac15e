"""Whatever is sent: one of the statuses there are, in the shape of the route, and the server stays up."""

from __future__ import annotations

import http.client
import json
import string
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_process import HOST, Reply, Server, serving

NESTED = ("/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/classify")
PLAIN = (
    "/embed",
    "/embed_all",
    "/predict",
    "/rerank",
    "/similarity",
    "/tokenize",
    "/decode",
    "/",
    "/invocations",
)
ROUTES = (*PLAIN, *NESTED)
KINDS = {"Validation", "Tokenizer", "Overloaded", "Backend", "Unhealthy", "Empty"}
GOOD: dict[str, dict[str, Any]] = {
    "/embed": {"inputs": "今天"},
    "/embed_all": {"inputs": "今天"},
    "/predict": {"inputs": ["今天", "天气"]},
    "/rerank": {"query": "今天", "texts": ["天气"]},
    "/similarity": {"inputs": {"source_sentence": "今天", "sentences": ["天气"]}},
    "/tokenize": {"inputs": "今天"},
    "/decode": {"ids": [7, 8]},
    "/": {"inputs": "今天"},
    "/invocations": {"query": "今天", "texts": ["天气"]},
    "/v1/embeddings": {"input": "今天"},
    "/v1/rerank": {"query": "今天", "documents": ["天气"]},
    "/v2/rerank": {"query": "今天", "documents": ["天气"]},
    "/v1/classify": {"input": "今天", "labels": ["体育", "财经"]},
}
TEXT_KEY = {"/rerank": "texts", "/invocations": "texts", "/v1/rerank": "documents", "/v2/rerank": "documents"}


def check_error(path: str, reply: Reply) -> str:
    """Check the shape of an error, and return its words."""
    assert reply.headers["content-type"] == "application/json", (path, reply)
    assert reply.headers["x-request-id"]
    if path.startswith(("/v1/", "/v2/")):
        assert set(reply.json) == {"error"}
        assert set(reply.json["error"]) == {"message", "type", "param", "code"}
        message = reply.json["error"]["message"]
    else:
        assert set(reply.json) == {"error", "error_type"} and reply.json["error_type"] in KINDS
        message = reply.json["error"]
    assert isinstance(message, str) and message
    return message


def inputs_of(path: str, inputs: object) -> dict[str, Any]:
    """A good body of a route with other texts in it."""
    body = dict(GOOD[path])
    if path == "/similarity":
        return {"inputs": {"source_sentence": "今天", "sentences": inputs}}
    key = TEXT_KEY.get(path) or ("ids" if "ids" in body else "input" if "input" in body else "inputs")
    return body | {key: inputs}


@pytest.mark.parametrize("path", ROUTES)
class TestBodies:
    def test_a_good_one(self, served: Server, path: str) -> None:
        assert served.post(path, GOOD[path]).status == 200

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b" ",
            b"{",
            b"nothing",
            b'{"inputs": NaN}',
            b'{"inputs": "\\ud800"}',
            b'{"inputs": "a" "b"}',
            '{"inputs": "今天"}'.encode("gb18030"),
            '{"inputs": "今天"}'.encode("utf-16"),
            b"\xff\xfe\x00",
            b'{"inputs": ' + b"[" * 100_000,
            b'{"inputs": "a", "inputs": ',
        ],
    )
    def test_no_json(self, served: Server, path: str, content: bytes) -> None:
        reply = served.post(path, content=content)
        assert reply.status == 400
        assert check_error(path, reply).startswith("body: found ")

    @pytest.mark.parametrize("body", [[], 3, "今天", None, True])
    def test_no_object(self, served: Server, path: str, body: object) -> None:
        reply = served.post(path, content=json.dumps(body).encode())
        assert reply.status == 422
        assert "expected an object such as {" in check_error(path, reply)

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_another_content_type(self, served: Server, path: str, kind: str) -> None:
        reply = served.post(path, GOOD[path], headers={"content-type": kind})
        assert reply.status == 415
        assert "Content-Type: application/json" in check_error(path, reply)

    def test_json_by_other_names(self, served: Server, path: str) -> None:
        for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"):
            assert served.post(path, GOOD[path], headers={"content-type": kind}).status == 200

    def test_an_unknown_key_is_named(self, served: Server, path: str) -> None:
        reply = served.post(path, GOOD[path] | {"turbo": True})
        assert reply.status == 422
        assert "turbo" in check_error(path, reply)

    def test_nothing(self, served: Server, path: str) -> None:
        reply = served.post(path, {})
        assert reply.status == 422
        check_error(path, reply)

    @pytest.mark.parametrize(
        "value", [None, 3, 1.5, True, {}, {"a": 1}, [None], [{}], ["今天", 3], [["a", 1]], [True]]
    )
    def test_wrong_types(self, served: Server, path: str, value: object) -> None:
        reply = served.post(path, inputs_of(path, value))
        assert reply.status == 422
        assert "found" in check_error(path, reply)

    def test_nothing_in_it(self, served: Server, path: str) -> None:
        reply = served.post(path, inputs_of(path, []))
        assert reply.status == 400
        assert "found an empty array" in check_error(path, reply)

    def test_empty_texts(self, served: Server, path: str) -> None:
        if path == "/decode":
            return
        for text in ("", " \n", "\u200b", "\x00"):
            rows = [["今天"], [text]] if path == "/predict" else ["今天", text]
            reply = served.post(path, inputs_of(path, rows))
            assert reply.status == 422
            assert "[1]" in check_error(path, reply)

    def test_too_many(self, served: Server, path: str) -> None:
        rows: Any = (
            [[7]] * 2049 if path == "/decode" else [["今"]] * 2049 if path == "/predict" else ["今"] * 2049
        )
        reply = served.post(path, inputs_of(path, rows))
        assert reply.status == 413
        message = check_error(path, reply)
        assert "2049" in message and "max_client_batch_size" in message

    def test_other_methods(self, served: Server, path: str) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            if (method, path) != ("GET", "/"):
                reply = served.ask(method, path)
                assert reply.status == 405
                check_error(path, reply)

    def test_half_characters(self, served: Server, path: str) -> None:
        content = json.dumps(inputs_of(path, ["今天\ud83d"])).encode()
        assert served.post(path, content=content).status == 400

    def test_another_model(self, served: Server, path: str) -> None:
        reply = served.post(path, GOOD[path] | {"model": "龘" * 300})
        assert reply.status == 404
        assert len(check_error(path, reply)) < 400


class TestTexts:
    def test_long_runs_of_one_character(self, served: Server) -> None:
        for text in (
            "今" * 300_000,
            "a" * 300_000,
            "👍" * 100_000,
            "́" * 100_000 + "a",
            "\u202e今",
            "[MASK][SEP]",
        ):
            reply = served.post("/embed", {"inputs": text})
            assert reply.status == 200 and len(reply.json[0]) == 32
            assert served.post("/tokenize", {"inputs": text[-2000:]}).status == 200

    def test_unknown_paths(self, served: Server) -> None:
        for path in ("/v1/chat/completions", "/nothing", "/v2/embed", "/embed/", "//", "/v1", "/%00"):
            reply = served.post(path, {"inputs": "今天"})
            assert reply.status in (404, 405)
            check_error(path, reply)

    def test_numbers_out_of_range(self, served: Server) -> None:
        for path, key, value in (
            ("/embed", "dimensions", 0),
            ("/embed", "dimensions", 33),
            ("/embed", "dimensions", 10**30),
            ("/embed", "dimensions", 2.5),
            ("/embed", "dimensions", True),
            ("/v1/embeddings", "dimensions", -1),
            ("/v1/rerank", "top_n", 0),
            ("/v1/classify", "top_k", -3),
            ("/embed", "truncate", 1),
            ("/embed", "normalize", "true"),
            ("/embed", "truncation_direction", "left"),
            ("/v1/embeddings", "encoding_format", "int8"),
        ):
            reply = served.post(path, GOOD[path] | {key: value})
            assert reply.status == 422
            assert key in check_error(path, reply)

    def test_token_ids_out_of_range(self, served: Server) -> None:
        for rows in (
            [[7, 63]],
            [7, -1],
            [[7], [10**20]],
            [[7], [1.5]],
            [[]],
            [[7], "今天"],
            [[7], [True]],
            [[2, 3]],
        ):
            for path, key in (("/embed", "inputs"), ("/v1/embeddings", "input")):
                reply = served.post(path, {key: rows})
                assert reply.status in (400, 422)
                check_error(path, reply)

    def test_answers_too_large(self, served: Server) -> None:
        """A small request must not ask for gigabytes."""
        labels = [first + second for first in "怎么改密码如何修登录" for second in "今天气很好不心情体育"]
        texts = [f"今天{number}" for number in range(2048)]
        body = {"input": texts, "labels": labels}
        reply = served.post("/v1/classify", body)
        assert reply.status == 413 and "204800 scores" in check_error("/v1/classify", reply)
        assert len(served.post("/v1/classify", body | {"input": texts[:20], "top_k": 1}).json["data"]) == 20
        reply = served.post("/tokenize", {"inputs": ["今" * 100_000] * 3})
        assert reply.status == 413 and "300000 characters" in check_error("/tokenize", reply)

    def test_prompts(self, served: Server) -> None:
        for prompt in ("", "没有", "{}{}", "{}{text}{text}", "改" * 100 + "{}", "\u200b", "{" + "}"):
            body = GOOD["/v1/classify"] | {"prompt": prompt}
            reply = served.post("/v1/classify", body)
            assert reply.status == (200 if prompt == "{}" else 422), prompt
            if reply.status == 422:
                assert "prompt" in check_error("/v1/classify", reply)


def test_limits_of_another_server(folders: dict[str, Any]) -> None:
    """Limits are named in errors, with the value given, and shown in /info."""
    options = ("--max-client-batch-size=3", "--payload-limit=1000", "--api-key=secret")
    key = {"authorization": "Bearer secret"}
    with serving({"embed": folders["embed"]}, *options) as server:
        for path in ("/embed", "/v1/embeddings", "/info", "/v1/models"):
            reply = server.ask("GET" if path in ("/info", "/v1/models") else "POST", path, GOOD.get(path))
            assert reply.status == 401
            check_error(path, reply)
        limits = server.get("/info", headers=key).json
        assert limits["max_client_batch_size"] == 3 and limits["limits"]["payload_limit"] == 1000
        assert server.post("/embed", {"inputs": ["今"] * 3}, headers=key).status == 200
        reply = server.post("/embed", {"inputs": ["今"] * 4}, headers=key)
        assert reply.status == 413 and "found 4 inputs; expected at most 3" in check_error("/embed", reply)
        reply = server.post(
            "/similarity", {"inputs": {"source_sentence": "今", "sentences": ["今"] * 3}}, headers=key
        )
        assert reply.status == 413
        reply = server.post("/v1/embeddings", {"input": "今" * 1000}, headers=key)
        assert reply.status == 413 and "1,000" in check_error("/v1/embeddings", reply)
        reply = server.post("/predict", {"inputs": "今"}, headers=key)
        assert reply.status == 424 and "no model served here (embed) gives" in check_error("/predict", reply)


_KEYS = sorted(
    {key for body in GOOD.values() for key in body}
    | {
        "model",
        "truncate",
        "dimensions",
        "top_n",
        "top_k",
        "prompt",
        "prompt_name",
        "normalize",
        "raw_scores",
    }
    | {"multi_label", "encoding_format", "return_documents", "parameters", "add_special_tokens", "user"}
)
_TEXTS = st.text(st.sampled_from("今天气很好a1 [MASK]\n\u200b\x00😀é" + string.punctuation), max_size=30)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXTS | st.integers(0, 80)
_VALUES = st.recursive(
    _LEAVES,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), part, max_size=3),
)


@st.composite
def _bodies(draw: st.DrawFn) -> tuple[str, object]:
    """A route, and a good body with some keys changed, dropped or added; or anything at all."""
    path = draw(st.sampled_from(ROUTES))
    if draw(st.integers(0, 9)) == 0:
        return path, draw(_VALUES)
    body = dict(GOOD[path])
    for key in draw(st.lists(st.sampled_from([*body, *_KEYS]), max_size=3)):
        if draw(st.booleans()):
            body[key] = draw(st.one_of(_VALUES, st.lists(_TEXTS, max_size=5)))
        else:
            body.pop(key, None)
    return path, body


def test_any_json(served: Server) -> None:
    connection = http.client.HTTPConnection(HOST, served.port, timeout=30)
    statuses: dict[int, int] = {}

    @settings(max_examples=400, suppress_health_check=list(HealthCheck))
    @given(_bodies())
    def ask(case: tuple[str, object]) -> None:
        path, body = case
        connection.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        reply = Reply(response.status, headers, response.read())
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        assert reply.status in (200, 400, 404, 413, 422, 424), reply
        if reply.status == 200:
            assert reply.json is not None
        else:
            check_error(path, reply)

    ask()
    connection.close()
    assert served.get("/health").status == 200
    assert statuses[200] > 20 and statuses[422] > 100  # the bodies are neither all good nor all bad


DESCRIPTION = Path(__file__).parent.parent / "docs" / "openapi.json"
_OPERATIONS = {
    found.ok().label: found.ok() for found in schemathesis.openapi.from_path(DESCRIPTION).get_all_operations()
}
_GOOD, _BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        (label, mode)
        for label, operation in _OPERATIONS.items()
        # Where a request has nothing in it, nothing can be wrong.
        for mode in (
            (_GOOD, _BAD) if {"requestBody", "parameters"} & set(operation.definition.raw) else (_GOOD,)
        )
    ],
)
def test_schemathesis(served: Server, operation: str, mode: GenerationMode) -> None:
    """Requests made from the description, good and bad: no 5xx, and every answer is as described."""

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(_OPERATIONS[operation].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=served.url, checks=_CHECKS)

    ask()
