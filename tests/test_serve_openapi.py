"""/openapi.json is the committed description, and what it shows works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinyi.serve.protocols import routers
from jinyi.serve.protocols.route import Body
from serve_process import Server

DESCRIPTION = Path(__file__).parent.parent / "docs" / "openapi.json"


def described() -> dict[str, Any]:
    description: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return description


def test_it_is_the_committed_one(served: Server) -> None:
    assert served.get("/openapi.json").json == described(), (
        "the routes have changed: look at the difference, and write docs/openapi.json anew with\n"
        "curl -s 127.0.0.1:8000/openapi.json | python -m json.tool --no-ensure-ascii --indent 1 > docs/openapi.json"
    )


def test_its_examples_work(served: Server) -> None:
    schemas = described()["components"]["schemas"]
    tried = 0
    for path, methods in described()["paths"].items():
        if "post" not in methods:
            continue
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        for kind in schema.get("anyOf", [schema]):
            for body in schemas[kind["$ref"].rpartition("/")[2]]["examples"]:
                reply = served.post(
                    path, body | ({"model": "pair"} if kind["$ref"].endswith("PredictRequest") else {})
                )
                assert reply.status == 200, (path, body, reply.body)
                tried += 1
    assert tried > 15


def test_every_route_says_what_it_does_and_how_it_fails() -> None:
    paths = described()["paths"]
    served = {route.path for router in routers() for route in router.routes if route.include_in_schema}
    assert {path.replace(":path", "") for path in served} <= set(paths)
    for path, methods in paths.items():
        for method, route in methods.items():
            assert route["summary"] and route["description"], path
            if method == "post":
                assert {"400", "401", "404", "413", "415", "422", "424", "429", "503"} <= set(
                    route["responses"]
                )
                shape = "NestedError" if path.startswith(("/v1/", "/v2/")) else "PlainError"
                content = route["responses"]["422"]["content"]["application/json"]
                assert content["schema"]["$ref"].endswith(shape)
                assert route["security"] == [{"HTTPBearer": []}]


def test_bodies_refuse_unknown_keys_and_have_examples() -> None:
    kinds = [kind for kind in Body.__subclasses__() if kind.__module__.startswith("jinyi.")]
    assert len(kinds) > 8
    for kind in kinds:
        assert kind.model_config["extra"] == "forbid" and kind.model_config["strict"]
