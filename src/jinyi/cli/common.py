"""What the commands share: options, tables, and the job that streams a file through a model."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from jinyi.errors import InputError, TruncationWarning

if TYPE_CHECKING:
    from jinyi.files import PairRow, TextRow

Row = TypeVar("Row", "PairRow", "TextRow")

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


def print_json(value: object) -> None:
    """Print one JSON line."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    numbers: bool = False,
    widths: Sequence[int] = (),
) -> None:
    """Print rows aligned by display width: a Chinese character takes two columns.

    Args:
        columns: headings.
        rows: as many cells each.
        title: above the table.
        numbers: set all columns but the first flush right and never break them.
        widths: of the first columns; without them the first one is as wide as its longest cell.
    """
    from rich import box
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
    Console().print(table)


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
    """
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


@contextmanager
def quiet_truncation() -> Iterator[None]:
    """Leave truncation warnings to the command, which prints the totals itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        yield


def need_input(given: bool, source: Path | None, what: str, output: Path | None = None) -> None:
    """Raise InputError unless exactly one of texts and --input is given, and --output only with a file of its own."""
    if given == (source is not None):
        raise InputError(
            found=f"{what} and --input" if given else f"neither {what} nor --input",
            expected="one of them",
            fix="See --help for examples.",
        )
    if output is None:
        return
    if source is None:
        raise InputError(
            found=f"--output with {what} given directly",
            expected="--input FILE with --output",
            fix="Put the texts into a file, or leave --output out and print with --json.",
        )
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(
            found="the same file for --input and --output",
            expected="two files",
            fix="Give the results another name: the input would be lost.",
            where=str(output),
        )


def check_options(truncate: str, *, windows: bool = True) -> None:
    """Raise InputError for an unknown --truncate before a model is opened."""
    from jinyi.models.common import check_truncate

    check_truncate(truncate, windows=windows)


def run_job(
    source: Path,
    output: Path,
    *,
    read: Callable[[], Iterator[Row]],
    compute: Callable[[list[Row]], tuple[bytes, int]],
    header: Callable[[int], bytes],
    key: Mapping[str, object],
    label: str,
) -> tuple[int, int]:
    """Stream a file through a model into another file; resumable.

    The input is read twice: once to check every row before any work is done, and once to do it.

    Args:
        source: the input file.
        output: the output file.
        read: yields its rows from the start.
        compute: the bytes for some rows, and how many texts were cut.
        header: first bytes of the output, given the number of rows.
        key: what the result depends on besides the input file.
        label: what is counted.

    Returns:
        number of rows, and number of texts cut, those before a restart included.

    Raises:
        InputError: bad rows; nothing is left behind then.
    """
    from jinyi.batches import chunks, progress
    from jinyi.files import BulkOutput
    from jinyi.hashes import file_sha256

    total = sum(1 for _ in read())
    identity = {**key, "input": file_sha256(source)}
    with BulkOutput(output, key=identity, header=header(total)) as out, progress(label, total) as advance:
        if out.rows:
            print_note(f"going on after {out.rows:,} of {total:,} {label}")
            advance(out.rows)
        for block in chunks(islice(read(), out.rows, None)):
            try:
                data, cut = compute(block)
            except InputError as error:
                out.discard()
                lines = ", ".join(f"{source}:{block[row].line}" for row in error.rows[:5])
                where = lines + (" ..." if len(error.rows) > 5 else "") or f"{source}: {error.where}"
                raise InputError(
                    found=error.found, expected=error.expected, fix=error.fix, where=where
                ) from error
            out.append(data, len(block), cut)
            advance(len(block))
        out.finish()
        return total, out.cut


def model_key(path: Path, engine: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, object]:
    """Return what a result depends on: version, precision, settings, and the content of the model folder."""
    from jinyi import __version__
    from jinyi.hashes import file_sha256

    files = [file for file in path.rglob("*") if file.suffix in (".safetensors", ".json")]
    hashes = {file.relative_to(path).as_posix(): file_sha256(file) for file in sorted(files)}
    arithmetic = {name: engine[name] for name in ("device", "precision")}
    return {"jinyi": __version__, "model": hashes, **arithmetic, **settings}


def finish(summary: Mapping[str, object], as_json: bool) -> None:
    """Say what a job wrote."""
    if as_json:
        print_json(summary)
        return
    cut = f", {summary['cut']:,} cut to the model's length" if summary["cut"] else ""
    print_note(f"{summary['rows']:,} rows -> {summary['output']}{cut}")
