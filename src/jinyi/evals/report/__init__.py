"""Reports of an `Evaluation`: tables, Markdown, one HTML file, JSON, figures.

from jinyi.evals.report import save
save(evaluation, "report")       # report.html, report.md, report.json, figures/*.svg
"""

from __future__ import annotations

from jinyi.evals.report.html import render_html
from jinyi.evals.report.markdown import render_markdown
from jinyi.evals.report.record import as_record, from_record
from jinyi.evals.report.saving import check_place, save
from jinyi.evals.report.tables import Cell, Table, tables

__all__ = [
    "Cell",
    "Table",
    "as_record",
    "check_place",
    "from_record",
    "render_html",
    "render_markdown",
    "save",
    "tables",
]
