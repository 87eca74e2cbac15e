"""Inputs in the forms that bodies have them: checked here, so that an error names the row and says what to do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request
from pydantic import Field, WithJsonSchema

from jinyi.errors import InputError, shorten
from jinyi.serve.problems import Invalid, Problem, TooLarge
from jinyi.serve.protocols.route import json_type
from jinyi.text import check_text

Ids = list[list[int]]

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_ROWS = {"type": "array", "items": _IDS, "minItems": 1}
_PAIR = {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}
_SEQUENCE = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}

Texts = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, _TEXTS]}), Field(description="a text, or several")]
TextList = Annotated[Any, WithJsonSchema(_TEXTS), Field(description="texts")]
TextsOrIds = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_TEXT, _TEXTS, _IDS, _ROWS]}),
    Field(
        description="a text, several, or token ids of this model as /tokenize gives them, one row or several"
    ),
]
IdRows = Annotated[
    Any, WithJsonSchema({"anyOf": [_IDS, _ROWS]}), Field(description="token ids, one row or several")
]
Sequences = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_TEXT, _PAIR, {"type": "array", "items": _SEQUENCE, "minItems": 1}]}),
    Field(description="a text, a pair of texts, or a batch of both: [[text], [text, text], ...]"),
]
Documents = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "anyOf": [
                    _TEXT,
                    {
                        "type": "object",
                        "properties": {"text": _TEXT},
                        "required": ["text"],
                        "additionalProperties": False,
                    },
                ]
            },
            "minItems": 1,
        }
    ),
    Field(description="texts, or objects with a text"),
]
Model = Annotated[
    str | None,
    Field(
        default=None,
        description="name of the model, as /v1/models lists them; none: the first that can answer",
    ),
]
Truncate = Annotated[
    bool | None,
    Field(
        default=None,
        description="true or null: texts too long are cut, and the header x-truncated-inputs counts them; "
        "false: they are refused",
    ),
]


def mode_of(truncate: bool | None) -> str:
    """Return how long texts are treated, in the words of the models."""
    return "error" if truncate is False else "warn"


def limit(request: Request) -> int:
    """Return how many inputs a request may have."""
    most: int = request.app.state.settings.max_client_batch_size
    return most


def one_text(value: object, place: str) -> str:
    """Return a value if it is a text with something to read in it.

    Raises:
        InputError: it is not; names the place.
    """
    if not isinstance(value, str):
        raise _mistyped(value, place, "a text")
    return check_text(value, place)


def read_texts(value: object, key: str, most: int) -> list[str]:
    """Return one or several texts as a checked list.

    Args:
        value: as it stood in the body.
        key: where, for messages.
        most: texts of one request.

    Raises:
        Problem: 400 for none, 413 for too many.
        InputError: not text, or an empty one; names the row.
    """
    if isinstance(value, str):
        return [one_text(value, key)]
    if not isinstance(value, list):
        raise _mistyped(value, key, "a text, or an array of texts")
    check_count(value, key, most)
    return [one_text(text, f"{key}[{row}]") for row, text in enumerate(value)]


def read_text_list(value: object, key: str, most: int) -> list[str]:
    """Return an array of texts as a checked list; one bare text is refused. Otherwise as `read_texts`."""
    if not isinstance(value, list):
        raise _mistyped(value, key, "an array of texts")
    return read_texts(value, key, most)


def read_documents(value: object, key: str, most: int) -> list[str]:
    """Return the texts of documents, which are texts or {"text": text}; otherwise as `read_text_list`."""
    if isinstance(value, list):
        value = [_text_of(document, f"{key}[{row}]") for row, document in enumerate(value)]
    return read_text_list(value, key, most)


def read_texts_or_ids(value: object, key: str, most: int, vocabulary: int) -> list[str] | Ids:
    """Return texts, or rows of token ids, as a checked list; `read_texts` says how it fails.

    Args:
        value: as it stood in the body.
        key: where.
        most: inputs of one request.
        vocabulary: number of ids the model knows.
    """
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], (int, list))
        and not isinstance(value[0], bool)
    ):
        return read_ids(value, key, most, vocabulary)
    return read_texts(value, key, most)


def read_ids(value: object, key: str, most: int, vocabulary: int) -> Ids:
    """Return rows of token ids; the arguments are those of `read_texts_or_ids`."""
    if not isinstance(value, list):
        raise _mistyped(value, key, "token ids, one array of them or several")
    rows = value if not value or isinstance(value[0], list) else [value]
    check_count(rows, key, most)
    for number, row in enumerate(rows):
        place = key if rows is not value else f"{key}[{number}]"
        if not isinstance(row, list):
            raise _mistyped(row, place, "an array of token ids, as in the rows before it")
        if not row:
            raise Problem(400, "Empty", f"{place}: found an empty array; expected token ids", key)
        if set(map(type, row)) != {int} or not 0 <= min(row) <= max(row) < vocabulary:
            raise _no_id(row, place, vocabulary)
    return rows


def read_sequences(value: object, key: str, most: int) -> tuple[list[str | tuple[str, str]], bool]:
    """Return texts and pairs, and whether it was one alone: a text, or one pair [text, text].

    The arguments are those of `read_texts`, and so is how it fails.
    """
    if isinstance(value, str):
        return [one_text(value, key)], True
    if not isinstance(value, list):
        raise _mistyped(value, key, "a text, a pair of texts, or an array of [text] and [text, text]")
    check_count(value, key, most)
    if isinstance(value[0], str):
        return [_sequence(value, key)], True
    return [_sequence(row, f"{key}[{place}]") for place, row in enumerate(value)], False


def check_count(rows: list[Any], key: str, most: int) -> None:
    """Raise Problem 400 for no rows at all and 413 for more than a request may have."""
    if not rows:
        raise Problem(400, "Empty", f"{key}: found an empty array; expected one input at least", key)
    if len(rows) > most:
        raise TooLarge(
            f"{key}: found {len(rows)} inputs; expected at most {most}, this server's max_client_batch_size. "
            "Send them in several requests.",
            key,
        )


def check_dimensions(wanted: int | None, width: int) -> None:
    """Raise Invalid for more numbers than the model's vectors have."""
    if wanted is not None and wanted > width:
        raise Invalid(
            f"dimensions: found {wanted}; expected at most {width}, the length of this model's vectors",
            "dimensions",
        )


