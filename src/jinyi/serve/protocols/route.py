"""Routes that read JSON: one reader of bodies, whose errors say what was found, and no copy of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, get_args, get_type_hints

import orjson
from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, ValidationError

from jinyi.errors import JinyiError, shorten
from jinyi.serve.problems import Invalid, Problem, problem_of
from jinyi.serve.protocols.errors import errors

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Body(BaseModel):
    """Base of all bodies: no value is turned into another type, and no unknown key is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


AnyBody = TypeVar("AnyBody", bound=Body)


class JsonRoute(APIRoute):
    """A route whose endpoint takes the request and, where it has an argument `body`, the checked body.

    Of a union of bodies that one counts whose required keys are all there. FastAPI describes the route; it neither
    parses nor copies what goes through it.
    """

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        hint = get_type_hints(endpoint).get("body")
        kinds: tuple[type[Body], ...] = get_args(hint) or ((hint,) if hint else ())

        async def handle(request: Request) -> Response:
            try:
                if not kinds:
                    return await endpoint(request, **request.path_params)
                value = read_json(await request.body(), kinds[0])
                return await endpoint(request, checked(value, *kinds))
            except JinyiError as error:
                raise problem_of(error, _key(error.where)) from error

        return handle


def _key(where: str) -> str | None:
    """Return the key of the body that an error's place begins with, such as inputs in "inputs[3]"."""
    found = re.match(r"(?!row\b)[a-z_]+", where)
    return found.group() if found else None


def new_router(kind: type[BaseModel], *tags: str) -> APIRouter:
    """Return a router of JSON routes.

    Args:
        kind: how their errors look.
        tags: under which the description lists them.
    """
    key = HTTPBearer(auto_error=False, description="one of the server's keys, where it has any")
    # Described here; the door in front of the app is what asks for it.
    return APIRouter(
        route_class=JsonRoute, tags=[*tags], responses=errors(kind), dependencies=[Security(key)]
    )


def read_json(content: bytes, kind: type[Body]) -> dict[str, Any]:
    """Return the object that a body holds.

    Args:
        content: the body.
        kind: what it should be, for the example in messages.

    Raises:
        Problem: 400 where it is not JSON, 422 where it is no object.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        what = f"no JSON in UTF-8 ({error.msg})" if content else "an empty body"
        text = f"body: found {what}; expected an object such as {_example(kind)}"
        raise Problem(400, "Validation", text, code="invalid_json") from None
    if not isinstance(value, dict):
        found = f"{shorten(value)}, {json_type(value)}"
        raise Invalid(f"body: found {found}; expected an object such as {_example(kind)}")
    return value


def checked(value: dict[str, Any], kind: type[AnyBody], *others: type[AnyBody]) -> AnyBody:
    """Return an object as the first kind of body whose required keys it has, else as the first.

    Raises:
        Invalid: a key is unknown or missing, or a value is of another type.
    """
    for other in (kind, *others):
        if all(name in value for name, field in other.model_fields.items() if field.is_required()):
            kind = other
            break
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _explained(error, kind) from None


def json_type(value: object) -> str:
    """Return JSON's word for the type of a value."""
    names = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}
    return "null" if value is None else names[type(value)]


def _explained(error: ValidationError, kind: type[Body]) -> Invalid:
    """Return the first fault in words."""
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"])) or "body"
    param = str(fault["loc"][0]) if fault["loc"] else None
    if fault["type"] == "extra_forbidden":
        return Invalid(
            f"{shorten(place)}: found a key that means nothing here; expected {', '.join(kind.model_fields)}",
            param,
        )
    if fault["type"] == "missing":
        return Invalid(f"{place}: found nothing; expected it, in a body such as {_example(kind)}", param)
    given = fault["input"]
    expected = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Invalid(f"{place}: found {shorten(given)}, {json_type(given)}; expected {expected}", param)


def _example(kind: type[Body]) -> str:
    extra: Any = kind.model_config["json_schema_extra"]
    return orjson.dumps(extra["examples"][0]).decode()


def example(**body: Any) -> ConfigDict:
    """Return the setting that shows a body of this kind, in the description and in errors."""
    return ConfigDict(json_schema_extra={"examples": [body]})
