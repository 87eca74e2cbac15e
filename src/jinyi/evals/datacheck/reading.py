"""A file as arrays of hashes: what the checks look at, without its texts."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.evals.datacheck.forms import Keys, text_keys
from jinyi.evals.datacheck.source import DataFile
from jinyi.files import PAIR_COLUMNS
from jinyi.files.columns import cell_of, label_column_of, text_column
from jinyi.files.rows import RowReader
from jinyi.hashes import file_sha256
from jinyi.text import check_text

DIRECTED = (("premise", "hypothesis"), ("anchor", "positive", "negative"))
"""Columns whose order is part of the row: the swapped row may have another label."""
BLOCK = 4096
_WHOLE = re.compile(r"^([-+]?\d+)\.0+$")


@dataclass(frozen=True, eq=False)
class Table:
    """A file that was read.

    Args:
        file: which.
        columns: of the texts.
        named: whether they were given.
        label_column: of the labels, or None.
        lines: int64 [rows], counted from 1 (parquet: rows).
        keys: hashes of each text in the forms "written", "same" and "alike", uint64 [rows, texts].
        characters: int32 [rows], of all texts of a row together.
        labels: int64 [rows], places in the list of labels of all files, -1 without one.
        unreadable: line and reason of rows that hold no text to read.
        sha256: of the file.
    """

    file: DataFile
    columns: tuple[str, ...]
    named: bool
    label_column: str | None
    lines: npt.NDArray[np.int64]
    keys: Mapping[str, Keys]
    characters: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int64]
    unreadable: list[tuple[int, str]]
    sha256: str

    @property
    def width(self) -> int:
        """Number of texts in a row."""
        return len(self.columns)

    @property
    def graded(self) -> bool:
        """Whether the labels are scores, any of which may be new."""
        return self.label_column == "score"

    @property
    def directed(self) -> bool:
        """Whether the order of a row's texts is part of what it says."""
        return self.columns in DIRECTED or self.width > 2


@dataclass(slots=True)
class Layout:
    """Which columns of a file are read; found in its first row unless given."""

    columns: tuple[str, ...] | None = None
    label_column: str | None = None
    found: bool = field(default=False, init=False)

    def settle(self, row: object, where: str) -> None:
        """Find the columns in the first row."""
        if isinstance(row, Mapping):
            self.columns = self.columns or _columns(row, where)
            self.label_column = label_column_of(row, self.label_column, where)
            if self.label_column in self.columns:
                self.label_column = None
        else:
            cells = _cells(row)
            self.columns = ("1", "2") if len(cells) > 1 else ("1",)
            self.label_column = "3" if len(cells) > 2 else None
        self.found = True

    def read(self, row: object, where: str) -> tuple[tuple[str, ...], str | None]:
        """Return the texts of a row and its label.

        Raises:
            InputError: a text is missing or has nothing to read.
        """
        if not self.found:
            self.settle(row, where)
        if not isinstance(row, Mapping):
            row = {str(place): cell for place, cell in enumerate(_cells(row), 1)}
        texts = tuple(
            check_text(_joined(cell_of(row, name, where)), f"{where}, {name}") for name in self.columns or ()
        )
        return texts, label_text(row.get(self.label_column)) if self.label_column else None


def label_text(value: object) -> str | None:
    """Return a label in the form that files are compared in: 1, 1.0, "1" and "1.0" are one label; None without one."""
    if isinstance(value, str):
        return _WHOLE.sub(r"\1", value.strip()) or None
    if isinstance(value, float):
        if math.isnan(value):  # how tables say that there is none
            return None
        value = int(value) if value.is_integer() else value
    if type(value) is int:
        return str(value)
    return None if value is None else json.dumps(value, ensure_ascii=False)


def read_table(
    file: DataFile,
    labels: dict[tuple[bool, str], int],
    *,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
    simplified: bool = False,
    observe: Callable[[list[tuple[str, ...]]], None] | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Table:
    """Read a file to hashes. Time: some 10 microseconds a text.

    Args:
        file: which.
        labels: places of the labels met so far, by (is it a score, label); grows. A score of 1 is no label 1.
        columns, label_column, encoding: as in `jinyi.files.read_texts`.
        simplified: traditional and simplified characters are alike.
        observe: gets the texts of the readable rows, some thousand at a time.
        advance: gets the number of rows read.

    Raises:
        InputError: the file cannot be read, or no row of it can.
    """
    reader = RowReader(file.path, encoding, columns)
    layout = Layout(tuple(columns) if columns else None, label_column)
    lines, characters, marks = array("q"), array("i"), array("q")
    hashes = array("Q")
    unreadable: list[tuple[int, str]] = []
    block: list[tuple[str, ...]] = []

    def flush() -> None:
        if observe is not None and block:
            observe(block)
        advance(len(block))
        block.clear()

    for line, row in reader:
        try:
            texts, label = layout.read(row, reader.where(line))
        except InputError as fault:
            if not layout.found:  # the columns: nothing of this file can be read
                raise
            unreadable.append((line, fault.found))
            continue
        block.append(texts)
        lines.append(line)
        characters.append(sum(map(len, texts)))
        scored = layout.label_column == "score"
        marks.append(-1 if label is None else labels.setdefault((scored, label), len(labels)))
        for text in texts:
            hashes.extend(text_keys(text, simplified=simplified))
        if len(block) == BLOCK:
            flush()
    flush()
    if not lines:
        raise InputError(
            found=f"{len(unreadable)} rows, none with a text to read; the first has {unreadable[0][1]}",
            expected="rows of texts",
            fix="Check the columns (--columns).",
            where=str(file.path),
        )
    width = len(layout.columns or ())
    keys = np.frombuffer(hashes, np.uint64).reshape(len(lines), width, 3)
    return Table(
        file=file,
        columns=layout.columns or (),
        named=bool(columns),
        label_column=layout.label_column,
        lines=np.frombuffer(lines, np.int64),
        keys={form: keys[:, :, place] for place, form in enumerate(("written", "same", "alike"))},
        characters=np.frombuffer(characters, np.int32),
        labels=np.frombuffer(marks, np.int64),
        unreadable=unreadable,
        sha256=file_sha256(file.path),
    )


def read_rows(
    table: Table, rows: Iterable[int], *, encoding: str = "utf-8"
) -> dict[int, tuple[tuple[str, ...], str | None]]:
    """Read some rows of a file again, texts and label, for examples; streams up to the last of them."""
    wanted = {int(table.lines[row]): row for row in rows}
    found: dict[int, tuple[tuple[str, ...], str | None]] = {}
    if not wanted:
        return found
    last = max(wanted)
    reader = RowReader(table.file.path, encoding, table.columns)
    layout = Layout(table.columns, table.label_column)
    for line, row in reader:
        if line in wanted:
            found[wanted[line]] = layout.read(row, reader.where(line))
        if line >= last:
            break
    return found


def _columns(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    for names in (*PAIR_COLUMNS, ("1", "2"), *DIRECTED):
        if all(name in row for name in names):
            return names
    return (text_column(row, where),)


def _cells(row: object) -> list[Any]:
    if isinstance(row, str):
        return row.split("\t")
    return list(row) if isinstance(row, list) else [row]


def _joined(cell: object) -> object:
    """A list of words, as CSL's keywords, is read as one text."""
    if isinstance(cell, list) and all(isinstance(word, str) for word in cell):
        return " ".join(cell)
    return cell
