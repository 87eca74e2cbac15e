"""Files that are whole or not there: rows, vectors."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jinyi.errors import InputError
from jinyi.files.formats import PACKED, file_format


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for binary writing that appears under its name only when the block ends without an error.

    Written beside its place, synced to disk, then renamed over what was there.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        stream = temporary.open("wb")
    except OSError as fault:
        raise cannot_write(target, fault) from fault
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def cannot_write(path: Path, fault: OSError) -> InputError:
    """Return the error for a place that cannot be written to."""
    return InputError(
        found=fault.strerror or str(fault),
        expected="a folder that can be written",
        fix="Create the folder or choose another place.",
        where=str(path),
    )


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RowEncoder:
    """Rows as bytes of a jsonl, tsv or csv file, packed when the name ends in .gz or .xz.

    Blocks may be joined: packed blocks are members of one multi-member file. In a tsv, tabs and line breaks inside
    a value become one blank.

    Args:
        path: file the rows go to; only its name is read.
        columns: keys of every row, in order.

    Raises:
        InputError: a format that rows cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str]) -> None:
        self.format, packing = file_format(path)
        if self.format not in ("jsonl", "tsv", "csv"):
            raise InputError(
                found=f"a {self.format} file for results",
                expected="jsonl, tsv or csv (also .gz, .xz)",
                fix="Choose another name for the output.",
                where=str(path),
            )
        self.columns = list(columns)
        self._pack = PACKED.get(packing, bytes)

    def header(self) -> bytes:
        """Return what the file begins with."""
        if self.format == "jsonl":
            return b""
        return self.encode([dict(zip(self.columns, self.columns, strict=True))])

    def encode(self, rows: Iterable[Mapping[str, object]]) -> bytes:
        """Return `rows` as bytes to append to the file."""
        out = io.StringIO(newline="")
        if self.format == "jsonl":
            for row in rows:
                out.write(json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False))
                out.write("\n")
        elif self.format == "csv":
            writer = csv.writer(out, lineterminator="\n")
            writer.writerows([_cell(row[name]) for name in self.columns] for row in rows)
        else:
            for row in rows:
                out.write("\t".join(" ".join(_cell(row[name]).split()) for name in self.columns))
                out.write("\n")
        return self._pack(out.getvalue().encode("utf-8"))


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_rows(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]], columns: Sequence[str]
) -> None:
    """Write rows to a jsonl, tsv or csv file (also .gz, .xz), whole or not at all."""
    encoder = RowEncoder(path, columns)
    with atomic_file(path) as stream:
        stream.write(encoder.header())
        block: list[Mapping[str, object]] = []
        for row in rows:
            block.append(row)
            if len(block) == 4096:
                stream.write(encoder.encode(block))
                block.clear()
        if block:
            stream.write(encoder.encode(block))


def npy_header(rows: int, dimension: int) -> bytes:
    """Return the first bytes of a .npy file of float32 [rows, dimension]; the rows follow in C order."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    )
    return out.getvalue()
