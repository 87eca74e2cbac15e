"""Tensor files: safetensors read through memory maps and written as a stream, without PyTorch.

The format (https://github.com/huggingface/safetensors, "Format") is eight bytes with the length of a JSON
header, the header, and the raw little-endian data. Reading it here instead of through the library gives two
things the package needs: bfloat16 without PyTorch, and a message that says which byte range of a damaged file
is wrong.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.errors import FolderError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
FLOATS = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""How tensors of each stored type are written again, in the words of `write_folder`."""
_WRITTEN = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
_MAX_HEADER = 100_000_000  # the limit of the safetensors library itself
_RECOPY = "The file is damaged or was copied only in part: copy or download it again."


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: its file, type in the format's words (`F16`), shape and byte range."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read and check the header of a safetensors file; no tensor data is touched.

    Args:
        path: the file.

    Returns:
        The place of every tensor, by name; byte ranges count from the start of the file.

    Raises:
        FolderError: the header is cut or is no JSON, a range disagrees with shape and type, ranges overlap or
            leave holes, or the file is shorter or longer than its header says.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise FolderError(
                where=str(path),
                found=f"{size} bytes, of which the first eight ask for a header of {length} bytes",
                expected="a safetensors file with its whole header",
                fix=_RECOPY,
            )
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FolderError(
            where=str(path),
            found=f"a header that is no JSON ({error})",
            expected="a safetensors file",
            fix=_RECOPY,
        ) from error
    if not isinstance(header, dict):
        raise FolderError(
            where=str(path), found="a header that is no object", expected="a safetensors file", fix=_RECOPY
        )
    header.pop("__metadata__", None)
    infos = {name: _info(path, name, entry, 8 + length) for name, entry in header.items()}
    _check_ranges(path, infos, 8 + length, size)
    return infos


def _info(path: Path, name: str, entry: Any, base: int) -> TensorInfo:
    try:
        kind, shape = str(entry["dtype"]), tuple(int(side) for side in entry["shape"])
        start, stop = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FolderError(
            where=str(path),
            found=f"tensor {name!r} described as {entry!r}",
            expected="dtype, shape and data_offsets",
            fix=_RECOPY,
        ) from error
    if kind not in DTYPES:
        raise FolderError(
            where=str(path),
            found=f"tensor {name!r} of type {kind}",
            expected=f"one of {', '.join(DTYPES)}",
            fix="Quantised weights are not read; use the float16, bfloat16 or float32 ones.",
        )
    need = math.prod(shape) * DTYPES[kind].itemsize
    if min(shape, default=0) < 0 or start < 0 or stop - start != need:
        raise FolderError(
            where=str(path),
            found=f"tensor {name!r} in bytes {start} to {stop}",
            expected=f"{need} bytes for shape {list(shape)} of {kind}",
            fix=_RECOPY,
        )
    return TensorInfo(path, kind, shape, base + start, base + stop)


def _check_ranges(path: Path, infos: Mapping[str, TensorInfo], base: int, size: int) -> None:
    end = base
    for name, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].stop)):
        if info.start != end:
            raise FolderError(
                where=str(path),
                found=f"tensor {name!r} at byte {info.start}",
                expected=f"it at byte {end}",
                fix=_RECOPY,
            )
        end = info.stop
    if end != size:
        raise FolderError(
            where=str(path), found=f"{size} bytes", expected=f"{end} bytes by its header", fix=_RECOPY
        )


