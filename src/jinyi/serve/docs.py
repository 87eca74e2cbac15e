"""`/docs`: the routes for people, written out of /openapi.json on the server: no script, no other address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)

_STYLE = """
:root { color-scheme: light dark; --soft: #7775; }
body { font: 15px/1.6 system-ui, "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif;
  max-width: 860px; margin: 0 auto; padding: 24px 16px; }
code, pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { overflow-x: auto; padding: 10px 12px; border: 1px solid var(--soft); border-radius: 6px; }
details { border-top: 1px solid var(--soft); padding: 8px 0; }
summary { cursor: pointer; } summary code { font-weight: 600; }
h2 { margin: 28px 0 6px; font-size: 18px; }
table { border-collapse: collapse; width: 100%; } td { padding: 3px 10px 3px 0; vertical-align: top; }
"""
_SAFETY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Give all routes with their bodies as a page."""
    page = "".join(_page(request.app.openapi()))
    return Response(page, headers=_SAFETY, media_type="text/html; charset=utf-8")


def _page(described: dict[str, Any]) -> Iterator[str]:
    info = described["info"]
    yield '<!doctype html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width"><title>jinyi: routes</title>'
    yield f"<style>{_STYLE}</style><h1>jinyi {escape(info['version'])}</h1>"
    yield f"<p>{escape(info['description'])}</p>"
    yield '<p>For programs: <a href="/openapi.json">/openapi.json</a>. To try things out: <a href="/">the page</a>.</p>'
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            groups.setdefault((route.get("tags") or ["other"])[0], []).append((method, path, route))
    for group, routes in groups.items():
        yield f"<h2>{escape(group)}</h2>"
        for method, path, route in routes:
            yield f"<details><summary><code>{method.upper()} {escape(path)}</code> "
            yield f"{escape(route.get('summary', ''))}</summary>"
            yield f"<p>{escape(route.get('description', ''))}</p>"
            content = route.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                yield from _body(content.get("schema", {}), described["components"]["schemas"])
            yield "</details>"


def _body(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    for kind in schema.get("anyOf", [schema]):
        body = schemas.get(kind.get("$ref", "").rpartition("/")[2], kind)
        required = body.get("required", [])
        yield "<table>"
        for key, field in body.get("properties", {}).items():
            need = "" if key in required else "optional"
            default = f", default {json.dumps(field['default'])}" if field.get("default") is not None else ""
            yield f"<tr><td><code>{escape(key)}</code></td><td>{need}{escape(default)}</td>"
            yield f"<td>{escape(field.get('description', ''))}</td></tr>"
        yield "</table>"
        for example in body.get("examples", [])[:2]:
            yield f"<pre>{escape(json.dumps(example, ensure_ascii=False, indent=1))}</pre>"
