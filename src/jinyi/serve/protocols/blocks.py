"""Answers of many numbers or objects, written block by block: others are answered in between, and no copy of the whole
is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse

BLOCK = 2**15
"""Numbers of a block, about; each holds the loop for a millisecond."""
MANY = 4 * BLOCK
"""Numbers from which an answer is written in blocks."""
OBJECTS = 2**11
"""Small objects of a block, about; they too hold the loop for a millisecond."""
MANY_OBJECTS = 4 * OBJECTS
"""Small objects from which an answer is written in blocks."""
_LEAST = 2**17  # bytes that go out together

Rows = npt.NDArray[np.float32] | Sequence[npt.NDArray[np.float32]]


def numbers_in(rows: Rows) -> int:
    """Return how many numbers rows of numbers hold."""
    return rows.size if isinstance(rows, np.ndarray) else sum(row.size for row in rows)


def row_blocks(rows: Rows) -> Iterator[bytes]:
    """Yield an array, or a list of arrays, as JSON in blocks."""
    if not isinstance(rows, np.ndarray):
        yield b"["
        for place, row in enumerate(rows):
            yield from (b",",) if place else ()
            yield from row_blocks(row)
        yield b"]"
    elif rows.size <= BLOCK:
        yield dumps(rows)
    else:
        yield from list_blocks(rows, max(1, BLOCK * len(rows) // rows.size))


def list_blocks(items: Any, step: int) -> Iterator[bytes]:
    """Yield a list as JSON, so many items at a time.

    Args:
        items: what slices.
        step: items of a block.
    """
    return _joined(dumps(items[start : start + step])[1:-1] for start in range(0, len(items), step))


def item_blocks(items: Iterable[Any]) -> Iterator[bytes]:
    """Yield items as a JSON list, one by one as they are made."""
    return _joined(map(dumps, items))


def nested_blocks(rows: Iterable[Any]) -> Iterator[bytes]:
    """Yield lists of small objects as a JSON list of lists.

    Args:
        rows: each is what slices.
    """
    yield b"["
    for place, row in enumerate(rows):
        yield from (b",",) if place else ()
        yield from list_blocks(row, OBJECTS)
    yield b"]"


def list_object(data: Iterable[bytes], rest: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the object in which OpenAI's protocol puts a list.

    Args:
        data: blocks of the list.
        rest: other keys, one at least.
    """
    return chain([b'{"object":"list","data":'], data, [b",", dumps(rest)[1:]])


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield b"["
    for place, part in enumerate(parts):
        yield from (b",",) if place else ()
        yield part
    yield b"]"


def dumps(content: Any) -> bytes:
    """Return content as JSON; arrays of numpy may stand in it."""
    # Vectors cut to their first numbers lie apart in memory, which orjson leaves to `default`.
    return orjson.dumps(content, default=np.ascontiguousarray, option=orjson.OPT_SERIALIZE_NUMPY)


def written(blocks: Iterable[bytes], headers: Mapping[str, str]) -> Response:
    """Return a JSON response whose blocks are made while it is sent, as fast as the client reads."""
    return StreamingResponse(_paced(blocks), headers=headers, media_type="application/json")


async def _paced(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= _LEAST:
            yield b"".join(parts)
            parts, size = [], 0
            await asyncio.sleep(0)
    yield b"".join(parts)
