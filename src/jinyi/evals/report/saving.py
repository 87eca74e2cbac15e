"""A report in a folder of its own: whole or not there."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from jinyi.errors import FolderError
from jinyi.evals.report.drawing import draw, standalone
from jinyi.evals.report.html import render_html
from jinyi.evals.report.markdown import render_markdown
from jinyi.evals.report.record import as_record
from jinyi.evals.result import Evaluation, Figure
from jinyi.folder.atomic import MANIFEST, StagedFolder

RECORD: Final = "report.json"
_OURS: Final = frozenset({RECORD, "report.html", "report.md", "figures", MANIFEST})
_NO_FIGURES: Final = 'Figures are not drawn: matplotlib is missing (pip install "jinyi[eval]").'


def save(evaluation: Evaluation, folder: str | os.PathLike[str]) -> Path:
    """Write report.html, report.md, report.json and figures/*.svg; a report that is there is replaced in one step.

    Without matplotlib the report has no figures and says so; their numbers are in report.json.

    Args:
        evaluation: with command, version and machine (`jinyi.evals.provenance.stamp`).
        folder: of the report, made with its parents.

    Returns:
        The folder.

    Raises:
        FolderError: something else is in the folder, or it cannot be written.
    """
    place = check_place(folder)
    drawn = find_spec("matplotlib") is not None or not evaluation.figures
    names = (
        {number: _name(number, figure) for number, figure in enumerate(evaluation.figures)} if drawn else {}
    )
    drawings = {number: draw(evaluation.figures[number], name=f"figure{number + 1}") for number in names}
    paths = {number: f"figures/{name}" for number, name in names.items()}
    record = json.dumps(as_record(evaluation), ensure_ascii=False, indent=1, allow_nan=False)
    shown = evaluation if drawn else replace(evaluation, notes=[*evaluation.notes, _NO_FIGURES])
    with StagedFolder(place, overwrite=True, marker=RECORD, kind="report") as staged:
        staged.put(RECORD, record + "\n")
        staged.put("report.md", render_markdown(shown, paths))
        staged.put("report.html", render_html(shown, drawings))
        for number, path in paths.items():
            staged.put(path, standalone(drawings[number]) + "\n")
    return place


def check_place(folder: str | os.PathLike[str]) -> Path:
    """Return the folder of a report if it is free or holds a report alone.

    Raises:
        FolderError: something else is there, which a new report would take away.
    """
    place = Path(os.path.expanduser(folder))
    if not os.path.lexists(place):
        return place
    others = sorted({entry.name for entry in place.iterdir()} - _OURS) if place.is_dir() else [place.name]
    report = place.is_dir() and (not any(place.iterdir()) or (place / RECORD).is_file())
    if others or not report:
        raise FolderError(
            found=f"{', '.join(others[:3]) or 'files that are no report'} there",
            expected="a folder that is free, or a report to replace",
            fix="Give the report a folder of its own.",
            where=str(place),
        )
    return place


def _name(number: int, figure: Figure) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")[:48].strip("-")
    return f"{number + 1:02d}-{words or figure.kind}.svg"
