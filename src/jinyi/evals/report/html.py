"""An evaluation as one HTML file that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from jinyi.evals.report.style import CSS
from jinyi.evals.report.tables import Cell, Table, data_table, number, tables
from jinyi.evals.result import Evaluation, Example, Row

# The browser itself then refuses whatever a text in the report might try to load or run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_html(evaluation: Evaluation, drawings: Mapping[int, str] | None = None) -> str:
    """Return the report as one HTML page, readable on a phone, on light and dark screens.

    Args:
        evaluation: what to show; its texts are data and never markup.
        drawings: {place in `evaluation.figures`: its `<svg>` element}; others are left out.
    """
    title = escape(evaluation.title)
    parts = [f"<h1>{title}</h1>", _origin(evaluation), *map(_table, tables(evaluation))]
    if evaluation.notes:
        parts.append(
            f"<ul class=notes>{''.join(f'<li>{escape(note)}</li>' for note in evaluation.notes)}</ul>"
        )
    parts += _figures(evaluation, drawings or {})
    if evaluation.examples:
        shown = "".join(map(_example, evaluation.examples))
        parts.append(f'<h2>Rows worth reading</h2><div class="examples">{shown}</div>')
    parts.append(_made(evaluation))
    body = "\n".join(filter(None, parts))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _origin(evaluation: Evaluation) -> str:
    version = f"jinyi {evaluation.version}" if evaluation.version else ""
    facts = [escape(fact) for fact in (version, evaluation.machine) if fact]
    command = f"<pre><code>{escape(evaluation.command)}</code></pre>" if evaluation.command else ""
    return f'<p class="origin">{" · ".join(facts)}</p>{command}'


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"{_flush(any(row[place].number for row in table.rows))}>{_lines(name)}</th>'
        for place, name in enumerate(table.columns)
    )
    rows = []
    for cells, quoted in zip(table.rows, table.quoted, strict=True):
        marked = ' class="quoted"' if quoted else ""
        rows.append(f"<tr{marked}>{''.join(map(_cell, cells))}</tr>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    title = f"<h2>{escape(table.title)}</h2>\n" if table.title else ""
    return f"{title}{_grid(heads, rows)}{notes}"


def _grid(heads: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    value, below = map(escape, cell.parts)
    if cell.best:
        value = f"<strong>{value}</strong>"
    return f"<td{_flush(cell.number)}>{value}{f'<small>{below}</small>' if below else ''}</td>"


def _flush(right: bool) -> str:
    return ' class="number"' if right else ""


def _lines(text: str) -> str:
    first, _, rest = text.partition("\n")
    return escape(first) + (f"<small>{escape(rest)}</small>" if rest else "")


def _figures(evaluation: Evaluation, drawings: Mapping[int, str]) -> Iterable[str]:
    shown = [
        f'<figure lang="zh-Hans"><h3>{escape(figure.title)}</h3>{drawings[place]}'
        + (f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else "")
        + "</figure>"
        for place, figure in enumerate(evaluation.figures)
        if place in drawings
    ]
    return ["<h2>Figures</h2>", '<div class="figures">', *shown, "</div>"] if shown else []


def _example(example: Example) -> str:
    texts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in example.texts.items())
    score = "" if example.score is None else f" ({example.score:.3f})"
    place = f" · {escape(example.place)}" if example.place else ""
    return (
        f'<article><dl lang="zh-Hans">{texts}</dl><p>expected <b>{escape(example.expected)}</b>, '
        f"found <b>{escape(example.found)}</b>{score}</p><p class=note>{escape(example.data)}{place}</p></article>"
    )


def _made(evaluation: Evaluation) -> str:
    parts = []
    files = data_table(evaluation)
    if files is not None:
        parts.append(_table(files))
    if evaluation.rows:
        heads = "".join(f"<th>{name}</th>" for name in ("set", "system", "protocol", "scores", "settings"))
        parts.append(f"<h2>Every row with its settings</h2>{_grid(heads, map(_row, evaluation.rows))}")
    return (
        f"<details><summary>How these numbers were made</summary>{''.join(parts)}</details>" if parts else ""
    )


def _row(row: Row) -> str:
    facts: dict[str, Any] = {
        **row.settings,
        "seed": row.seed,
        "SHA-256": row.data_sha256,
        "quoted": row.quoted,
    }
    scores = [f"{name} {number(value)}" for name, value in row.scores.items()]
    settings = [f"{name}: {value}" for name, value in facts.items() if value is not None]
    cells = (row.data, row.system, row.protocol, *("\n".join(part) for part in (scores, settings)))
    return f"<tr>{''.join(f'<td>{_all_lines(cell)}</td>' for cell in cells)}</tr>"


def _all_lines(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))
