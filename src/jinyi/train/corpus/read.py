"""Raw text files to documents: lists of lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from jinyi.errors import InputError, shorten
from jinyi.files.columns import cell_of, text_column
from jinyi.files.rows import RowReader

Form = Literal["blank", "lines"]
_SENTENCE = re.compile(r"[^。！？!?；;…]*[。！？!?；;…]*[”’」』）)】》]*")


def read_documents(
    paths: Iterable[str | os.PathLike[str]],
    *,
    form: Form = "blank",
    column: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[list[str]]:
    """Yield the documents of some files as lists of lines, in their order, one document in memory at a time.

    Args:
        paths: txt files (also .gz, .xz); or tsv, csv, jsonl and parquet, where each row is a document.
        form: how a txt file is cut: "blank": a blank line ends a document, as in CLUECorpus2020; "lines": each line is
            a document.
        column: of the text in files with columns; None takes the usual names.
        encoding: of the text formats.

    Raises:
        InputError: a file is missing or damaged, or has no blank line where documents end with one.
    """
    if form not in ("blank", "lines"):
        raise InputError(
            found=shorten(form), expected="'blank' or 'lines'", fix="Choose one of them.", where="documents"
        )
    for path in map(Path, paths):
        reader = RowReader(path, encoding, [column] if column else None)
        if reader.format != "txt":
            yield from _rows(reader, column)
        elif form == "lines":
            yield from ([str(line)] for _, line in reader if str(line).strip())
        else:
            _check_blank(reader)
            yield from _paragraphs(str(line) for _, line in reader)


def cut_line(line: str, longest: int) -> list[str]:
    """Cut a line into pieces of at most `longest` characters, at ends of sentences as far as there are any.

    Sentences are kept together as long as they fit; a sentence that is too long alone is cut where it must be. Joined
    the pieces are the line again.
    """
    if len(line) <= longest:
        return [line]
    out, current = [], ""
    for sentence in _SENTENCE.findall(line):
        if current and len(current) + len(sentence) > longest:
            out.append(current)
            current = ""
        current += sentence
    return [piece[i : i + longest] for piece in [*out, current] for i in range(0, len(piece), longest)]


def _paragraphs(lines: Iterator[str]) -> Iterator[list[str]]:
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line)
        elif document:
            yield document
            document = []
    if document:
        yield document


def _rows(reader: RowReader, column: str | None) -> Iterator[list[str]]:
    name = column
    for number, row in reader:
        value: object = row
        if isinstance(row, dict):
            name = name or text_column(row, reader.where(number))
            value = cell_of(row, name, reader.where(number))
        if not isinstance(value, str):
            raise InputError(
                found=shorten(value), expected="a text", fix="Drop the row.", where=reader.where(number)
            )
        yield value.split("\n")


def _check_blank(reader: RowReader) -> None:
    """Look for the first blank line, so that a corpus of another form is refused before it is read as one document."""
    count = 0
    for _, line in reader:
        if not str(line).strip():
            return
        count += 1
    if count > 1:
        raise InputError(
            found=f"{count:,} lines and no blank line between them",
            expected="a blank line after each document",
            fix="If every line is a document of its own, give --documents lines (form='lines').",
            where=str(reader.path),
        )
