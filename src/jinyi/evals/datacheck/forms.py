"""When two texts count as the same: three forms, each a function of the one before, and their hashes.

written: the text as it stands. same: without white space. alike: besides, one width, one case, no punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from jinyi.text import normalize

Keys = npt.NDArray[np.uint64]

_KEPT = "%‰."  # "5%" is not "5", and a point between digits is part of the number
_DROPPED = "~～^`´¨"  # of the categories of symbols, but typed as punctuation
_LONE_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


class _Letters(dict[int, int | None]):
    """Table for `str.translate` that drops punctuation and fills itself with the characters it meets."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        category = unicodedata.category(char)
        selector = 0xFE00 <= code <= 0xFE0F  # says how an emoji looks, not which it is
        drop = char in _DROPPED or selector or (category[0] in "PZC" and char not in _KEPT)
        self[code] = None if drop else code
        return self[code]


_LETTERS = _Letters()


def same_form(text: str) -> str:
    """Return a text without white space, which says little in Chinese."""
    return "".join(text.split())


def alike_form(text: str, *, simplified: bool = False) -> str:
    """Return what is left of a text without white space, width, case and punctuation.

    Symbols stay (＋, ￥, emoji), and so do % and the point of a number. A text of punctuation alone stays as it is.

    Args:
        text: any str.
        simplified: also traditional to simplified characters.

    Raises:
        MissingExtraError: `simplified` without the package opencc.
    """
    same = same_form(text)
    folded = same_form(normalize(same, nfkc=True, simplified=simplified)).casefold().translate(_LETTERS)
    return (_LONE_POINT.sub("", folded) if "." in folded else folded) or same


def text_keys(text: str, *, simplified: bool = False) -> tuple[int, int, int]:
    """Return the hashes of a text's three forms, 64 bits each.

    Two of a million different texts meet in one hash with a chance of 3 in 100 million.
    """
    same = same_form(text)
    alike = alike_form(same, simplified=simplified)
    written_key = _hash(text)
    same_key = written_key if same == text else _hash(same)
    return written_key, same_key, same_key if alike == same else _hash(alike)


def row_keys(keys: Keys, *, ordered: bool) -> Keys:
    """Return one hash for each row.

    Args:
        keys: [rows, texts], hashes of the texts of each row.
        ordered: (a, b) is another row than (b, a).
    """
    columns = keys if ordered or keys.shape[1] == 1 else np.sort(keys, axis=1)
    row = np.full(len(keys), keys.shape[1], np.uint64)  # a pair is never a single text
    for column in columns.T:
        row = (row + column) * _MULTIPLIER
        row ^= row >> _SHIFT
    return row


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")