def _text_of(document: object, place: str) -> object:
    if not isinstance(document, dict):
        return document
    if set(document) != {"text"}:
        raise InputError(
            found=f"a document with the keys {shorten(sorted(document), 80)}",
            expected='a text, or an object {"text": ...} with this key alone',
            fix="Put together what is to be compared, and send it as text.",
            where=place,
        )
    return document["text"]


def _no_id(row: list[Any], place: str, vocabulary: int) -> InputError:
    """Return the error for the first value of a row that is no token id."""
    for token in row:
        if type(token) is not int:
            return _mistyped(token, place, "token ids: whole numbers")
        if not 0 <= token < vocabulary:
            break
    return InputError(
        found=f"token id {shorten(token)}",
        expected=f"ids from 0 to {vocabulary - 1}, those of this model's own vocabulary",
        fix="Take them from /tokenize: other programs number their tokens otherwise. Or send the text.",
        where=place,
    )


def _sequence(row: object, place: str) -> str | tuple[str, str]:
    if not isinstance(row, list) or len(row) not in (1, 2):
        raise _mistyped(row, place, "[text] or [text, text]")
    texts = [one_text(text, f"{place}[{side}]") for side, text in enumerate(row)]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _mistyped(value: object, key: str, expected: str) -> InputError:
    size = f" of {len(value)}" if isinstance(value, list) else ""
    return InputError(
        found=f"{shorten(value)}, {json_type(value)}{size}",
        expected=expected,
        fix="The server's /openapi.json describes the body.",
        where=key,
    )
