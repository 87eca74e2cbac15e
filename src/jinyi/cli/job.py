"""What `jinyi classify`, `embed` and `score` do alike: answer texts given directly, or those of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from jinyi.cli.common import print_json, print_note, print_table
from jinyi.errors import InputError

if TYPE_CHECKING:
    from jinyi.files import PairRow, RowEncoder, TextRow

Row = TypeVar("Row", "PairRow", "TextRow")
Rows = list[dict[str, Any]]


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


def answer(
    source: Path | None,
    output: Path | None,
    *,
    given: Callable[[], list[Any]],
    read: Callable[[Path], Iterator[Row]],
    item: Callable[[Row], Any],
    predict: Callable[[list[Any]], tuple[Rows, int]],
    show: Callable[[Rows, int], None],
    encoder: RowEncoder | None,
    key: Callable[[], Mapping[str, object]],
    label: str,
    as_json: bool,
) -> None:
    """Answer inputs given directly or those of a file, on the terminal or into a file.

    Args:
        source: the input file; None answers what was given directly.
        output: the output file; None shows the answers, a block at a time.
        given: the inputs given directly.
        read: yields the rows of a file from the start.
        item: the input in a row.
        predict: answers to some inputs, and how many of them were cut.
        show: prints answers, and how many inputs were cut.
        encoder: of the output file.
        key: what the answers depend on besides the input file.
        label: what is counted.
        as_json: say what was written as JSON.
    """
    if source is None:
        show(*predict(given()))
        return
    if output is None or encoder is None:
        from jinyi.batches import chunks

        for block in chunks(read(source)):
            with _named_lines(source, block):
                shown = predict([item(row) for row in block])
            show(*shown)
        return

    def compute(block: list[Row]) -> tuple[bytes, int]:
        rows, cut = predict([item(row) for row in block])
        return encoder.encode(rows), cut

    total, cut = run_job(
        source,
        output,
        read=lambda: read(source),
        compute=compute,
        header=lambda rows: encoder.header(),
        key=key(),
        label=label,
    )
    finish({"output": str(output), "rows": total, "cut": cut}, as_json)


def show_rows(
    rows: Rows,
    cut: int,
    *,
    columns: Sequence[str],
    cells: Callable[[dict[str, Any]], list[str]],
    label: str,
    as_json: bool,
) -> None:
    """Print answers as JSON lines or as a table, and how many inputs were cut."""
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(columns, [cells(row) for row in rows])
    if cut:
        print_note(f"{cut:,} of {len(rows):,} {label} were longer than the model reads and were cut")


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
    with BulkOutput(output, key=identity, header=header(total)) as out:
        try:
            with progress(label, total) as advance:
                if out.rows:
                    print_note(f"going on after {out.rows:,} of {total:,} {label}")
                    advance(out.rows)
                for block in chunks(islice(read(), out.rows, None)):
                    try:
                        with _named_lines(source, block):
                            data, cut = compute(block)
                    except InputError:
                        out.discard()
                        raise
                    out.append(data, len(block), cut)
                    advance(len(block))
        except KeyboardInterrupt:
            done = f"stopped after {out.rows:,} of {total:,} {label}"
            print_note(f"{done}; the same command with the same --output goes on there")
            raise typer.Exit(130) from None
        out.finish()
        return total, out.cut


@contextmanager
def _named_lines(source: Path, block: Sequence[PairRow | TextRow]) -> Iterator[None]:
    """Errors about rows of a block name their lines in the file, of which a model knows nothing."""
    from jinyi.files.labels import place_of

    try:
        yield
    except InputError as error:
        lines = ", ".join(place_of(source, block[row].line) for row in error.rows[:5])
        where = lines + (" ..." if len(error.rows) > 5 else "") or ": ".join(
            filter(None, (str(source), error.where))
        )
        raise InputError(found=error.found, expected=error.expected, fix=error.fix, where=where) from error


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
