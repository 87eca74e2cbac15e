"""Variables of a TensorFlow checkpoint (V2, a "tensor bundle") as numpy arrays, without TensorFlow.

The index is a table (`table.py`): under the empty key a header, under each variable's name a `BundleEntryProto`
with type, shape, shard, place and CRC (tensorflow/core/protobuf/tensor_bundle.proto). The numbers lie as they
are, little-endian, in `NAME.data-00000-of-00001` and so on, which are memory-mapped. A partitioned variable has
an entry of its own and one for each of its slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from jinyi.convert.tensorflow.crc32c import crc32c, unmask
from jinyi.convert.tensorflow.places import Place
from jinyi.convert.tensorflow.table import read_table
from jinyi.convert.tensorflow.wire import Malformed, damaged, message_fields, slice_key
from jinyi.errors import FolderError

# Numbers of tensorflow/core/framework/types.proto: those of fixed size that models hold, then other names.
_BFLOAT16 = 14
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    _BFLOAT16: np.dtype("<u2"),
    19: np.dtype("<f2"),
}
_OTHERS = {7: "string", 8: "complex64", 18: "complex128", 20: "resource", 21: "variant"}
_Extents = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Entry:
    """One variable, or one slice of one: type (number of `types.proto`), shape, place and CRC-32C (masked)."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[_Extents, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers; checkpoints may also hold strings and resources."""
        return self.dtype in _DTYPES


