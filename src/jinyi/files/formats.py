"""Which format a file has, by its name, and how it is opened."""

from __future__ import annotations

import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Literal

from jinyi.errors import InputError, shorten

Format = Literal["txt", "tsv", "csv", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {
    ".txt": "txt",
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda block: gzip.compress(block, mtime=0),
    ".xz": lzma.compress,
}


def file_format(path: str | os.PathLike[str]) -> tuple[Format, str]:
    """Return the format of a file and its packing ("", ".gz" or ".xz"), by its name.

    Raises:
        InputError: the name ends in nothing known.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    packing = suffix if suffix in PACKED else ""
    if packing:
        suffix = Path(source.stem).suffix.lower()
    if suffix not in _FORMATS or (packing and suffix == ".parquet"):
        raise InputError(
            found=f"a name ending in {shorten(suffix + packing)}",
            expected="txt, tsv, csv or jsonl (also .gz, .xz) or parquet",
            fix="Rename the file to say what is in it.",
            where=str(path),
        )
    return _FORMATS[suffix], packing


def repeated(paths: Iterable[Path]) -> Path | None:
    """Return the first path of a file that an earlier one names too, under whatever name; None where all differ."""
    seen: set[str] = set()
    for path in paths:
        place = os.path.realpath(path)
        if place in seen:
            return path
        seen.add(place)
    return None


def open_file(path: Path, packing: str) -> BinaryIO:
    """Open a file for reading its bytes, unpacked; InputError where that cannot be done."""
    try:
        if path.is_dir():
            raise IsADirectoryError("is a folder")
        if packing == ".gz":
            return io.BufferedReader(gzip.open(path, "rb"))
        if packing == ".xz":
            return io.BufferedReader(lzma.open(path, "rb"))
        return path.open("rb")
    except OSError as fault:
        reason = "no such file" if isinstance(fault, FileNotFoundError) else (fault.strerror or str(fault))
        raise InputError(
            found=reason, expected="a file that can be read", fix="Check the path.", where=str(path)
        ) from fault