class TensorMap(Mapping[str, np.ndarray]):
    """Tensors by name, read when asked for.

    float32 and float16 come as read-only views of the memory-mapped file, so opening costs no memory;
    bfloat16 (which numpy lacks) and float64 come as float32 copies.

    Args:
        infos: places by name, as from `read_header`, possibly of several files and under other names.
    """

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = dict(infos)
        self._maps: dict[Path, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._infos[name]
        if info.file not in self._maps:
            self._maps[info.file] = np.memmap(
                info.file, dtype=np.uint8, mode="c"
            )  # copy on write: writable, so that the runtime may share it
        raw = self._maps[info.file][info.start : info.stop]
        kind = DTYPES[info.dtype]
        if info.start % kind.itemsize:
            raw = (
                raw.copy()
            )  # a foreign writer may leave tensors unaligned, which native code does not accept
        values = np.asarray(raw).view(kind).reshape(info.shape)
        if info.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if info.dtype == "F64" else values

    def __contains__(self, name: object) -> bool:
        return name in self._infos  # Mapping's own way would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def without(self, name: str) -> TensorMap:
        """Return the same map but for one tensor."""
        return TensorMap({key: info for key, info in self._infos.items() if key != name})

    def places(self) -> dict[str, TensorInfo]:
        """Return where each tensor lies; asking for shapes there reads no data."""
        return dict(self._infos)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header alone."""
        return self._infos[name].shape

    def dtype(self, name: str) -> str:
        """Stored type of a tensor: `F16`, `BF16`, `F32`..., from the header alone."""
        return self._infos[name].dtype


def safetensors_chunks(
    tensors: Mapping[str, np.ndarray], dtype: str | Mapping[str, str] = "float32"
) -> Iterator[bytes]:
    """Give the bytes of a safetensors file piece by piece: one tensor is converted at a time.

    Args:
        tensors: float arrays by name.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`, the type to store; or types by name, and then only those
            tensors are written. float16 keeps 11 bits of every weight, bfloat16 8, over the range of float32; both
            round to the nearest.

    Yields:
        The header, then the data of each tensor in the order of the names.

    Raises:
        FolderError: a value is not finite in the stored type (NaN, infinite, or above 65504 for float16).
    """
    types = dict.fromkeys(tensors, dtype) if isinstance(dtype, str) else dtype
    names = sorted(types)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        kind, width = _WRITTEN[types[name]]
        start, end = end, end + int(np.prod(tensors[name].shape, dtype=np.int64)) * width
        header[name] = {
            "dtype": kind,
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(tensors[name], dtype="<f2" if types[name] == "float16" else "<f4")
        bits = _bfloat16(values) if types[name] == "bfloat16" else values
        # Rounding to bfloat16 may carry into the exponent of infinity.
        if not np.isfinite(values).all() or (bits is not values and (bits & 0x7FFF >= 0x7F80).any()):
            raise FolderError(
                where=name,
                found="values that are not finite numbers",
                expected=f"finite {types[name]} weights",
                fix="The training diverged, or the weights exceed float16: check them, or store float32.",
            )
        yield bits.tobytes()


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = values.view("<u4")
    rounded: np.ndarray = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return rounded


def torch_state_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Give a PyTorch state file (`torch.save` of a state dict of float32 tensors) without PyTorch.

    sentence-transformers before 3.0 looks for a Dense module in `pytorch_model.bin` alone, so the file is
    written beside the safetensors one. jinyi never opens it.

    Args:
        tensors: float arrays by name.
    """
    ordered = b"ccollections\nOrderedDict\n)R"

    def text(value: str) -> bytes:
        raw = value.encode("utf-8")
        return b"X" + len(raw).to_bytes(4, "little") + raw

    def numbers(values: Iterable[int]) -> bytes:
        return b"(" + b"".join(b"J" + value.to_bytes(4, "little") for value in values) + b"t"

    pickle = b"\x80\x02" + ordered + b"("
    for index, (name, array) in enumerate(tensors.items()):
        strides = [int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim)]
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(index)) + text("cpu")
        storage += b"J" + array.size.to_bytes(4, "little") + b"tQ"
        pickle += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + bytes(4)
        pickle += numbers(array.shape) + numbers(strides) + b"\x89" + ordered + b"tR"
    pickle += b"u."
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry("data.pkl"), pickle)
        archive.writestr(_entry("byteorder"), b"little")
        for index, array in enumerate(tensors.values()):
            archive.writestr(_entry(f"data/{index}"), np.ascontiguousarray(array, dtype="<f4").tobytes())
        archive.writestr(_entry("version"), b"3\n")
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    # A fixed date: the same tensors give the same bytes.
    return zipfile.ZipInfo(f"pytorch_model/{name}", date_time=(1980, 1, 1, 0, 0, 0))
