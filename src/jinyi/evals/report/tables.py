"""An evaluation as tables of text: what the terminal, Markdown and HTML show alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jinyi.evals.result import Evaluation, Row

QUOTED: Final = "†"
UNDEFINED: Final = "–"
# Words in the name of a metric that say which end of it is the good one; others have no best value.
_LOWER = ("ece", "calibration error", "brier", "loss", "asymmetry", "seconds", "latency", "p50", "p99", " ms")
_HIGHER = (
    *("accuracy", "f1", "auc", "average precision", "spearman", "pearson", "precision", "recall", "score"),
    *("/s", "per second", "speed-up"),
)
_NEITHER = ("threshold", "majority", "share", "±", "deviation")


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a table.

    Args:
        text: what it says; a line break stands before an interval.
        number: whether it is a number, to be set flush right.
        best: whether it is the best computed value of its column.
    """

    text: str
    number: bool = False
    best: bool = False

    @property
    def parts(self) -> tuple[str, str]:
        """The value, and the interval below it or ""."""
        value, _, below = self.text.partition("\n")
        return value, below


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Args:
        title: above it; "" where the evaluation's own title says it all.
        columns: headings.
        rows: as many cells as there are columns.
        quoted: for each row, whether its numbers were published elsewhere.
        notes: sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    quoted: tuple[bool, ...]
    notes: tuple[str, ...] = field(default=())


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the tables of an evaluation.

    With the layout "sets across" one table per metric in `across`, data sets as columns and averages behind them; where
    rows have a score "majority", the table of the accuracy ends with it. With "one per row" one table for each `table`
    that rows name, a metric a column. Best values are marked among computed rows, never among quoted ones; those are
    marked with † and their sources named below.
    """
    if not evaluation.rows:
        return []
    if evaluation.layout == "one per row":
        titles = dict.fromkeys(row.table for row in evaluation.rows)
        return [
            _one_per_row(title, [row for row in evaluation.rows if row.table == title]) for title in titles
        ]
    scored = _metrics(evaluation.rows)  # a cosine has no accuracy: no table of the majority class alone
    return [_across(evaluation, metric) for metric in evaluation.across or scored if metric in scored]


def data_table(evaluation: Evaluation) -> Table | None:
    """Return the scored files: rows and SHA-256 of each set; None where no row names a hash."""
    facts: dict[tuple[str, int | None, str], None] = {}
    for row in evaluation.rows:
        if row.data_sha256:
            facts[row.data, row.n, row.data_sha256] = None
    if not facts:
        return None
    rows = tuple((Cell(name), Cell(number(n), number=True), Cell(sha)) for name, n, sha in facts)
    return Table("Scored files", ("set", "rows", "SHA-256"), rows, (False,) * len(rows))


def number(value: float | None) -> str:
    """Return a number as the tables show it: counts in groups of three, scores with two decimals."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return UNDEFINED
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}"


def _one_per_row(title: str, rows: Sequence[Row]) -> Table:
    names = _metrics(rows)
    sources = _sources(rows)
    counted = any(row.n is not None for row in rows)
    described = any(row.protocol for row in rows)
    best = {name: _best(rows, name) for name in names}
    cells = []
    for row in rows:
        line = [Cell(row.data), Cell(_system(row, sources))]
        line += [Cell(row.protocol)] * described
        line += [Cell(number(row.n), number=True)] * counted
        line += [_score(row, name, best[name][row.data]) for name in names]
        cells.append(tuple(line))
    heads = ("set", "system", *["protocol"] * described, *["n"] * counted, *names)
    notes = _notes(rows, sources, names)
    return Table(title, heads, tuple(cells), tuple(bool(row.quoted) for row in rows), notes)


@dataclass(slots=True)
class _Line:
    """Rows of one system under one protocol, by data set."""

    system: str
    protocol: str
    quoted: bool
    rows: dict[str, Row] = field(default_factory=dict)

    def mean(self, wanted: Sequence[str], metric: str) -> float | None:
        """Mean over the wanted sets, if all of them are there."""
        if not wanted or not all(name in self.rows for name in wanted):
            return None
        return sum(self.rows[name].scores[metric] for name in wanted) / len(wanted)


