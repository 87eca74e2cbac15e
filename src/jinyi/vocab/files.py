"""Vocabularies on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jinyi.errors import FolderError, InputError
from jinyi.files import atomic_file
from jinyi.registry import find_model
from jinyi.tokens import Tokenizer


def read_entries(path: str | os.PathLike[str]) -> list[str]:
    """Entries of a vocabulary in the order of their ids.

    Args:
        path: a `vocab.txt`, a `tokenizer.json`, or a model folder. A line of `vocab.txt` ends at a line feed alone:
            Google's list has other line ends (U+2028) as entries.

    Raises:
        FolderError: it cannot be read.
    """
    place = Path(os.path.expanduser(path))
    if place.is_dir():
        return Tokenizer.from_folder(place).vocab
    if place.suffix == ".json":
        return Tokenizer.from_file(place).vocab
    try:
        text = place.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise FolderError(
            where=str(place),
            found=str(fault),
            expected="a vocab.txt in UTF-8, a tokenizer.json or a model folder",
            fix="Check the path.",
        ) from fault
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def write_entries(path: str | os.PathLike[str], entries: Sequence[str]) -> None:
    """Write a `vocab.txt`, whole or not at all.

    Raises:
        InputError: an entry with a line end in it, or a place that cannot be written.
    """
    for index, entry in enumerate(entries):
        if "\n" in entry or not entry:
            raise InputError(
                found=f"entry {index}, {entry!r}",
                expected="entries that fill a line each",
                fix="Write tokenizer.json instead.",
                where=str(path),
            )
    save_text(path, "".join(f"{entry}\n" for entry in entries))


def save_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as stream:
        stream.write(text.encode("utf-8"))


def open_tokenizer(name: str | os.PathLike[str]) -> Tokenizer:
    """Open the tokenizer of a `tokenizer.json`, a `vocab.txt` (BERT's own normaliser, lower-casing) or a model.

    Args:
        name: one of these files, or folder or name of a model.

    Raises:
        FolderError: it cannot be read.
        ModelNotFoundError: no file and no model of that name.
    """
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        return Tokenizer.from_folder(find_model(name))
    return Tokenizer.from_file(path) if path.suffix == ".json" else Tokenizer.from_vocab(path)