class Bundle(Mapping[str, np.ndarray]):
    """Variables by name, read and checked against their CRC when asked for.

    float32, float16 and integers come as views of the file (copy on write); bfloat16 and float64 as float32.
    Opening reads the index alone, milliseconds; reading checks about 450 MB a second, the first time.

    Args:
        place: where the files lie.
        prefix: name of the checkpoint in `place`: "bert_model.ckpt".

    Raises:
        FolderError: the index is damaged, a shard is missing or shorter than the index says, or the files
            were written on a big-endian machine.
    """

    def __init__(self, place: Place, prefix: str) -> None:
        self.place, self.prefix = place, prefix
        self._index = place.where(f"{prefix}.index")
        raw = read_table(place.read(f"{prefix}.index"), self._index)
        if b"" not in raw:
            raise damaged(self._index, "a table without a header", "the index of a checkpoint")
        self._shards = self._header(raw.pop(b""))
        self._slices = {key: self._entry(key, value) for key, value in raw.items() if key[:1] == b"\0"}
        self.entries = {
            self._name(key): self._entry(key, value) for key, value in raw.items() if key[:1] != b"\0"
        }
        self._maps: dict[int, np.ndarray] = {}
        self._checked: set[Entry] = set()
        self._check_places()

    def _name(self, key: bytes) -> str:
        try:
            return key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(self._index, f"the name {key!r}", "names in UTF-8") from error

    def _header(self, raw: bytes) -> int:
        try:
            values = dict(message_fields(raw))
        except Malformed as error:
            raise damaged(self._index, f"{error} in its header", "the header of a checkpoint") from error
        shards = values.get(1, 0)
        if values.get(2, 0) != 0:
            raise FolderError(
                where=self._index,
                found="a checkpoint in big-endian numbers",
                expected="little-endian numbers, as nearly all machines write them",
                fix="Load and save it again with TensorFlow on a little-endian machine.",
            )
        if not isinstance(shards, int) or not 1 <= shards < 100_000:
            raise damaged(self._index, f"{shards!r} data files by its header", "from 1 to 99,999")
        return shards

    def _entry(self, key: bytes, raw: bytes) -> Entry:
        values: dict[str, Any] = {"slices": ()}
        names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc"}
        try:
            for number, value in message_fields(raw):
                if number in names and isinstance(value, int):
                    values[names[number]] = value
                elif number == 2 and isinstance(value, bytes):
                    values["shape"] = _shape(value)
                elif number == 7 and isinstance(value, bytes):
                    values["slices"] += (_extents(value),)
                else:
                    raise Malformed(f"field {number} with {value!r}")
        except Malformed as error:
            raise damaged(self._index, f"{error} in the entry {key!r}", "type, shape and place") from error
        return Entry(**values)

    def _check_places(self) -> None:
        for shard in {entry.shard for entry in self._stored()}:
            if shard >= self._shards:
                raise damaged(self._index, f"data file {shard} of {self._shards}", "a data file that exists")
            if self._shard_name(shard) not in self.place:
                raise FolderError(
                    where=self.place.where(self._shard_name(shard)),
                    found="no such file",
                    expected=f"all {self._shards} data files that {self.prefix}.index names",
                    fix="Copy the missing file; the files of a checkpoint belong together.",
                )
            size = self.place.size(self._shard_name(shard))
            needed = max(entry.offset + entry.size for entry in self._stored() if entry.shard == shard)
            if needed > size:
                raise damaged(
                    self.place.where(self._shard_name(shard)),
                    f"{size} bytes",
                    f"at least {needed} bytes, by {self.prefix}.index",
                )
        for name, entry in self._named():
            kind = _DTYPES.get(entry.dtype)
            if kind is not None and entry.size != math.prod(entry.shape) * kind.itemsize:
                raise damaged(
                    self._index,
                    f"{name} with {entry.size} bytes for shape {list(entry.shape)} of {kind}",
                    f"{math.prod(entry.shape) * kind.itemsize} bytes",
                )

    def _named(self) -> Iterator[tuple[str, Entry]]:
        yield from ((name, entry) for name, entry in self.entries.items() if not entry.slices)
        yield from ((repr(key), entry) for key, entry in self._slices.items())

    def _stored(self) -> Iterator[Entry]:
        return (entry for _, entry in self._named())

    def _shard_name(self, shard: int) -> str:
        return f"{self.prefix}.data-{shard:05d}-of-{self._shards:05d}"

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        values = self._assemble(name, entry) if entry.slices else self._read(name, entry)
        if entry.dtype == _BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if values.dtype == np.float64 else values

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a variable, from the index alone."""
        return self.entries[name].shape

    def _read(self, name: str, entry: Entry) -> np.ndarray:
        kind = _DTYPES.get(entry.dtype)
        if kind is None:
            raise FolderError(
                where=f"{self._index}, {name}",
                found=f"values of type {_OTHERS.get(entry.dtype, entry.dtype)}",
                expected="float32, float16, bfloat16, float64 or whole numbers",
                fix="Take the float version of the model.",
            )
        if entry.shard not in self._maps:
            self._maps[entry.shard] = self.place.map(self._shard_name(entry.shard))
        raw = self._maps[entry.shard][entry.offset : entry.offset + entry.size]
        if entry not in self._checked:
            if raw.size != entry.size or crc32c(raw) != unmask(entry.crc):
                raise damaged(
                    f"{self.place.where(self._shard_name(entry.shard))}, byte {entry.offset}",
                    f"{name}, {entry.size} bytes whose CRC-32C is wrong",
                    "the bytes that the index was written for",
                )
            self._checked.add(entry)
        if entry.offset % kind.itemsize:
            raw = raw.copy()  # TensorFlow packs tensors without padding; native code wants them aligned
        return raw.view(kind).reshape(entry.shape)

    def _assemble(self, name: str, entry: Entry) -> np.ndarray:
        """Put a partitioned variable together from its slices."""
        places, pieces = [], []
        for extents in entry.slices:
            piece = self._slices.get(slice_key(name, extents))
            ranges = _ranges(extents, entry.shape)
            shape = tuple(stop - start for start, stop in ranges)
            if piece is None or not ranges or (piece.dtype, piece.shape) != (entry.dtype, shape):
                raise damaged(
                    self._index, f"{name} in slices of which {extents} does not fit", "whole slices"
                )
            places.append(ranges)
            pieces.append(piece)
        apart = all(
            any(a[1] <= b[0] or b[1] <= a[0] for a, b in zip(one, other, strict=True))
            for one, other in combinations(places, 2)
        )
        if not apart or sum(math.prod(piece.shape) for piece in pieces) != math.prod(entry.shape):
            raise damaged(self._index, f"{name} in slices that do not fill it once", "each part exactly once")
        values = np.empty(entry.shape, _DTYPES.get(entry.dtype))
        for ranges, piece in zip(places, pieces, strict=True):
            values[tuple(slice(*bounds) for bounds in ranges)] = self._read(name, piece)
        return values


def _ranges(extents: _Extents, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return first and last + 1 place along each axis; none where the extents are not inside the shape."""
    if len(extents) != len(shape):
        return []
    ranges = [
        (start, side) if length == -1 else (start, start + length)
        for (start, length), side in zip(extents, shape, strict=True)
    ]
    inside = all(0 <= start <= stop <= side for (start, stop), side in zip(ranges, shape, strict=True))
    return ranges if inside else []


def _shape(raw: bytes) -> tuple[int, ...]:
    sides = []
    for number, dim in message_fields(raw):
        if number != 2 or not isinstance(dim, bytes):
            raise Malformed("a shape that is not known")
        sides.append(_signed(dict(message_fields(dim)).get(1, 0)))
    if min(sides, default=0) < 0 or len(sides) > 32 or math.prod(max(side, 1) for side in sides) >> 48:
        raise Malformed(f"the shape {sides}")
    return tuple(sides)


def _extents(raw: bytes) -> _Extents:
    """Return start and length of a slice along each axis; length -1, a field left out, is the whole axis."""
    extents = []
    for number, extent in message_fields(raw):
        if number != 1 or not isinstance(extent, bytes):
            raise Malformed("a slice that is not known")
        values = dict(message_fields(extent))
        extents.append((_signed(values.get(1, 0)), _signed(values[2]) if 2 in values else -1))
    return tuple(extents)


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise Malformed("text where a number belongs")
    return value - (1 << 64) if value >> 63 else value
