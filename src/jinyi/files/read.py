"""Texts and pairs out of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinyi.errors import InputError, shorten
from jinyi.files.columns import LabelReader, cell_of, cells_shown, label_column_of, pair_columns, text_column
from jinyi.files.rows import RowReader
from jinyi.text import check_text
from jinyi.tokens import split_pair


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
            header, columns are called 1, 2, ...; one that looks like a header of unknown names is refused, unless
            they are given.
        label_column: column of the label; by default the first of `LABEL_COLUMNS`, absent is fine. Blanks around a
            label are left out, with one UserWarning for the file.
        encoding: of the text formats, for example gb18030. A byte order mark of UTF-8 is skipped.

    Raises:
        InputError: file missing or damaged, wrong encoding, missing column, empty text; names file and line.
        MissingExtraError: parquet without pyarrow.
    """
    source = Path(path)
    reader = RowReader(source, encoding, [column] if column else None)
    names: tuple[str, str | None] | None = None
    labels = LabelReader()
    for line, row in reader:
        where = reader.where(line)
        if isinstance(row, str):
            _refuse_columns(column, label_column, where)
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
            names = (column or text_column(row, where), label_column_of(row, label_column, where))
        value = cell_of(row, names[0], where)
        label = labels.read(row, names[1], where)
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
            be an object or a list of two strings. A tsv or csv without a header is read as a, b, label; one with
            other columns, or with a first row that looks like a header of unknown names, is refused.
        columns: names of the two columns; by default the first of `PAIR_COLUMNS` of which both are there.
        label_column: column of the label; by default the first of `LABEL_COLUMNS`, absent is fine. Blanks around a
            label are left out, with one UserWarning for the file.
        encoding: of the text formats, for example gb18030. A byte order mark of UTF-8 is skipped.

    Raises:
        InputError: file missing or damaged, wrong encoding, missing column, a pair with one side missing; names file
            and line.
        MissingExtraError: parquet without pyarrow.
    """
    source = Path(path)
    reader = RowReader(source, encoding, columns)
    names: tuple[str, str, str | None] | None = None
    labels = LabelReader()
    for line, row in reader:
        where = reader.where(line)
        first: object
        second: object
        if isinstance(row, str):
            _refuse_columns(columns, label_column, where)
            cells = row.split("\t")
            if len(cells) > 3:
                raise InputError(
                    found=f"{len(cells)} texts with tabs between: {cells_shown(cells)}",
                    expected="two texts and perhaps a label",
                    fix="For more columns give the file a header with their names, and a name that ends in .tsv.",
                    where=where,
                )
            first, second = (cells[0], cells[1]) if len(cells) > 1 else split_pair(row, where)
            label = labels.read({"3": cells[2]}, "3", where) if len(cells) > 2 else None
            name_a, name_b = "first text", "second text"
        elif isinstance(row, dict):
            if names is None:
                pair = columns or pair_columns(row, where)
                names = (*pair, label_column_of(row, label_column, where))
            name_a, name_b, name_label = names
            first, second = cell_of(row, name_a, where), cell_of(row, name_b, where)
            label = labels.read(row, name_label, where)
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


def _refuse_columns(columns: str | tuple[str, str] | None, label: str | None, where: str) -> None:
    """InputError where columns are named and the row is a bare text."""
    named = columns or label
    if named:
        raise InputError(
            found="a line of text without columns",
            expected=f"column {named if isinstance(named, str) else ' and '.join(named)}",
            fix="Leave the names of columns out for this file, or give a tsv, csv, jsonl or parquet file.",
            where=where,
        )
