"""User files: rows of texts and pairs in, results out.

Read: txt (one text a line), tsv, csv, jsonl, each also as .gz or .xz, and parquet (extra `[parquet]`). Everything
streams, so a file of any length needs the memory of one row. Lines end at "\\n" only: U+2028 or U+0085 inside a text
do not split it. Every fault names the file and the line.

Written files are whole or not there: `atomic_file` for small ones, `BulkOutput` for long jobs, which may be killed
at any byte and go on where they were.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np

from jinyi.errors import InputError, MissingExtraError, shorten
from jinyi.text import check_text
from jinyi.tokens import split_pair

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
_PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda block: gzip.compress(block, mtime=0),
    ".xz": lzma.compress,
}

TEXT_COLUMNS = ("text", "sentence", "content", "query", "title", "question")
"""Usual names of a column of single texts, first match wins."""

PAIR_COLUMNS = (
    ("texta", "textb"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sentence", "sentence2"),
    ("question1", "question2"),
    ("query", "title"),
    ("query", "document"),
    ("premise", "hypothesis"),
)
"""Usual names of the two columns of a pair, first match wins."""

LABEL_COLUMNS = ("label", "score")
"""Usual names of a column of labels or gold scores."""

_KNOWN = {*TEXT_COLUMNS, *LABEL_COLUMNS, *(name for pair in PAIR_COLUMNS for name in pair)}
_DAMAGED = (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error)


@dataclass(frozen=True, slots=True)
class TextRow:
    """One text of a file: its line (parquet: row) counted from 1, the text, and the label if there is one."""

    line: int
    text: str
    label: object = None


@dataclass(frozen=True, slots=True)
class PairRow:
    """One pair of a file: its line (parquet: row) counted from 1, both texts, and the label or score if any."""

    line: int
    a: str
    b: str
    label: object = None


def read_texts(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[TextRow]:
    """Yield the texts of a file.

    Args:
        path: txt, tsv, csv, jsonl (.gz, .xz) or parquet. A JSON line may be an object or just a string.
        column: column of the text; by default the first of `TEXT_COLUMNS` that is there. In a tsv or csv without a
            header, columns are called 1, 2, ...
        label_column: column of the label; by default the first of `LABEL_COLUMNS`, absent is fine.
        encoding: of the text formats, for example gb18030. A byte order mark of UTF-8 is skipped.

    Raises:
        InputError: file missing or damaged, wrong encoding, missing column, empty text; names file and line.
        MissingExtraError: parquet without pyarrow.
    """
    source = Path(path)
    reader = _RowReader(source, encoding, [column] if column else None)
    names: tuple[str, str | None] | None = None
    for line, row in reader:
        where = reader.where(line)
        if isinstance(row, str):
            yield TextRow(line, check_text(row, where))
            continue
        if not isinstance(row, dict):
            raise InputError(
                found=shorten(row),
                expected="a text or an object with a text in it",
                fix="For pairs use `jinyi score`.",
                where=where,
            )
        if names is None:
            names = (column or _text_column(row, where), _label_column(row, label_column, where))
        value = _value(row, names[0], where)
        label = row.get(names[1]) if names[1] else None
        yield TextRow(line, check_text(value, f"{where}, {names[0]}"), label)


def read_pairs(
    path: str | os.PathLike[str],
    *,
    columns: tuple[str, str] | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[PairRow]:
    """Yield the pairs of a file.

    Args:
        path: tsv, csv, jsonl (.gz, .xz), parquet, or a txt whose lines read "a<TAB>b" or "a[SEP]b". A JSON line may
            be an object or a list of two strings. A tsv or csv without a header is read as a, b, label.
        columns: names of the two columns; by default the first of `PAIR_COLUMNS` of which both are there.
        label_column: column of the label; by default the first of `LABEL_COLUMNS`, absent is fine.
        encoding: of the text formats, for example gb18030. A byte order mark of UTF-8 is skipped.

    Raises:
        InputError: file missing or damaged, wrong encoding, missing column, a pair with one side missing; names file
            and line.
        MissingExtraError: parquet without pyarrow.
    """
    source = Path(path)
    reader = _RowReader(source, encoding, columns)
    names: tuple[str, str, str | None] | None = None
    for line, row in reader:
        where = reader.where(line)
        first: object
        second: object
        if isinstance(row, str):
            cells = row.split("\t")
            first, second = (cells[0], cells[1]) if len(cells) > 1 else split_pair(row, where)
            label: object = cells[2] if len(cells) > 2 else None
            name_a, name_b = "first text", "second text"
        elif isinstance(row, dict):
            if names is None:
                pair = columns or _pair_columns(row, where)
                names = (*pair, _label_column(row, label_column, where))
            name_a, name_b, name_label = names
            first, second = _value(row, name_a, where), _value(row, name_b, where)
            label = row.get(name_label) if name_label else None
        else:
            if len(row) != 2:
                raise InputError(
                    found=f"a list of {len(row)}",
                    expected="a list of two texts",
                    fix="Give both sides of the pair.",
                    where=where,
                )
            (first, second), label = row, None
            name_a, name_b = "first text", "second text"
        yield PairRow(
            line, check_text(first, f"{where}, {name_a}"), check_text(second, f"{where}, {name_b}"), label
        )


class _RowReader:
    """Rows of a file as they come: a dict of columns, or a bare string or list (txt, JSON without an object)."""

    def __init__(self, path: Path, encoding: str, columns: Sequence[str] | None) -> None:
        self.path = path
        self.encoding = encoding
        self.columns = columns
        self.format, self.packing = file_format(path)

    def where(self, line: int) -> str:
        return f"{self.path}, row {line}" if self.format == "parquet" else f"{self.path}:{line}"

    def __iter__(self) -> Iterator[tuple[int, str | list[Any] | dict[str, Any]]]:
        try:
            "".encode(self.encoding)
        except LookupError:
            raise InputError(
                found=f"encoding {shorten(self.encoding)}",
                expected="an encoding Python knows",
                fix="Use utf-8, gb18030 or big5.",
            ) from None
        return self._some(self._rows())

    def _rows(self) -> Iterator[tuple[int, Any]]:
        if self.format == "parquet":
            return self._parquet()
        if self.format == "txt":
            return self._lines()
        if self.format == "jsonl":
            return self._json()
        return self._table(self._cells())

    def _some(self, rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Refuse a file of columns without rows."""
        first = next(rows, None)
        if first is None:
            raise InputError(
                found="columns without a row",
                expected="at least one row",
                fix="Check the path.",
                where=str(self.path),
            )
        yield first
        yield from rows

    def _lines(self) -> Iterator[tuple[int, str]]:
        blanks: list[tuple[int, str]] = []
        number = 0
        try:
            with _open(self.path, self.packing) as stream:
                for number, raw in enumerate(stream, 1):
                    line = self._decode(raw, number)
                    if line.strip():
                        yield from blanks
                        blanks.clear()
                        yield number, line
                    else:  # blank lines count only when something follows them
                        blanks.append((number, line))
        except _DAMAGED as fault:
            raise InputError(
                found=f"a damaged {self.packing} file ({fault})",
                expected="a whole compressed file",
                fix="Copy or pack the file again.",
                where=self.where(number + 1),
            ) from fault
        if number == 0 or len(blanks) == number:
            raise InputError(
                found="an empty file",
                expected="at least one row",
                fix="Check the path.",
                where=str(self.path),
            )

    def _decode(self, raw: bytes, number: int) -> str:
        if number == 1:
            if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError(
                    found="UTF-16 text",
                    expected="UTF-8",
                    fix="Convert it: iconv -f UTF-16 -t UTF-8.",
                    where=self.where(1),
                )
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            line = raw.decode(self.encoding)
        except UnicodeDecodeError as fault:
            raise InputError(
                found=f"bytes that are not {self.encoding} ({shorten(raw[fault.start : fault.start + 8])})",
                expected=f"{self.encoding} text",
                fix=_encoding_advice(raw),
                where=self.where(number),
            ) from None
        return line.removesuffix("\n").removesuffix("\r")

    def _json(self) -> Iterator[tuple[int, str | list[Any] | dict[str, Any]]]:
        for number, line in self._lines():
            try:
                row = json.loads(line)
            except RecursionError:
                raise self._bad_json(line, "nested too deeply", number) from None
            except ValueError as fault:  # not only JSONDecodeError: a number may have thousands of digits
                reason = fault.msg if isinstance(fault, json.JSONDecodeError) else "a number too long"
                raise self._bad_json(line, reason, number) from None
            if not isinstance(row, (str, list, dict)):
                raise InputError(
                    found=shorten(row),
                    expected='a JSON object such as {"text": "..."}',
                    fix="Put the text into an object.",
                    where=self.where(number),
                )
            yield number, row

    def _bad_json(self, line: str, reason: str, number: int) -> InputError:
        return InputError(
            found=f"{shorten(line)} ({reason})",
            expected="one JSON object a line",
            fix="Repair the line; for a JSON array: jq -c '.[]' in.json > out.jsonl.",
            where=self.where(number),
        )

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        if self.format == "tsv":  # quotes are text in a tsv: Chinese corpora are full of unpaired ones
            for number, line in self._lines():
                yield number, line.split("\t")
            return
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
        read = 0  # lines handed to the csv reader; a quoted cell may take several

        def physical_lines() -> Iterator[str]:
            nonlocal read
            for number, line in self._lines():
                read = number
                yield line + "\n"

        start = 1
        try:
            for cells in csv.reader(physical_lines(), strict=True):
                yield start, cells
                start = read + 1
        except csv.Error as fault:
            raise InputError(
                found=f"broken csv ({fault})",
                expected="comma-separated cells, quotes doubled inside quotes",
                fix="Repair the line, or save as tsv or jsonl.",
                where=self.where(start),
            ) from None

    def _table(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        header: list[str] | None = None
        for number, cells in rows:
            if header is None:
                header = [cell.strip() for cell in cells]
                wanted = self.columns or ()
                if _KNOWN.intersection(cell.lower() for cell in header) or (
                    wanted and set(wanted).intersection(header)
                ):
                    header = [cell.lower() if cell not in wanted else cell for cell in header]
                    continue
                header = [str(place) for place in range(1, len(cells) + 1)]
            if len(cells) != len(header):
                raise InputError(
                    found=f"{len(cells)} cells",
                    expected=f"{len(header)} as in the first row",
                    fix="Repair the row; texts with tabs or line breaks belong into jsonl.",
                    where=self.where(number),
                )
            yield number, dict(zip(header, cells, strict=True))

    def _parquet(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError as fault:
            raise MissingExtraError(
                found="no pyarrow",
                expected="pyarrow, which reads parquet",
                fix='Install it: pip install "jinyi[parquet]".',
                where=str(self.path),
            ) from fault
        number = 0
        with _open(self.path, "") as stream:
            try:
                for batch in ParquetFile(stream).iter_batches(batch_size=4096):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
            except (ArrowException, OSError) as fault:  # pyarrow raises OSError for a damaged footer
                raise InputError(
                    found=f"a damaged parquet file ({fault})",
                    expected="a whole parquet file",
                    fix="Write the file again.",
                    where=self.where(number + 1),
                ) from fault


def file_format(path: str | os.PathLike[str]) -> tuple[Format, str]:
    """Return the format of a file and its packing ("", ".gz" or ".xz"), by its name.

    Raises:
        InputError: the name ends in nothing known.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    packing = suffix if suffix in _PACKED else ""
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


def _open(path: Path, packing: str) -> BinaryIO:
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


def _encoding_advice(raw: bytes) -> str:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return "Name the right encoding (--encoding), or convert the file to UTF-8."
    return "It may be GB18030 (GBK): give --encoding gb18030, or convert it: iconv -f GB18030 -t UTF-8."


def _label_column(row: Mapping[str, object], name: str | None, where: str) -> str | None:
    if name is not None and name not in row:
        raise _missing(row, name, where)
    if name is None and "1" in row and "2" in row and "3" in row:
        return "3"
    return name or next((usual for usual in LABEL_COLUMNS if usual in row), None)


def _text_column(row: Mapping[str, object], where: str) -> str:
    if list(row) == ["1"]:
        return "1"
    name = next((usual for usual in TEXT_COLUMNS if usual in row), None)
    if name is None:
        raise _missing(row, f"one of {', '.join(TEXT_COLUMNS)}", where)
    return name


def _pair_columns(row: Mapping[str, object], where: str) -> tuple[str, str]:
    for pair in PAIR_COLUMNS:
        if pair[0] in row and pair[1] in row:
            return pair
    if "1" in row and "2" in row:
        return ("1", "2")
    raise _missing(row, " or ".join("/".join(pair) for pair in PAIR_COLUMNS[:5]), where)


def _value(row: Mapping[str, object], name: str, where: str) -> object:
    if name not in row:
        raise _missing(row, name, where)
    return row[name]


def _missing(row: Mapping[str, object], expected: str, where: str) -> InputError:
    return InputError(
        found=f"columns {', '.join(map(str, row)) or '(none)'}",
        expected=f"column {expected}",
        fix="Name the columns (--column, --columns), or rename them in the file.",
        where=where,
    )


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
        raise _cannot_write(target, fault) from fault
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _cannot_write(path: Path, fault: OSError) -> InputError:
    return InputError(
        found=fault.strerror or str(fault),
        expected="a folder that can be written",
        fix="Create the folder or choose another place.",
        where=str(path),
    )


def _sync_folder(folder: Path) -> None:
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
        self._pack = _PACKED.get(packing, bytes)

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


class BulkOutput:
    """The output file of a long job: killed at any byte, it goes on where it was; unfinished, it is not there.

    Data go to `<path>.part`; after each block is on disk, `<path>.part.json` says how many rows and bytes count. A
    new run with an equal `key` continues behind them, with another key it begins anew. `finish` renames the part to
    its place. Use as a context manager.

    Args:
        path: where the finished file will be.
        key: what the result depends on (input hash, model hash, settings); JSON values.
        header: bytes the file begins with.

    Raises:
        InputError: the folder cannot be written, or another process is writing this output.
    """

    rows: int
    """Rows already on disk; the caller skips as many of its input."""
    cut: int
    """How many of them were cut."""

    def __init__(
        self, path: str | os.PathLike[str], *, key: Mapping[str, object], header: bytes = b""
    ) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(self.path.name + ".part")
        self._journal = self.path.with_name(self.path.name + ".part.json")
        self._next = self.path.with_name(self.path.name + ".part.json.tmp")
        self._key = json.loads(json.dumps(key))
        try:
            if self.path.is_dir():
                raise IsADirectoryError(None, "a folder of that name")
            self._stream = self._part.open("ab")
        except OSError as fault:
            raise _cannot_write(self.path, fault) from fault
        self._lock()
        self.rows, self.cut, length = self._recorded()
        self._stream.truncate(length)
        if length == 0:
            self._stream.write(header)
            self._record()

    def append(self, block: bytes, rows: int, cut: int = 0) -> None:
        """Write the bytes of the next `rows` rows, `cut` of them cut; they are safe on disk when this returns."""
        self._stream.write(block)
        self.rows += rows
        self.cut += cut
        self._record()

    def finish(self) -> None:
        """Give the file its name."""
        self._stream.close()
        os.replace(self._part, self.path)
        self._journal.unlink(missing_ok=True)
        self._next.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove everything written, for input that turned out bad."""
        self._stream.close()
        for file in (self._part, self._journal, self._next):
            file.unlink(missing_ok=True)

    def __enter__(self) -> BulkOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            self._stream.close()
            raise InputError(
                found="another process writing this output",
                expected="one job per output file",
                fix="Wait for it or choose another output.",
                where=str(self.path),
            ) from fault

    def _recorded(self) -> tuple[int, int, int]:
        try:
            with self._journal.open(encoding="utf-8") as stream:
                state = json.load(stream)
        except (FileNotFoundError, json.JSONDecodeError):
            return 0, 0, 0
        if state["key"] != self._key or self._part.stat().st_size < state["bytes"]:
            return 0, 0, 0
        return state["rows"], state["cut"], state["bytes"]

    def _record(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        state = {"key": self._key, "rows": self.rows, "cut": self.cut, "bytes": self._stream.tell()}
        # One name, not one per process as in atomic_file: a killed writer's leftover is taken over by the next.
        with self._next.open("w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self._next, self._journal)
