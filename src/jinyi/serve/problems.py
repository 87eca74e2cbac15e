"""What goes wrong with a request, and the two shapes in which a client is told.

A `Problem` is raised wherever a request cannot be answered; the door and the app's handlers turn it into a response.
Routes of OpenAI and Cohere (`/v1/...`, `/v2/...`) nest their errors, those of TEI do not:

    {"error": {"message": "...", "type": "invalid_request_error", "param": "input", "code": null}}
    {"error": "...", "error_type": "Validation"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from starlette.responses import Response

from jinyi.errors import InputError, JinyiError

Kind = Literal["Validation", "Tokenizer", "Overloaded", "Backend", "Unhealthy", "Empty"]
"""The values of TEI's `error_type`."""

NESTED = ("/v1/", "/v2/", "/embeddings")
"""Beginnings of the paths whose clients expect OpenAI's nested error."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Problem(Exception):
    """A request that is not answered with a result.

    Args:
        status: of the HTTP response.
        kind: TEI's word for it.
        message: what was found, what is expected and what to do; never a user's whole text.
        param: the key of the body at fault, for OpenAI's clients.
        headers: further headers of the response.
        code: OpenAI's word for it, such as "model_not_found".
    """

    def __init__(
        self,
        status: int,
        kind: Kind,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.code = code

    def body(self, path: str) -> dict[str, Any]:
        """Return what a client of this path reads.

        Args:
            path: of the request; its beginning decides the shape.
        """
        if not path.startswith(NESTED):
            return {"error": self.message, "error_type": self.kind}
        usual = "server_error" if self.status >= 500 or self.status == 424 else "invalid_request_error"
        kind = _TYPES.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, path: str) -> Response:
        """Return the response for a request of this path."""
        return Response(
            orjson.dumps(self.body(path)), self.status, headers=self.headers, media_type="application/json"
        )


class Overloaded(Problem):
    """The queue is full or too slow for one more request: 429 with Retry-After.

    Args:
        retry_after_s: when room is expected, seconds.
        message: in place of the usual words.
    """

    def __init__(self, retry_after_s: float = 1.0, message: str = "") -> None:
        wait = max(1, math.ceil(retry_after_s))
        text = message or f"the server is at its limit; try again in {wait} s"
        super().__init__(429, "Overloaded", text, headers={"retry-after": str(wait)}, code="overloaded")
        self.retry_after_s = retry_after_s


class DeadlinePassed(Problem):
    """The time a request may take ended before its rows were computed: 429, as the queue was too long for it."""

    def __init__(self, message: str = "") -> None:
        text = (
            message or "the request was not computed within its time; try again or send fewer texts at once"
        )
        super().__init__(429, "Overloaded", text, headers={"retry-after": "1"}, code="deadline_passed")


class ComputeFailed(Problem):
    """The model raised, hung or gave no number for a row of the request: 424.

    Args:
        reason: what happened, without the row's text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(424, "Backend", reason, code="compute_failed")
        self.reason = reason


class NotReady(Problem):
    """The server is starting, stopping or unwell: 503."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        wait = str(max(1, math.ceil(retry_after_s)))
        super().__init__(503, "Unhealthy", message, headers={"retry-after": wait}, code="not_ready")


class Invalid(Problem):
    """The content of a request cannot be used: 422.

    Args:
        message: found, expected, what to do.
        param: the key at fault.
    """

    def __init__(self, message: str, param: str | None = None, *, code: str | None = None) -> None:
        super().__init__(422, "Validation", message, param, code=code)


class TooLarge(Problem):
    """A body or a batch is above a limit, which the message names with the value given: 413."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(413, "Validation", message, param, code="too_large")


class ModelNotFound(Problem):
    """No model of that name is served: 404.

    Args:
        name: as it was asked for.
        served: the names there are.
    """

    def __init__(self, name: str, served: list[str]) -> None:
        shown = name if len(name) <= 80 else name[:79] + "…"
        text = f"the model {shown!r} is not served here; served: {', '.join(served) or 'none'}"
        super().__init__(404, "Validation", text, "model", code="model_not_found")


class WrongModel(Problem):
    """The model is served, but not one of the kind this route needs: 424, as TEI answers."""

    def __init__(self, message: str) -> None:
        super().__init__(424, "Backend", message, "model", code="wrong_model")


def problem_of(error: JinyiError, param: str | None = None) -> Problem:
    """Return the problem for an error of the package that a request's content caused.

    Args:
        error: of `prepare` or a check.
        param: the key of the body it came from.

    Returns:
        422 for input, 424 for everything else (a folder that cannot be read, a missing extra).
    """
    if isinstance(error, InputError):
        return Invalid(str(error), param)
    return ComputeFailed(str(error))
