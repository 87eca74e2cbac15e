"""The two encodings inside a checkpoint's index: protocol buffer fields, and the ordered keys of slices."""

from __future__ import annotations

from collections.abc import Iterator

from jinyi.errors import FolderError

RECOPY = "The checkpoint is damaged or was copied only in part: copy or download it again."


class Malformed(ValueError):
    """Bytes that are not what the format asks for; callers add the place."""


def damaged(where: str, found: str, expected: str) -> FolderError:
    """Return the error for a file whose bytes cannot be what TensorFlow wrote."""
    return FolderError(where=where, found=found, expected=expected, fix=RECOPY)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number in base 128, low groups first (at most 64 bits).

    Returns:
        The number and the place after it.

    Raises:
        Malformed: the data end within it, it has more than 64 bits, or more bytes than it needs (no writer does
            that, and it would leave bytes that could be damaged unseen).
    """
    value, shift = 0, 0
    while True:
        if at >= len(data):
            raise Malformed("a number cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise Malformed("a number of more than 64 bits")
            if shift and not byte:
                raise Malformed("a number with bytes to spare")
            return value, at
        shift += 7
        if shift > 63:
            raise Malformed("a number of more than 64 bits")


def message_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a protocol buffer message.

    Values are int (varint, fixed32, fixed64) or bytes (strings and messages inside).

    Raises:
        Malformed: the data end within a field, or have one of another wire type.
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Malformed(f"a field of wire type {kind}")
        if at + size > len(data):
            raise Malformed(f"{len(data) - at} bytes where a field has {size}")
        piece, at = data[at : at + size], at + size
        yield number, piece if kind == 2 else int.from_bytes(piece, "little")


def slice_key(name: str, extents: tuple[tuple[int, int], ...]) -> bytes:
    """Return the key under which TensorFlow stores one slice of a partitioned variable.

    The encoding keeps the order of names and numbers under a comparison of bytes ("ordered code"); all keys of
    slices begin with a zero byte, which no name of a variable does.

    Args:
        name: the whole variable.
        extents: start and length along each axis; length -1 means the whole axis.
    """
    escaped = name.encode("utf-8").replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    key = _ordered(0) + escaped + b"\x00\x01" + _ordered(len(extents))
    for start, length in extents:
        key += _ordered_signed(start) + _ordered_signed(length)
    return key


def _ordered(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _ordered_signed(value: int) -> bytes:
    # n bytes hold 7n - 1 bits and a sign; the first bits count the bytes, inverted for negative numbers.
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    raw = (value & ((1 << 8 * size) - 1)) ^ (((1 << size) - 1) << 7 * size)
    return raw.to_bytes(size, "big")
