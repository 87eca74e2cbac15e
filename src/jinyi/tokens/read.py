"""Reads the tokenizer files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from jinyi.errors import FolderError
from jinyi.tokens.build import CONTROL_TOKENS


def read_tokenizer_json(file: Path) -> Backend:
    """Read a `tokenizer.json`.

    Raises:
        FolderError: it cannot be read.
    """
    text = _read_text(file)
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the library raises the bare class, for damaged and for unknown content alike
        raise FolderError(
            found=f"a file that tokenizers cannot read ({error})",
            expected="a tokenizer.json",
            fix="Copy the file again; it may also be from a newer release: pip install -U tokenizers.",
            where=str(file),
        ) from None
    return backend


def read_vocab(file: Path) -> dict[str, int]:
    """Read a `vocab.txt`: ids by entry; an entry that comes twice has the id of its last line.

    Raises:
        FolderError: it cannot be read or lacks a control token.
    """
    lines = _read_text(file).split("\n")
    entries = lines[:-1] if not lines[-1] else lines
    ids = {token.removesuffix("\r"): index for index, token in enumerate(entries)}
    missing = [token for token in CONTROL_TOKENS if token not in ids]
    if missing:
        raise FolderError(
            found=f"{len(entries)} entries without {' '.join(missing)}",
            expected="the vocab.txt of a BERT model",
            fix="Take the vocab.txt of this very model.",
            where=str(file),
        )
    return ids


def read_settings(file: Path) -> dict[str, Any]:
    """Read `tokenizer_config.json`; {} where there is none."""
    if not file.is_file():
        return {}
    try:
        settings = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise FolderError(
            found=f"damaged JSON ({error})",
            expected="a JSON object",
            fix="Copy the file again.",
            where=str(file),
        ) from None
    return settings if isinstance(settings, dict) else {}


def _read_text(file: Path) -> str:
    try:
        # newline="": only "\n" ends an entry of a vocab.txt; some hold "\u2028" or "\r" as entries.
        with open(file, encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        raise FolderError(
            found="no such file", expected=file.name, fix="Check the path.", where=str(file)
        ) from None
    except UnicodeDecodeError as error:
        raise FolderError(
            found=f"bytes at position {error.start} that are not UTF-8",
            expected="UTF-8 text",
            fix="Copy the file again, or convert it to UTF-8.",
            where=str(file),
        ) from None
