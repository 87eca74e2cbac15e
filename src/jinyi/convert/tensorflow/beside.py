"""What lies beside a checkpoint: its configuration and its vocabulary, recognised by what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinyi.convert.tensorflow.places import FolderPlace, Place
from jinyi.errors import FolderError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_config(place: Place, given: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Read bert_config.json, whatever its name.

    Args:
        place: where the checkpoint lies.
        given: a file to take instead.

    Raises:
        FolderError: none is there, or several that differ, or the given one is none.
    """
    home, name = _choose_file(place, given, "bert_config.json", _looks_like_config)
    if not _looks_like_config(home, name):
        raise FolderError(
            where=home.where(name),
            found="no JSON object with hidden_size and num_hidden_layers",
            expected="a configuration like bert_config.json",
            fix="Give the configuration that came with the checkpoint.",
        )
    body: dict[str, Any] = json.loads(home.read(name))
    return body


def read_vocab(place: Place, given: str | os.PathLike[str] | None, rows: int) -> list[str]:
    """Read vocab.txt: a token a line.

    Args:
        place: where the checkpoint lies.
        given: a file to take instead.
        rows: rows of the word embedding.

    Raises:
        FolderError: none is there, or several that differ, or it does not fit the model.
    """

    def fits(place: Place, name: str) -> bool:
        return name.endswith(".txt") and "vocab" in name.lower()

    pieces = [name for name in place if name.endswith((".model", ".spm"))]
    if given is None and pieces and not any(fits(place, name) for name in place):
        raise FolderError(
            where=place.where(pieces[0]),
            found="a SentencePiece model and no vocab.txt",
            expected="a WordPiece vocabulary",
            fix="jinyi reads WordPiece models; the Chinese ones have a vocab.txt.",
        )
    home, name = _choose_file(place, given, "vocab.txt", fits)
    where = home.where(name)
    try:
        lines = home.read(name).decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FolderError(
            where=where,
            found=f"bytes that are not UTF-8 ({error})",
            expected="UTF-8 text",
            fix="Copy it again.",
        ) from error
    words = [line.removesuffix("\r") for line in lines]
    while len(words) > rows and not words[-1]:
        words.pop()  # empty lines at the end
    missing = [token for token in _SPECIAL if token not in words]
    if missing or len(words) > rows:
        raise FolderError(
            where=where,
            found=f"no {', '.join(missing)}" if missing else f"{len(words)} tokens",
            expected="BERT's special tokens"
            if missing
            else f"at most {rows}, the rows of the word embedding",
            fix="Take the vocab.txt of this very checkpoint.",
        )
    return words


def _choose_file(
    place: Place, given: str | os.PathLike[str] | None, what: str, fits: Callable[[Place, str], bool]
) -> tuple[Place, str]:
    if given is not None:
        file = Path(os.path.expanduser(given))
        if not file.is_file():
            raise FolderError(
                where=str(given), found="no such file", expected=what, fix="Check the name of the file."
            )
        return FolderPlace(file.parent), file.name
    names = [name for name in place if fits(place, name)]
    same = len({place.read(name) for name in names}) == 1
    if names and same:
        return place, names[0]
    option = "vocab" if "vocab" in what else "config"
    raise FolderError(
        where=place.where("."),
        found=f"{len(names)} that may be it: {', '.join(names)}" if names else f"no {what}",
        expected=f"one {what} beside the checkpoint",
        fix=f"Put the right one there alone, or name it with {option}= (--{option}). "
        "It must be the one the model was trained with.",
    )


def _looks_like_config(place: Place, name: str) -> bool:
    if not name.endswith(".json") or place.size(name) > 1 << 20:
        return False
    try:
        body = json.loads(place.read(name))
    except ValueError:
        return False
    return isinstance(body, dict) and {"hidden_size", "num_hidden_layers"} <= body.keys()
