"""PyTorch's own weight files (`pytorch_model.bin`), read without PyTorch and without executing anything.

Two forms are in use. Since PyTorch 1.6 a file is a zip whose `data.pkl` describes the tensors and whose `data/0`,
`data/1`... hold the numbers, stored as they are. Before that it was a sequence of pickles (a magic number, a protocol
version, sizes of the machine's types, the tensors, the keys of the storages) followed by the storages. Either way the
numbers are read through a memory map, when a tensor is asked for.
"""

from __future__ import annotations

import mmap
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.convert.unpickle import Storage, StoredTensor, read_pickle
from jinyi.errors import FolderError, shorten
from jinyi.folder.tensors import DTYPES

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_RECOPY = "The file is damaged or was copied only in part: copy or download it again."
_LOCAL_HEADER = 30
# Names under which training programs keep the weights among other things.
_NESTED = ("state_dict", "model_state_dict", "model", "module")


@dataclass(frozen=True)
class _Run:
    """Where a storage lies in its file, with its checksum where the file states one."""

    start: int
    stop: int
    crc: int | None = None


@dataclass(frozen=True)
class _Place:
    file: Path
    tensor: StoredTensor
    run: _Run


class PickledTensors(Mapping[str, np.ndarray]):
    """Tensors of PyTorch files by name, read when asked for.

    float32, float16 and whole numbers come as views of the memory-mapped file where they are contiguous there;
    bfloat16 (which numpy lacks) and float64 come as float32 copies.

    Args:
        files: `pytorch_model.bin`, or all its parts.

    Raises:
        FolderError: a file is damaged or of another kind, holds anything but tensors in plain containers, or two
            files hold a tensor of the same name.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._places: dict[str, _Place] = {}
        self._maps: dict[Path, npt.NDArray[np.uint8]] = {}
        self._checked: set[tuple[Path, _Run]] = set()
        for file in files:
            for name, place in _open(file).items():
                if name in self._places:
                    raise FolderError(
                        where=str(file),
                        found=f"{name}, which {self._places[name].file.name} holds too",
                        expected="each tensor in one of the parts",
                        fix="Take the parts of one model.",
                    )
                self._places[name] = place

    def __getitem__(self, name: str) -> np.ndarray:
        place = self._places[name]
        kind = DTYPES[place.tensor.storage.dtype]
        if place.file not in self._maps:
            self._maps[place.file] = np.memmap(place.file, dtype=np.uint8, mode="r")
        raw = self._maps[place.file][place.run.start : place.run.stop]
        if place.run.crc is not None and (place.file, place.run) not in self._checked:
            _check_sum(raw.data, place.run.crc, f"{place.file}: {name}")
            self._checked.add((place.file, place.run))
        if place.run.start % kind.itemsize:
            raw = raw.copy()
        numbers = np.asarray(raw).view(kind)
        steps = tuple(stride * kind.itemsize for stride in place.tensor.strides)
        view = np.lib.stride_tricks.as_strided(
            numbers[place.tensor.offset :], place.tensor.shape, steps, writeable=False
        )
        values = np.ascontiguousarray(view).reshape(place.tensor.shape)
        if place.tensor.storage.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if place.tensor.storage.dtype == "F64" else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._places[name].tensor.shape

    def dtype(self, name: str) -> str:
        """Stored type of a tensor in the words of safetensors: `F16`, `BF16`, `F32`..."""
        return self._places[name].tensor.storage.dtype


def _open(file: Path) -> dict[str, _Place]:
    with open(file, "rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK"):
        state, runs = _open_zip(file)
    elif head.startswith(b"\x80") and len(head) > 2:
        state, runs = _open_legacy(file)
    else:
        raise _other_kind(file, _guess(head))
    places = {}
    for name, tensor in _tensors(state, file).items():
        run = runs.get(tensor.storage.key)
        need = tensor.storage.size * DTYPES[tensor.storage.dtype].itemsize
        if run is None or run.stop - run.start != need:
            held = "none" if run is None else f"{run.stop - run.start} bytes"
            raise FolderError(
                where=str(file),
                found=f"{held} for {name}",
                expected=f"a storage of {need} bytes",
                fix=_RECOPY,
            )
        places[name] = _Place(file, tensor, run)
    return places


def _tensors(state: Any, file: Path) -> dict[str, StoredTensor]:
    """Pick the tensors out of a state dict, or of the one state dict inside a training checkpoint."""
    for body in (state, *(state.get(key) for key in _NESTED)) if isinstance(state, dict) else ():
        if isinstance(body, dict):
            tensors = {key: value for key, value in body.items() if isinstance(value, StoredTensor)}
            if tensors:
                return {str(key): value for key, value in tensors.items()}
    raise FolderError(
        where=str(file),
        found=f"a {type(state).__name__} without tensors",
        expected="a state dict: tensors by name",
        fix="Give the file that holds the model's weights.",
    )


def _open_zip(file: Path) -> tuple[Any, dict[str, _Run]]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            repeated = len(archive.infolist()) - len(entries)
    except (zipfile.BadZipFile, RuntimeError, ValueError, OverflowError) as error:
        raise FolderError(
            where=str(file), found=f"a damaged archive ({error})", expected="a zip", fix=_RECOPY
        ) from error
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1 or repeated or any(name.endswith("/constants.pkl") for name in entries):
        raise FolderError(
            where=str(file),
            found=f"a zip with {shorten(sorted(entries)[:3], 100)}",
            expected="weights written by torch.save (one data.pkl)",
            fix="TorchScript programs and other archives are not read. Give the file with the model's state dict, "
            "or the archive of a TensorFlow checkpoint with its .index and .data files.",
        )
    runs = _runs(file, entries.values())
    prefix = pickles[0].removesuffix("data.pkl")
    order = _bytes_of(file, runs[f"{prefix}byteorder"]) if f"{prefix}byteorder" in runs else b"little"
    if order != b"little":
        raise _other_order(file, order.decode("ascii", "replace"))
    state = read_pickle(BytesIO(_bytes_of(file, runs[pickles[0]])), f"{file}: data.pkl")
    folder = f"{prefix}data/"
    return state, {name.removeprefix(folder): run for name, run in runs.items() if name.startswith(folder)}


def _runs(file: Path, entries: Iterable[zipfile.ZipInfo]) -> dict[str, _Run]:
    """Return where the bytes of each entry of a zip lie; the entries have to be stored as they are."""
    runs: dict[str, _Run] = {}
    size = file.stat().st_size
    with open(file, "rb") as stream:
        for entry in entries:
            stream.seek(max(entry.header_offset, 0))
            header = stream.read(_LOCAL_HEADER)
            start = entry.header_offset + _LOCAL_HEADER
            start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            plain = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
            sound = header.startswith(b"PK\x03\x04") and entry.header_offset >= 0
            if not plain or not sound or start + entry.file_size > size:
                raise FolderError(
                    where=str(file),
                    found=f"the entry {shorten(entry.filename, 100)} {'out of place' if plain else 'compressed'}",
                    expected="entries stored as they are, as torch.save writes them",
                    fix=_RECOPY if plain else "Unpack the archive and give the file in it.",
                )
            # torch.serialization.set_crc32_options(False) leaves the checksums 0.
            runs[entry.filename] = _Run(start, start + entry.file_size, entry.CRC or None)
    return runs


def _open_legacy(file: Path) -> tuple[Any, dict[str, _Run]]:
    where = str(file)
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic = read_pickle(data, where)
        if magic != _MAGIC or type(magic) is not int:
            raise _other_kind(file, "a pickle that torch.save did not write")
        version, machine = read_pickle(data, where), read_pickle(data, where)
        if version != _PROTOCOL or not isinstance(machine, dict):
            raise _other_kind(file, f"protocol {shorten(version)} of torch.save")
        if machine.get("little_endian") is not True:
            raise _other_order(file, "big")
        storages: dict[str, Storage] = {}
        state, keys = read_pickle(data, where, storages), read_pickle(data, where)
        runs: dict[str, _Run] = {}
        end = data.tell()
        for key in keys if isinstance(keys, list) else ():
            storage = storages.get(key) if isinstance(key, str) else None
            count, start = int.from_bytes(data[end : end + 8], "little"), end + 8
            end = start + count * (0 if storage is None else DTYPES[storage.dtype].itemsize)
            if storage is None or storage.size != count or end > len(data):
                raise FolderError(
                    where=where,
                    found=f"a storage of {count} numbers up to byte {end}, of {len(data)}",
                    expected="the storages that its tensors name",
                    fix=_RECOPY,
                )
            runs[storage.key] = _Run(start, end)
        if end != len(data):
            raise FolderError(
                where=where,
                found=f"{len(data)} bytes",
                expected=f"{end} bytes by what it lists",
                fix=_RECOPY,
            )
    return state, runs


def _bytes_of(file: Path, run: _Run) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(run.start)
        data = stream.read(run.stop - run.start)
    _check_sum(data, run.crc, str(file))
    return data


def _check_sum(data: bytes | memoryview, crc: int | None, where: str) -> None:
    if crc is not None and zlib.crc32(data) != crc:
        raise FolderError(
            where=where, found="other bytes than were written (CRC-32)", expected=f"{crc:08x}", fix=_RECOPY
        )


def _guess(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of git LFS in place of the file (`git lfs pull` fetches it)"
    if b"ustar" in head[257:263]:
        return "a tar archive, as PyTorch before 0.1.10 wrote it"
    return f"a file that begins with {shorten(head[:16], 80)}"


def _other_kind(file: Path, found: str) -> FolderError:
    return FolderError(
        where=str(file),
        found=found,
        expected="weights written by torch.save",
        fix="Copy or download the file again, or take the safetensors version of the model.",
    )


def _other_order(file: Path, order: str) -> FolderError:
    return FolderError(
        where=str(file),
        found=f"numbers in {order}-endian order",
        expected="little-endian order",
        fix="Write the file again on a little-endian machine, or take the safetensors version of the model.",
    )