def _across(evaluation: Evaluation, metric: str) -> Table:
    rows = [row for row in evaluation.rows if metric in row.scores]
    sources = _sources(rows)
    sets = list(dict.fromkeys(row.data for row in rows))
    lines = _lines(rows, sources)
    best = _best(rows, metric)
    averages = evaluation.averages
    means = {heading: [line.mean(wanted, metric) for line in lines] for heading, wanted in averages.items()}
    tops = {heading: _top(_computed(lines, found), metric) for heading, found in means.items()}
    cells = []
    for place, line in enumerate(lines):
        scores = [
            _score(line.rows[name], metric, best[name]) if name in line.rows else Cell("", number=True)
            for name in sets
        ]
        for heading in averages:
            mean, top = means[heading][place], tops[heading]
            marked = not line.quoted and top is not None and mean == top
            scores.append(Cell(number(mean), number=True, best=marked))
        cells.append((Cell(line.system), Cell(line.protocol), *scores))
    quoted = [line.quoted for line in lines]
    majority = _majority(evaluation, sets, metric)
    if majority:
        cells.append((Cell("majority class"), Cell(""), *majority))
        quoted.append(False)
    heads = ("system", "protocol", *(_heading(name, rows) for name in sets), *averages)
    return Table(metric, heads, tuple(cells), tuple(quoted), _notes(rows, sources, [metric]))


def _lines(rows: Iterable[Row], sources: Mapping[str, str]) -> list[_Line]:
    lines: list[_Line] = []
    for row in rows:
        system, quoted = _system(row, sources), bool(row.quoted)
        same = (
            line
            for line in lines
            if (line.system, line.protocol, line.quoted) == (system, row.protocol, quoted)
            and row.data not in line.rows  # two seeds, say: no row takes another's place
        )
        line = next(same, None)
        if line is None:
            line = _Line(system, row.protocol, quoted)
            lines.append(line)
        line.rows[row.data] = row
    return lines


def _computed(lines: Sequence[_Line], values: Sequence[float | None]) -> list[float]:
    pairs = zip(lines, values, strict=True)
    return [value for line, value in pairs if value is not None and not line.quoted and math.isfinite(value)]


def _best(rows: Iterable[Row], metric: str) -> dict[str, float | None]:
    """The best computed value of each data set, None where there is none to mark."""
    values: dict[str, list[float]] = {}
    for row in rows:
        found = values.setdefault(row.data, [])
        compared = not row.quoted and row.settings.get("compared", True)
        if compared and math.isfinite(row.scores.get(metric, math.nan)):
            found.append(row.scores[metric])
    return {name: _top(found, metric) for name, found in values.items()}


def _top(values: Sequence[float], metric: str) -> float | None:
    """The best of at least two values that differ; None where the metric has no good end."""
    name = f" {metric.lower()}"
    if len(set(values)) < 2 or any(word in name for word in _NEITHER):
        return None
    if any(word in name for word in _LOWER):
        return min(values)
    return max(values) if any(word in name for word in _HIGHER) else None


def _score(row: Row, metric: str, top: float | None) -> Cell:
    if metric not in row.scores:
        return Cell("", number=True)
    value = row.scores[metric]
    text = number(value)
    if metric in row.deviations:
        text += f" ±{number(row.deviations[metric])}"
    if metric in row.intervals:
        low, high = row.intervals[metric]
        text += f"\n{_end(low)} to {_end(high)}"
    return Cell(text, number=True, best=not row.quoted and top is not None and value == top)


def _end(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1 else number(value)


def _majority(evaluation: Evaluation, sets: Sequence[str], metric: str) -> list[Cell]:
    found = {row.data: row.scores["majority"] for row in evaluation.rows if "majority" in row.scores}
    if metric.lower() != "accuracy" or not found:
        return []
    values: list[float | None] = [found.get(name) for name in sets]
    for wanted in evaluation.averages.values():
        there = [found[name] for name in wanted if name in found]
        values.append(sum(there) / len(there) if there and len(there) == len(wanted) else None)
    return [Cell(number(value), number=True) for value in values]


def _metrics(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def _heading(name: str, rows: Iterable[Row]) -> str:
    counts = {row.n for row in rows if row.data == name and not row.quoted and row.n is not None}
    return f"{name}\nn={counts.pop():,}" if len(counts) == 1 else name


def _sources(rows: Iterable[Row]) -> dict[str, str]:
    """The mark of each source of quoted numbers."""
    named = dict.fromkeys(row.quoted for row in rows if row.quoted)
    if len(named) == 1:
        return {source: QUOTED for source in named}
    return {source: f"{QUOTED}{place}" for place, source in enumerate(named, start=1)}


def _system(row: Row, sources: Mapping[str, str]) -> str:
    return f"{row.system} {sources[row.quoted]}" if row.quoted else row.system


def _notes(rows: Sequence[Row], sources: Mapping[str, str], metrics: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if any(metric in row.deviations for row in rows for metric in metrics):
        notes.append("±: standard deviation over folds or seeds, of which the score is the mean.")
    if any(metric in row.intervals for row in rows for metric in metrics):
        kind = next((row.settings["interval"] for row in rows if "interval" in row.settings), "bootstrap")
        notes.append(f"Below a score: its 95% {kind} interval over the rows of the set.")
    return (*notes, *(f"{mark} quoted, not computed here: {source}" for source, mark in sources.items()))
