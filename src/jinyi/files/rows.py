"""Rows of a file as they stand there, streamed, with their line numbers."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jinyi.errors import InputError, MissingExtraError, shorten
from jinyi.files.columns import KNOWN, NAME_THEM, cells_shown
from jinyi.files.formats import file_format, open_file, refuse_streams
from jinyi.files.labels import label_number

_NAME = re.compile(r"[A-Za-z_][\w .-]{0,29}", re.ASCII)
_DAMAGED = (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error)


class RowReader:
    """Rows of a file as they come: a dict of columns, or a bare string or list (txt, JSON without an object)."""

    def __init__(self, path: Path, encoding: str, columns: Sequence[str] | None) -> None:
        self.path = path
        self.encoding = encoding
        self.columns = columns
        refuse_streams(path)
        self.format, self.packing = file_format(path)

    def where(self, line: int) -> str:
        """Return the place of a row, for messages."""
        return f"{self.path}, row {line}" if self.format == "parquet" else f"{self.path}:{line}"

    def __iter__(self) -> Iterator[tuple[int, str | list[Any] | dict[str, Any]]]:
        try:
            line_end = "\n".encode(self.encoding)
        except LookupError:
            raise InputError(
                found=f"encoding {shorten(self.encoding)}",
                expected="an encoding Python knows",
                fix="Use utf-8, gb18030 or big5.",
            ) from None
        if line_end != b"\n":  # UTF-16, UTF-32: lines are cut at this byte
            raise InputError(
                found=f"encoding {shorten(self.encoding)}",
                expected="utf-8, gb18030, big5 or another in which a line ends with a single byte",
                fix=f"Convert the file and leave the encoding out: iconv -f {self.encoding.upper()} -t UTF-8.",
                where=str(self.path),
            )
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
            with open_file(self.path, self.packing) as stream:
                self._refuse_wide(stream.peek())
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
        line = line.removesuffix("\n").removesuffix("\r")
        if number == 1 and "\r" in line and self.format != "csv":  # in the quotes of a csv it is text
            raise InputError(
                found="a carriage return alone within the first line, as old programs end lines",
                expected=r"lines that end with \n or \r\n",
                fix=r"Convert it: tr '\r' '\n' < OLD > NEW.",
                where=self.where(1),
            )
        return line

    def _refuse_wide(self, block: bytes) -> None:
        """InputError where the first bytes of a file are UTF-16: by its mark, or by zero bytes, which no text has."""
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            found, name = "UTF-16 text", "UTF-16"
        elif b"\0" in block:
            name = "UTF-16LE" if block.index(b"\0") % 2 else "UTF-16BE"
            found = f"zero bytes, as {name} text has them"
        else:
            return
        raise InputError(
            found=found,
            expected="UTF-8",
            fix=f"Convert it: iconv -f {name} -t UTF-8.",
            where=self.where(1),
        )

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
        first = next(rows, None)
        if first is None:
            return
        header = self._header(*first)
        if header is None:
            header = [str(place) for place in range(1, len(first[1]) + 1)]
            second = next(rows, None)
            # Columns that are named by their places say that there is no header.
            if second is not None and not set(self.columns or ()).intersection(header):
                self._refuse_header(first[1], second[1], first[0])
            rows = chain([first], [second] if second is not None else [], rows)
        for number, cells in rows:
            if len(cells) != len(header):
                raise InputError(
                    found=f"{len(cells)} cells",
                    expected=f"{len(header)} as in the first row",
                    fix="Repair the row; texts with tabs or line breaks belong into jsonl.",
                    where=self.where(number),
                )
            yield number, dict(zip(header, cells, strict=True))

    def _header(self, number: int, cells: Sequence[str]) -> list[str] | None:
        """Return the names of the columns, None where the first row has none that is known or wanted."""
        header, wanted = [cell.strip() for cell in cells], self.columns or ()
        if not KNOWN.intersection(cell.lower() for cell in header) and not set(wanted).intersection(header):
            return None
        header = [cell.lower() if cell not in wanted else cell for cell in header]
        self._refuse_twice(header, number)
        return header

    def _refuse_header(self, first: Sequence[str], second: Sequence[str], line: int) -> None:
        """InputError where a first row without a known name is a header by its looks: it would be read as data."""
        names = [cell.strip() for cell in first if cell.strip()]  # pandas writes none above its index
        above = bool(names) and all(map(_NAME.fullmatch, names))
        above = above and any(not cell.isascii() or label_number(cell) is not None for cell in second)
        if not above and len(first) == len(second) == 3:  # as a label, "标签" above numbers
            word = any(character.isalpha() for character in first[2])
            above = word and label_number(first[2]) is None and label_number(second[2]) is not None
        if above:
            raise InputError(
                found=f"a first row that looks like a header without a name that is known: {cells_shown(first)}",
                expected=f"a header with {', '.join(self.columns or ('names that are known',))}, or no header",
                fix=f"{NAME_THEM}; if it is no header, write one above it.",
                where=self.where(line),
            )

    def _refuse_twice(self, header: Sequence[str], line: int) -> None:
        """InputError where two columns that may be read have one name: the later would hide the first."""
        for name in (*(self.columns or ()), *sorted(KNOWN)):
            places = [place for place, cell in enumerate(header, 1) if cell == name]
            if len(places) > 1:
                raise InputError(
                    found=f"column {name} {len(places)} times (columns {', '.join(map(str, places))})",
                    expected="one column of that name",
                    fix="Rename or remove the other in the file.",
                    where=self.where(line),
                )

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
        with open_file(self.path, "") as stream:
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


def _encoding_advice(raw: bytes) -> str:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return "Name the right encoding (--encoding), or convert the file to UTF-8."
    return "It may be GB18030 (GBK): give --encoding gb18030, or convert it: iconv -f GB18030 -t UTF-8."
