"""An evaluation as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from jinyi.evals.report.tables import Cell, Table, data_table, tables
from jinyi.evals.result import Evaluation


def render_markdown(evaluation: Evaluation, figures: Mapping[int, str] | None = None) -> str:
    """Return the report as Markdown.

    Args:
        evaluation: what to show.
        figures: {place in `evaluation.figures`: path of its picture}; others are left out.
    """
    parts = [f"# {escape(evaluation.title)}", *map(render_table, tables(evaluation))]
    if evaluation.notes:
        parts.append("\n".join(f"- {escape(note)}" for note in evaluation.notes))
    for place, figure in enumerate(evaluation.figures):
        if figures and place in figures:
            caption = f"\n\n{escape(figure.caption)}" if figure.caption else ""
            parts.append(f"## {escape(figure.title)}\n\n![{escape(figure.title)}]({figures[place]}){caption}")
    if evaluation.examples:
        parts += ["## Rows worth reading", _examples(evaluation)]
    parts += ["## How these numbers were made", _made(evaluation)]
    files = data_table(evaluation)
    if files is not None:
        parts.append(render_table(files))
    return "\n\n".join(filter(None, parts)) + "\n"


def render_table(table: Table) -> str:
    """Return one table as Markdown: best values in bold, quoted rows in italics, notes below."""
    numbers = [any(row[place].number for row in table.rows) for place in range(len(table.columns))]
    lines = [
        _line(_broken(heading) for heading in table.columns),
        _line("---:" if flush else "---" for flush in numbers),
    ]
    for row, quoted in zip(table.rows, table.quoted, strict=True):
        lines.append(_line(_cell(cell, quoted) for cell in row))
    notes = "".join(f"\n\n{escape(note)}" for note in table.notes)
    title = f"## {escape(table.title)}\n\n" if table.title else ""
    return title + "\n".join(lines) + notes


def escape(text: str) -> str:
    """Return text that Markdown shows as it is: on one line, without markup of its own."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def _examples(evaluation: Evaluation) -> str:
    lines = [
        _line(("set", "texts", "expected", "found", "score", "place")),
        _line(["---"] * 4 + ["---:", "---"]),
    ]
    for example in evaluation.examples:
        texts = "<br>".join(f"{escape(name)}: {escape(text)}" for name, text in example.texts.items())
        score = "" if example.score is None else f"{example.score:.3f}"
        data, expected, found = map(escape, (example.data, example.expected, example.found))
        lines.append(_line((data, texts, expected, found, score, escape(example.place))))
    return "\n".join(lines)


def _made(evaluation: Evaluation) -> str:
    seeds = sorted({row.seed for row in evaluation.rows if row.seed is not None})
    facts = {
        "command": _code(" ".join(evaluation.command.split())),
        "jinyi": escape(evaluation.version),
        "machine": escape(evaluation.machine),
        "seed": ", ".join(map(str, seeds)),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value]
    lines.append("- every row with all its settings: report.json")
    return "\n".join(lines)


def _code(text: str) -> str:
    """Text between more backticks than it holds one after another."""
    runs = re.findall("`+", text)
    if not runs:
        return f"`{text}`" if text else ""
    marks = "`" * (1 + max(map(len, runs)))
    return f"{marks} {text} {marks}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _broken(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))


def _cell(cell: Cell, quoted: bool) -> str:
    value, below = map(escape, cell.parts)
    if cell.best and value:
        value = f"**{value}**"
    if quoted and value:
        value = f"*{value}*"
    return f"{value}<br>{below}" if below else value
