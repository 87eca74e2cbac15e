"""How commands show an evaluation: tables or JSON on standard output, a report in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinyi.cli.common import print_json, print_note, print_table
from jinyi.errors import FolderError

if TYPE_CHECKING:
    from jinyi.evals.report import Cell, Table
    from jinyi.evals.result import Evaluation

_LABEL = 20  # columns that system and protocol get at least
_GAP = 3  # columns between two numbers


def show_evaluation(evaluation: Evaluation, *, output: Path | None = None, as_json: bool = False) -> None:
    """Print an evaluation and save its report.

    Args:
        evaluation: gets command line, version and machine where it has none.
        output: folder of the report; a report that is there is replaced. None saves nothing.
        as_json: print one JSON object, as in report.json but without the figures, in place of the tables.

    Raises:
        FolderError: the folder holds something that is not a report, or cannot be written; the tables are printed.
    """
    from jinyi.evals.provenance import stamp
    from jinyi.evals.report import as_record, save, tables

    stamp(evaluation)
    saved, fault = None, None
    try:
        saved = save(evaluation, output) if output is not None else None
    except FolderError as error:
        fault = error  # hours of work may stand in the tables: they are printed first
    if as_json:
        record = as_record(evaluation)
        del record["figures"]
        print_json({**record, "report": None if saved is None else str(saved)})
    else:
        _print_tables(evaluation, tables(evaluation))
    if fault is not None:
        raise fault
    if saved is not None and not as_json:
        print_note(f"report: {saved / 'report.html'}")


def _print_tables(evaluation: Evaluation, shown: Sequence[Table]) -> None:
    told: list[str] = []
    for table in shown:
        print_wide(table, ": ".join(filter(None, (evaluation.title, table.title))))
        notes = [note for note in table.notes if note not in told]
        told += notes
        if any(cell.best for row in table.rows for cell in row):
            notes.insert(0, "* the best computed value of its column")
        for note in notes:
            print(note)
    for note in evaluation.notes:
        print(f"- {note}")


def print_wide(table: Table, title: str) -> None:
    """Print a table of scores so that no number breaks, however narrow the terminal is.

    Words (system, protocol) share the first column, below each other. Where numbers do not fit beside it, intervals are
    left out, and then the columns go on in a further table.
    """
    from rich.cells import cell_len
    from rich.console import Console

    rows = table.rows
    texts = [n for n in range(len(table.columns)) if not any(row[n].number for row in rows)]
    numbers = [n for n in range(len(table.columns)) if n not in texts]
    if len(texts) > 1:  # a column of one value says nothing that could not stand above
        for n in [n for n in texts if table.columns[n] == "set" and len({row[n].text for row in rows}) == 1]:
            texts.remove(n)
            title = f"{title}: {rows[0][n].text}"
    labels = ["\n".join(filter(None, (row[n].text for n in texts))) for row in rows]
    room = Console().width - 2  # the table has a blank at either edge
    widest = max(cell_len(line) for label in labels for line in label.split("\n"))
    first = min(widest, max(_LABEL, room // 4))
    heads = {n: table.columns[n].replace(" n=", "\nn=").replace(", ", ",\n") for n in numbers}

    def column(n: int, below: bool) -> list[str]:
        return [heads[n], *(_marked(row[n], below) for row in rows)]

    def width(n: int, below: bool) -> int:
        return _GAP + max(cell_len(line) for cell in column(n, below) for line in cell.split("\n"))

    below = first + sum(width(n, True) for n in numbers) <= room
    left = list(numbers)
    while left:
        taken = [left.pop(0)]
        while left and first + sum(width(n, below) for n in (*taken, left[0])) <= room:
            taken.append(left.pop(0))
        columns = ["", *(heads[n] for n in taken)]
        cells = [
            [label, *(_marked(row[n], below) for n in taken)] for label, row in zip(labels, rows, strict=True)
        ]
        print_table(columns, cells, title=title, numbers=True, widths=(first,))
    if not below and any(row[n].parts[1] for row in rows for n in numbers):
        print(f"Intervals need a wider terminal than {room + 2} columns, --json or --output.")


def _marked(cell: Cell, interval: bool) -> str:
    value, below = cell.parts
    value += "*" if cell.best else ""
    return f"{value}\n{below.replace(' to ', '-')}" if below and interval else value


def check_output(output: Path | None) -> None:
    """Raise FolderError for a report folder that cannot be used, before anything is computed."""
    if output is not None:
        from jinyi.evals.report import check_place

        check_place(output)
