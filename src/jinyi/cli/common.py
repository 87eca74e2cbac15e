"""What the commands share: options, tables, notes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli import to_json
from jinyi.errors import InputError, TruncationWarning

if TYPE_CHECKING:
    from jinyi.folder import ModelFolder
    from jinyi.registry import Located

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Name or folder; default: the shipped model.")
]
Input = Annotated[
    Path | None,
    typer.Option("--input", "-i", help="txt, tsv, csv, jsonl (also .gz, .xz) or parquet file."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File for the results. A stopped job started again goes on where it was."
    ),
]
Encoding = Annotated[str, typer.Option(help="Of the input file, for example gb18030.")]
Truncate = Annotated[str, typer.Option(help="For long texts: warn (cut and count), error or window.")]
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16, int8, int8-weights or int8-dynamic.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; default: the cores available.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]

_GAP = 3  # blanks between two columns of a table
_LEAST = 8  # display width that a column of texts gets at least


def print_json(value: object) -> None:
    """Print one JSON line."""
    print(to_json(value, sys.stdout.encoding))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    numbers: bool = False,
    widths: Sequence[int] = (),
) -> None:
    """Print rows aligned by display width: a Chinese character takes two columns.

    A terminal too narrow for the first column and a little of every other one breaks the lines itself.

    Args:
        columns: headings.
        rows: as many cells each.
        title: above the table.
        numbers: set all columns but the first flush right and never break them.
        widths: of the first columns; without them the first one is as wide as its longest cell.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text: "[b]" in a user's sentence or in the name of a file is no markup
    heading = None if title is None else Text(title, style="table.title")
    table = Table(box=box.SIMPLE_HEAD, title=heading, title_justify="left", pad_edge=False)
    for number, name in enumerate(columns):
        given = widths[number] if number < len(widths) else None
        table.add_column(
            Text(name),
            overflow="fold",
            no_wrap=numbers if number else given is None and len(columns) > 1,
            justify="right" if numbers and number else "left",
            width=given,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not numbers:
        widest = [max(cell_len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
        first = widths[0] if widths else widest[0]
        console.width = max(console.width, 2 + first + sum(_GAP + min(_LEAST, width) for width in widest[1:]))
    console.print(table)


def read_option(option: str, path: Path, holds: str) -> str:
    """Return the text of a file that an option names.

    Args:
        option: its name, for the message.
        path: the file.
        holds: what it should be: "a text file with one key a line".

    Raises:
        InputError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            found=str(error),
            expected=holds,
            fix="Check the path and who may read it.",
            where=f"{option} {path}",
        ) from error


def print_note(message: str) -> None:
    """Print a line for people on standard error."""
    print(message, file=sys.stderr)


def check_copy(folder: Path, output: Path | None, overwrite: bool, copy: str) -> None:
    """Refuse, before anything is computed, a place where a changed copy of a model could not be saved.

    Args:
        folder: of the model.
        output: folder of the copy; None changes the model itself.
        overwrite: whether a model there may be replaced.
        copy: what messages call it.

    Raises:
        InputError: a shipped model without `output`, or something at `output`.
        FolderError: something at `output` that is never replaced.
    """
    from jinyi.folder import StagedFolder
    from jinyi.registry import shipped_models

    if output is None and any(entry.path == folder for entry in shipped_models()):
        raise InputError(
            found=f"the shipped model {folder.name} without --output",
            expected=f"a folder for the {copy}",
            fix="Add --output FOLDER: shipped models are not changed.",
            where=str(folder),
        )
    if output is not None and os.path.lexists(output) and not overwrite:
        raise InputError(
            found="something there already",
            expected="a path that is free",
            fix="Choose another path, or add --overwrite to replace a model folder.",
            where=str(output),
        )
    if output is not None:
        StagedFolder(output, overwrite=True).check_target()


def known_entries(found: Located, folder: ModelFolder) -> dict[str, Any]:
    """Return the entries that a copy of a pair model needs: opened by its path, it has none of the registry's facts.

    Args:
        found: where the model was found.
        folder: the model, read with those facts.

    Returns:
        Entries of `jinyi.json` for `update_record`; none for a model that was given by its path.
    """
    known = {key: folder.record[key] for key in ("segment_ids",) if key in found.facts}
    if folder.task == "pair" and "labels" in found.facts:
        known["similar_label"] = folder.similar
    return known


@contextmanager
def quiet_truncation() -> Iterator[None]:
    """Leave truncation warnings to the command, which prints the totals itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        yield
