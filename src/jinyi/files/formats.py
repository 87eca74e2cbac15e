"""Which format a file has, by its name, and how it is opened."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

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


def refuse_streams(path: Path) -> None:
    """InputError for names of standard input, and of what a shell makes of `<(command)`: files are read twice."""
    if str(path) in ("-", "/dev/stdin") or str(path).startswith(("/dev/fd/", "/proc/self/fd/")):
        raise _unreadable(path, "standard input or another stream, which is not read")


def _unreadable(path: Path, found: str) -> InputError:
    return InputError(
        found=found,
        expected="a file that can be read",
        fix="Save it as a file first, with a name that says what is in it (cat > texts.txt), and give that one.",
        where=str(path),
    )


def open_file(path: Path, packing: str) -> io.BufferedReader:
    """Open a file for reading its bytes, unpacked; InputError where that cannot be done."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError("is a folder")
        if not stat.S_ISREG(kind):  # a pipe would be waited for without end
            raise _unreadable(path, "no regular file but a pipe or device, which can be read only once")
        if packing == ".gz":
            return io.BufferedReader(gzip.open(path, "rb"))
        if packing == ".xz":
            return io.BufferedReader(lzma.open(path, "rb"))
        return path.open("rb")
    except InputError:
        raise
    except (OSError, ValueError) as fault:  # ValueError: a zero character in the name
        reason = getattr(fault, "strerror", None) or str(fault)
        if isinstance(fault, FileNotFoundError):
            reason = "no such file"
        raise InputError(
            found=reason, expected="a file that can be read", fix="Check the path.", where=str(path)
        ) from fault
