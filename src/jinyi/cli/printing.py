"""How commands show an evaluation: tables or JSON on standard output, a report in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinyi.cli.common import print_json, print_note, print_table

if TYPE_CHECKING:
    from jinyi.evals.report import Cell
    from jinyi.evals.result import Evaluation


def show_evaluation(evaluation: Evaluation, *, output: Path | None = None, as_json: bool = False) -> None:
    """Print an evaluation and save its report.

    Args:
        evaluation: gets command line, version and machine where it has none.
        output: folder of the report; a report that is there is replaced. None saves nothing.
        as_json: print one JSON object, as in report.json but without the figures, in place of the tables.

    Raises:
        FolderError: the folder holds something that is not a report, or cannot be written.
    """
    from jinyi.evals.provenance import stamp
    from jinyi.evals.report import as_record, save, tables

    stamp(evaluation)
    saved = save(evaluation, output) if output is not None else None
    if as_json:
        record = as_record(evaluation)
        del record["figures"]
        print_json({**record, "report": None if saved is None else str(saved)})
        return
    told: list[str] = []
    for table in tables(evaluation):
        title = ": ".join(filter(None, (evaluation.title, table.title)))
        print_table(table.columns, [list(map(_marked, row)) for row in table.rows], title=title)
        notes = [note for note in table.notes if note not in told]
        told += notes
        if any(cell.best for row in table.rows for cell in row):
            notes.insert(0, "* the best computed value of its column")
        for note in notes:
            print(note)
    for note in evaluation.notes:
        print(f"- {note}")
    if saved is not None:
        print_note(f"report: {saved / 'report.html'}")


def _marked(cell: Cell) -> str:
    value, below = cell.parts
    value += "*" if cell.best else ""
    return f"{value}\n{below}" if below else value


def check_output(output: Path | None) -> None:
    """Raise FolderError for a report folder that cannot be used, before anything is computed."""
    if output is not None:
        from jinyi.evals.report import check_place

        check_place(output)
