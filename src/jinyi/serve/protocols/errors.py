"""The errors of routes, as /openapi.json describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class PlainError(BaseModel):
    """An error as TEI's clients read it."""

    error: str
    error_type: str


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class NestedError(BaseModel):
    """An error as OpenAI's clients read it."""

    error: ErrorBody


_MEANINGS = {
    400: "the body is not JSON, is empty, or came too slowly",
    401: "the key is missing or not known",
    404: "no such model",
    413: "the body or the batch is above a limit, which the message names",
    415: "the body is not application/json",
    422: "the content cannot be used; the message says what was found and what is expected",
    424: "the model failed on this input, or no served model gives what is asked",
    429: "the server has no room; Retry-After says when to come again",
    500: "a defect of the server",
    503: "the server is starting or stopping",
}


def errors(kind: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of all errors of a route."""
    return {status: {"model": kind, "description": meaning} for status, meaning in _MEANINGS.items()}
