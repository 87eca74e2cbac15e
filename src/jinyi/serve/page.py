"""The page for people: files of this package at `/` and `/page/`, and what it has to know about the models.

Everything the page needs comes from here: no other server, no build step. Its computing is done by the routes that all
clients have. The browser is told to load and to call nothing else (Content-Security-Policy).
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from jinyi import __version__
from jinyi.serve.health import readyz
from jinyi.serve.models import ServedModel

router = APIRouter(include_in_schema=False)
"""The files, which hold no secret and are read without a key."""

facts = APIRouter(include_in_schema=False)
"""What the page knows about the models; behind the key where the server has one."""

_FILES = files("jinyi.serve") / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SAFETY: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Asked for again each time, and answered with 304 while the package is the same.
    "cache-control": "no-cache",
}


@router.head("/")
@router.get("/")
async def index(request: Request) -> Response:
    """Give the page to browsers, and to others what /health says, as TEI does."""
    if "text/html" in request.headers.get("accept", ""):
        return _file("index.html", request)
    return await readyz(request)


def _add(name: str) -> None:
    async def file(request: Request) -> Response:
        return _file(name, request)

    router.add_api_route(f"/page/{name}", file, methods=["GET"])


for _entry in sorted(_FILES.iterdir(), key=lambda entry: entry.name):
    if _entry.name != "index.html":
        _add(_entry.name)


@facts.get("/page/models")
async def models(request: Request) -> Response:
    """Names, operations, labels, prompts and thresholds of the served models."""
    content = {"version": __version__, "models": [_about(model) for model in request.app.state.models]}
    return Response(orjson.dumps(content), media_type="application/json")


def _about(model: ServedModel) -> dict[str, Any]:
    points = None if model.scorer is None else model.scorer.operating_points
    return {
        "name": model.name,
        "operations": model.operations,
        "labels": model.topics,
        "prompt": None if model.open_labels is None else model.open_labels.prompt,
        # The name under which jinyi itself finds it; a folder's path is nobody's business.
        "known": model.source.name,
        "thresholds": None if points is None else points.to_dict(),
    }


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Return a file's bytes and its entity tag."""
    content = (_FILES / name).read_bytes()
    return content, f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def _file(name: str, request: Request) -> Response:
    content, tag = _read(name)
    headers = {**_SAFETY, "etag": tag, "vary": "accept"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[name[name.rindex(".") :]])
