"""The index of a TensorFlow checkpoint: a sorted table in the format of LevelDB.

The file is a row of blocks and a footer of 48 bytes. Each block is followed by its compression and the masked
CRC-32C of both; the footer names the place of the index block, which names the data blocks; keys share prefixes
(https://github.com/google/leveldb/blob/main/doc/table_format.md). All of the file is checked: blocks by their
CRCs, and that they and the footer fill the file without holes, so that no byte is left that could be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinyi.convert.tensorflow.crc32c import crc32c, unmask
from jinyi.convert.tensorflow.wire import Malformed, damaged, read_varint
from jinyi.errors import FolderError

MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # compression, CRC
_Handle = tuple[int, int]


def read_table(data: bytes, where: str) -> dict[bytes, bytes]:
    """Read the whole table.

    Args:
        data: the file; kilobytes, so it is taken as bytes.
        where: its name, for messages.

    Returns:
        The values by key, in the order of the keys.

    Raises:
        FolderError: the file is cut or damaged (with the byte where), is no such table, or is compressed.
    """
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise damaged(
            where, f"{len(data)} bytes that do not end as an index does", "the whole index of a checkpoint"
        )
    end = len(data) - _FOOTER
    try:
        meta, at = _handle(data[end:-8], 0)
        index, at = _handle(data[end:-8], at)
    except Malformed as error:
        raise damaged(f"{where}, byte {end}", f"{error} in the footer", "two places of blocks") from error
    if any(data[end + at : -8]):
        raise damaged(f"{where}, byte {end + at}", "a footer that is not filled with zeros", "zeros")

    entries: dict[bytes, bytes] = {}
    places, last = [meta, index], None
    if any(_entries(_block(data, end, meta, where), f"{where}, byte {meta[0]}")):
        raise damaged(f"{where}, byte {meta[0]}", "a block of further blocks", "no filters in an index")
    for bound, raw in _entries(_block(data, end, index, where), f"{where}, byte {index[0]}"):
        place = _whole_handle(raw, f"{where}, byte {index[0]}")
        places.append(place)
        here = f"{where}, byte {place[0]}"
        for key, value in _entries(_block(data, end, place, where), here):
            if last is not None and key <= last:
                raise damaged(here, f"the key {key!r} after {last!r}", "keys in ascending order")
            entries[key] = value
            last = key
        if last is not None and last > bound:
            raise damaged(here, f"the key {last!r}", f"keys up to {bound!r}, as the index block says")
    _check_filled(places, end, where)
    return entries


def _handle(data: bytes, at: int) -> tuple[_Handle, int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _whole_handle(raw: bytes, where: str) -> _Handle:
    try:
        return _handle(raw, 0)[0]
    except Malformed as error:
        raise damaged(where, f"{error} in the index block", "the place of a block") from error


def _block(data: bytes, end: int, place: _Handle, where: str) -> bytes:
    offset, size = place
    stop = offset + size
    here = f"{where}, byte {offset}"
    if stop + _TRAILER > end:
        raise damaged(here, f"a block of {size} bytes", f"it to end before the footer at byte {end}")
    if unmask(int.from_bytes(data[stop + 1 : stop + _TRAILER], "little")) != crc32c(data[offset : stop + 1]):
        raise damaged(here, f"a block of {size} bytes whose CRC-32C is wrong", "the bytes TensorFlow wrote")
    if data[stop]:
        raise FolderError(
            where=here,
            found="a compressed block" + (" (snappy)" if data[stop] == 1 else f" (type {data[stop]})"),
            expected="an uncompressed index, as TensorFlow's Saver writes it",
            fix="Save the checkpoint again with tf.train.Saver.",
        )
    return data[offset:stop]


def _entries(block: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a block; restart points, which serve searches, only say where the pairs end."""
    try:
        count = int.from_bytes(block[-4:], "little")
        end = len(block) - 4 * (count + 1)
        if end < 0:
            raise Malformed(f"a block of {len(block)} bytes with {count} restart points")
        key, at = b"", 0
        while at < end:
            shared, at = read_varint(block, at)
            fresh, at = read_varint(block, at)
            size, at = read_varint(block, at)
            if shared > len(key) or at + fresh + size > end:
                raise Malformed("an entry that passes the end of its block")
            key = key[:shared] + block[at : at + fresh]
            at += fresh + size
            yield key, block[at - size : at]
    except Malformed as error:
        raise damaged(where, str(error), "keys and values") from error


def _check_filled(places: list[_Handle], end: int, where: str) -> None:
    at = 0
    for offset, size in sorted(places):
        if offset != at:
            raise damaged(f"{where}, byte {at}", f"the next block at byte {offset}", "blocks without holes")
        at = offset + size + _TRAILER
    if at != end:
        raise damaged(f"{where}, byte {at}", f"{end - at} bytes of no block", "blocks up to the footer")
