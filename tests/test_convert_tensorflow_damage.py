"""TensorFlow checkpoints that are damaged, cut, compressed or hostile: refused with their place."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi.convert.tensorflow.bundle import Bundle
from jinyi.convert.tensorflow.checkpoint import open_checkpoint
from jinyi.convert.tensorflow.crc32c import crc32c, unmask
from jinyi.convert.tensorflow.places import FolderPlace
from jinyi.convert.tensorflow.table import MAGIC, read_table
from jinyi.convert.tensorflow.wire import Malformed, message_fields, slice_key
from jinyi.errors import FolderError

HERE = Path(__file__).parent / "fixtures" / "tf"
KINDS = ("bert", "pair", "albert", "albert_zh", "roformer", "types")


def index_of(kind: str) -> bytes:
    (file,) = (HERE / kind).glob("*.index")
    return file.read_bytes()


# The checksum


def test_crc32c_of_the_standard() -> None:
    # RFC 3720, appendix B.4
    ascending, descending = bytes(range(32)), bytes(range(31, -1, -1))
    vectors = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, ascending: 0x46DD794E, descending: 0x113FDB5C}
    for data, value in {**vectors, b"123456789": 0xE3069283, b"": 0}.items():
        assert crc32c(data) == value


@pytest.mark.parametrize("size", [32767, 32768, 32769, 3 * 16384 + 5, 200_003])
def test_many_lanes_give_the_checksum_of_one(size: int) -> None:
    raw = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    table = [0] * 256
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table[byte] = value
    state = 0xFFFFFFFF
    for byte in raw.tolist():
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    assert crc32c(raw) == crc32c(raw.tobytes()) == state ^ 0xFFFFFFFF


# Every byte of the index


@pytest.mark.parametrize("kind", KINDS)
def test_every_corrupted_byte_of_the_index_is_refused(kind: str) -> None:
    whole = index_of(kind)
    bits = itertools.cycle((0x01, 0x80, 0xFF, 0x10, 0x7F))
    for place, mask in zip(range(len(whole)), bits, strict=False):
        broken = bytearray(whole)
        broken[place] ^= mask
        with pytest.raises(FolderError) as caught:
            read_table(bytes(broken), "x.index")
        assert caught.value.where.startswith("x.index") and "copy or download" in caught.value.fix


def test_every_value_of_every_byte_of_a_small_index() -> None:
    whole = index_of("types")
    footer = len(whole) - 48
    for place in (0, 100, footer - 6, footer - 5, footer - 1, *range(footer, len(whole))):
        for value in set(range(256)) - {whole[place]}:
            broken = bytearray(whole)
            broken[place] = value
            with pytest.raises(FolderError):
                read_table(bytes(broken), "x.index")


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_of_the_index_is_refused(kind: str) -> None:
    whole = index_of(kind)
    for size in range(len(whole)):
        with pytest.raises(FolderError):
            read_table(whole[:size], "x.index")
    with pytest.raises(FolderError):
        read_table(whole + b"\0", "x.index")
    with pytest.raises(FolderError):
        read_table(whole[1:], "x.index")


def test_pieces_removed_or_doubled_are_refused() -> None:
    whole = index_of("bert")
    for start in range(0, len(whole) - 64, 61):
        for changed in (whole[:start] + whole[start + 13 :], whole[: start + 13] + whole[start:]):
            with pytest.raises(FolderError):
                read_table(changed, "x.index")


# Every byte of the data


def test_every_truncation_of_the_data_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / "types", tmp_path / "m"))
    data = folder / "types.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for size in range(len(whole)):
        data.write_bytes(whole[:size])
        with pytest.raises(FolderError) as caught:
            Bundle(FolderPlace(folder), "types.ckpt")
        assert str(data) in caught.value.where and f"{size} bytes" in caught.value.found
    larger = Path(shutil.copytree(HERE / "bert", tmp_path / "l"))
    data = larger / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for size in (*range(0, len(whole), 911), len(whole) - 1):
        data.write_bytes(whole[:size])
        with pytest.raises(FolderError):
            Bundle(FolderPlace(larger), "bert_model.ckpt")


def test_every_corrupted_byte_of_the_data_is_refused_where_it_lies(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / "types", tmp_path / "m"))
    data = folder / "types.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    bundle = Bundle(FolderPlace(folder), "types.ckpt")
    names = [name for name, entry in bundle.entries.items() if entry.is_number]
    plain = {name: bundle[name].tobytes() for name in names}
    hit = set()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x40
        data.write_bytes(broken)
        opened = Bundle(FolderPlace(folder), "types.ckpt")
        for name in names:
            entry = opened.entries[name]
            if entry.offset <= place < entry.offset + entry.size:
                hit.add(name)
                with pytest.raises(FolderError, match="CRC-32C is wrong") as caught:
                    _ = opened[name]
                assert caught.value.where == f"{data}, byte {entry.offset}" and name in caught.value.found
            else:
                assert opened[name].tobytes() == plain[name]
    assert hit == {name for name in names if plain[name]}


def test_a_damaged_slice_of_a_partitioned_variable(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / "pair", tmp_path / "m"))
    name = "bert/embeddings/word_embeddings"
    bundle = Bundle(FolderPlace(folder), "bert_model.ckpt")
    extents = bundle.entries[name].slices
    assert [start for (start, _), _ in extents] == [0, 13, 26]
    piece = bundle[name][13:26].tobytes()
    data = folder / "bert_model.ckpt.data-00001-of-00003"
    whole = data.read_bytes()
    assert whole.count(piece) == 1
    data.write_bytes(whole.replace(piece, piece[:-1] + bytes([piece[-1] ^ 1])))
    with pytest.raises(FolderError, match="CRC-32C is wrong") as caught:
        _ = open_checkpoint(folder).tensors["bert.embeddings.word_embeddings.weight"]
    assert caught.value.where == f"{data}, byte {whole.index(piece)}"


def test_data_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / "bert", tmp_path / "m"))
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(bytes(reversed(data.read_bytes())))
    tensors = open_checkpoint(folder).tensors
    for name in tensors:
        with pytest.raises(FolderError, match="CRC-32C is wrong"):
            _ = tensors[name]


# Zips


def test_damaged_zips(tmp_path: Path) -> None:
    whole = tmp_path / "m.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((HERE / "bert").iterdir()):
            archive.write(file, f"tiny/{file.name}")
    raw = whole.read_bytes()
    cut = tmp_path / "cut.zip"
    for size in (0, 1, 100, len(raw) // 2, len(raw) - 30):
        cut.write_bytes(raw[:size])
        with pytest.raises(FolderError, match="zip that cannot be read"):
            open_checkpoint(cut)
    with zipfile.ZipFile(whole) as archive:
        member = archive.getinfo("tiny/bert_model.ckpt.data-00000-of-00001")
    broken = bytearray(raw)
    broken[member.header_offset + 5000] ^= 0xFF
    cut.write_bytes(broken)
    checkpoint = open_checkpoint(cut)
    with pytest.raises(FolderError, match="zip that cannot be read"):
        _ = checkpoint.tensors["bert.embeddings.LayerNorm.weight"]


# Tables that TensorFlow's Saver does not write


def masked(data: bytes) -> bytes:
    value = crc32c(data)
    stored = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert unmask(stored) == value
    return stored.to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def table(blocks: list[list[tuple[bytes, bytes]]], kind: int = 0, bounds: list[bytes] | None = None) -> bytes:
    """Write a table, a block for each list of entries."""
    out = bytearray()

    def add(entries: list[tuple[bytes, bytes]]) -> bytes:
        body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in entries)
        body += bytes(4) + (1).to_bytes(4, "little") + bytes([kind])
        place = varint(len(out)) + varint(len(body) - 1)
        out.extend(body + masked(body))
        return place

    places = [add(entries) for entries in blocks]
    lasts = bounds or [entries[-1][0] for entries in blocks]
    meta = add([])
    index = add(list(zip(lasts, places, strict=True)))
    return bytes(out) + (meta + index).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def test_tables_of_several_blocks() -> None:
    pairs = [(f"k{i:03}".encode(), f"v{i}".encode()) for i in range(300)]
    written = table([pairs[start : start + 7] for start in range(0, 300, 7)])
    assert read_table(written, "x") == dict(pairs)


def test_tables_that_are_refused() -> None:
    a, b = [(b"a", b"1")], [(b"b", b"2")]
    assert read_table(table([a, b]), "x") == {b"a": b"1", b"b": b"2"}
    for written, words in [
        (table([a], kind=1), "compressed block (snappy)"),
        (table([a], kind=7), "type 7"),
        (table([b, a]), "after b'b'"),
        (table([a, a]), "after b'a'"),
        (table([b], bounds=[b"a"]), "the key b'b'"),
        (table([a])[:-48] + b"z" + table([a])[-48:], "1 bytes of no block"),
    ]:
        with pytest.raises(FolderError) as caught:
            read_table(written, "x")
        assert words in caught.value.found


def bundle_of(entries: dict[bytes, bytes], tmp_path: Path, header: bytes = b"\x08\x01") -> Bundle:
    (tmp_path / "m.index").write_bytes(table([sorted({b"": header, **entries}.items())]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(64))
    return Bundle(FolderPlace(tmp_path), "m")


def proto(*fields: tuple[int, int | bytes]) -> bytes:
    out = b""
    for number, value in fields:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif number == 6:
            out += varint(number << 3 | 5) + value.to_bytes(4, "little")
        else:
            out += varint(number << 3) + varint(value)
    return out


def shape(*sides: int) -> tuple[int, bytes]:
    return 2, b"".join(proto((2, proto((1, side)))) for side in sides)


def test_entries_that_are_refused(tmp_path: Path) -> None:
    crc = int.from_bytes(masked(bytes(16)), "little")
    good = proto((1, 1), shape(2, 2), (5, 16), (6, crc))
    assert bundle_of({b"w": good}, tmp_path)["w"].tolist() == [[0, 0], [0, 0]]
    huge = (1 << 64) - 1
    for entry, words in [
        (proto((1, 1), shape(2, 3), (5, 16)), "16 bytes for shape [2, 3]"),
        (proto((1, 1), shape(2, 2), (4, 60), (5, 16)), "64 bytes"),
        (proto((1, 1), shape(2, 2), (4, huge), (5, 16)), "64 bytes"),
        (proto((1, 1), shape(2, 2), (3, 1), (5, 16)), "data file 1 of 1"),
        (proto((1, 1), shape(huge, 2), (5, 16)), "the shape [-1, 2]"),
        (proto((1, 1), shape(0, 1 << 62)), "the shape [0, 4611686018427387904]"),
        (proto((1, 1), shape(*[1] * 40), (5, 4)), "the shape [1, 1,"),
        (proto((1, 1), (2, b"\x0a\x00"), (5, 16)), "a shape that is not known"),
        (proto((1, 1), (2, proto((2, proto((1, b"x")))))), "text where a number belongs"),
        (proto((1, 1), (9, 3)), "field 9 with 3"),
        (good[:-1], "3 bytes where a field has 4"),
        (b"\x80", "a number cut off"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 64 bits"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x81\x00", "bytes to spare"),
    ]:
        with pytest.raises(FolderError) as caught:
            bundle_of({b"w": entry}, tmp_path)
        assert words in caught.value.found, caught.value.found
    for header, words in [
        (b"\x08\x01\x10\x01", "big-endian"),
        (b"\x08\x00", "0 data files"),
        (b"\x08", "header"),
    ]:
        with pytest.raises(FolderError) as caught:
            bundle_of({b"w": good}, tmp_path, header)
        assert words in caught.value.found
    with pytest.raises(FolderError, match="the name"):
        bundle_of({b"\xff": good}, tmp_path)
    (tmp_path / "m.index").write_bytes(table([[(b"w", good)]]))
    with pytest.raises(FolderError, match="without a header"):
        Bundle(FolderPlace(tmp_path), "m")


def test_slices_that_are_refused(tmp_path: Path) -> None:
    crc = int.from_bytes(masked(bytes(8)), "little")

    def extent(start: int, length: int) -> bytes:
        return proto((1, proto((1, start), (2, length))))

    whole_axis = proto((1, b""))
    good, whole_numbers = (proto((1, kind), shape(1, 2), (5, 8), (6, crc)) for kind in (1, 3))

    def open_with(*starts: int, pieces: tuple[int, ...], piece: bytes = good) -> np.ndarray:
        slices = [(7, extent(start, 1) + whole_axis) for start in starts]
        entries = {slice_key("w", ((start, 1), (0, -1))): piece for start in pieces}
        return bundle_of({b"w": proto((1, 1), shape(2, 2), *slices), **entries}, tmp_path)["w"]

    assert open_with(0, 1, pieces=(0, 1)).shape == (2, 2)
    for starts, pieces in [
        ((0, 1), (0,)),
        ((0,), (0,)),
        ((0, 0), (0,)),
        ((0, 2), (0, 2)),
        ((0, 1, 1), (0, 1)),
    ]:
        with pytest.raises(FolderError, match="slices"):
            open_with(*starts, pieces=pieces)
    with pytest.raises(FolderError, match="slices"):
        open_with(0, 1, pieces=(0, 1), piece=whole_numbers)


numbers = st.one_of(st.integers(0, 70), st.integers(0, (1 << 64) - 1))
Fields = list[tuple[int, int | bytes]]


def packed(fields: Fields) -> bytes:
    return proto(*((n, v % (1 << 32) if n == 6 and isinstance(v, int) else v) for n, v in fields))


messages = st.recursive(
    st.one_of(numbers, st.binary(max_size=6)),
    lambda inner: st.lists(st.tuples(st.integers(1, 7), inner), max_size=4).map(packed),
    max_leaves=6,
)


@given(fields=st.lists(st.tuples(st.integers(1, 7), messages), max_size=6))
def test_arbitrary_entries(fields: Fields, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "arbitrary"
    folder.mkdir(exist_ok=True)
    try:
        values = bundle_of({b"w": packed(fields)}, folder)["w"]
    except FolderError as error:
        assert error.found and error.fix
    else:
        assert values.size == 0  # nothing else has a right checksum


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(FolderError):
        read_table(data, "x")
    with pytest.raises(FolderError):
        read_table(data + MAGIC.to_bytes(8, "little"), "x")
    try:
        fields = list(message_fields(data))
    except Malformed:
        return
    assert all(isinstance(value, (int, bytes)) for _, value in fields)


@given(st.lists(st.integers(-(1 << 62), 1 << 62), min_size=2, max_size=6, unique=True))
def test_keys_of_slices_keep_the_order_of_numbers(numbers: list[int]) -> None:
    keys = [slice_key("w", ((number, 1),)) for number in sorted(numbers)]
    assert keys == sorted(keys)
