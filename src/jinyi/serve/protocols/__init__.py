"""The forms in which clients ask: TEI's, OpenAI's, Cohere's, and our own for topics. One file each."""

from __future__ import annotations

from fastapi import APIRouter

from jinyi.serve.protocols import info, openai, rerank, root, tei, topics


def routers() -> tuple[APIRouter, ...]:
    """Return the routes of all protocols."""
    return tei.router, openai.router, rerank.router, topics.router, info.router, root.router
