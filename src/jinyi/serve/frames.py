"""Frames between the server and its worker process: a JSON head and arrays of numbers. Reading one executes nothing.

A frame is its length (uint32, without these four bytes), the length of the head (uint32), the head as JSON, and the
arrays one after the other, each at a multiple of 8 bytes. The head's "arrays" says their types and shapes. All numbers
are little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LENGTHS = struct.Struct("<II")
_TYPES: dict[str, np.dtype[Any]] = {"i": np.dtype("<i4"), "l": np.dtype("<i8"), "f": np.dtype("<f4")}
_LETTERS = {dtype: letter for letter, dtype in _TYPES.items()}
_ALIGN = 8
PREFIX = 4
"""Bytes of the length in front of a frame."""
BULK = "bulk"
"""The worker's lane of long requests, by which slabs are named; all others are for short ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One message.

    Args:
        head: what it is ("kind") and everything that is no array.
        arrays: int32, int64 or float32; read-only views of the frame's bytes.
    """

    head: dict[str, Any]
    arrays: list[Array]


def pack(head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> bytes:
    """Return a frame as bytes, its length in front.

    Args:
        head: JSON values; "kind" says what the frame is.
        arrays: int32, int64 or float32 of any shape.
    """
    shapes = [[_LETTERS[array.dtype], *array.shape] for array in arrays]
    text = json.dumps({**head, "arrays": shapes}, separators=(",", ":")).encode("ascii")
    parts = [b"", text]
    size = _LENGTHS.size + len(text)
    for array in arrays:
        gap = -size % _ALIGN
        data = array.tobytes()
        parts += (b"\0" * gap, data)
        size += gap + len(data)
    parts[0] = _LENGTHS.pack(size - PREFIX, len(text))
    return b"".join(parts)


def unpack(body: bytes) -> Frame:
    """Read a frame.

    Args:
        body: a frame without the length in front.
    """
    start = _LENGTHS.size - PREFIX
    length = int.from_bytes(body[:start], "little")
    head = json.loads(body[start : start + length])
    place = start + length
    arrays = []
    for letter, *shape in head.pop("arrays"):
        place += -(place + PREFIX) % _ALIGN
        count = 1
        for size in shape:
            count *= size
        arrays.append(np.frombuffer(body, _TYPES[letter], count, place).reshape(shape))
        place += count * _TYPES[letter].itemsize
    return Frame(head, arrays)


def body_length(prefix: bytes | bytearray) -> int:
    """Return how many bytes follow the first four of a frame."""
    return int.from_bytes(prefix[:PREFIX], "little")
