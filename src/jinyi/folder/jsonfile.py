"""JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinyi.errors import FolderError, shorten


def read_json(path: Path, rule: str) -> dict[str, Any]:
    """Read a JSON object that has to be there.

    Args:
        path: the file.
        rule: what is expected, for the message if it is missing.

    Raises:
        FolderError: it is missing, damaged or no object.
    """
    if not path.is_file():
        raise FolderError(
            where=str(path.parent),
            found=f"no {path.name}",
            expected=rule,
            fix="Copy the whole folder, or give the folder the model was saved to.",
        )
    body: dict[str, Any] = parse_json(path)
    return body


def optional_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one if there is no such file."""
    return parse_json(path) if path.is_file() else {}


def parse_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file whose top is of the given type (`dict` or `list`).

    Raises:
        FolderError: no UTF-8, no JSON, or another type.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            body = json.load(stream)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FolderError(
            where=str(path),
            found=f"no readable JSON ({error})",
            expected="a JSON file in UTF-8",
            fix="The file is damaged or was cut: copy it again.",
        ) from error
    if not isinstance(body, kind):
        raise FolderError(
            where=str(path),
            found=shorten(body),
            expected="a JSON object" if kind is dict else "a JSON list",
            fix="The file is damaged or belongs to something else: copy it again.",
        )
    return body
