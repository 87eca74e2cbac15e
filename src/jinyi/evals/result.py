"""What an evaluation comes to: rows of scores that carry their protocol, figures as data, notes.

Evaluators make an `Evaluation`; `jinyi.evals.report` prints, saves and draws it. Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FigureKind = Literal["histogram", "reliability", "confusion", "curve", "map", "bars"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One system on one data set under one protocol.

    Args:
        data: name of the data set.
        system: name of the model or the baseline.
        protocol: how the system was used, in words that tell two rows of one table apart ("[CLS], whitening fitted on
            train, k=256").
        scores: by metric, as printed; correlations and shares x100.
        n: rows scored.
        intervals: 95% bootstrap intervals by metric, in the unit of the score.
        deviations: standard deviations over folds or seeds by metric, in the unit of the score, which then is the mean;
            of the sample (n - 1).
        settings: what a program wants to read off: model folder, pooling, prompt, whitening, fold, precision, ...
        data_sha256: of the scored file.
        seed: of the run, where chance plays a part.
        quoted: where the numbers were published, for rows that were not computed here; such rows have neither
            intervals nor a hash, and every report marks them.
        table: title of the table it stands in, where the layout "one per row" needs several.
    """

    data: str
    system: str
    protocol: str
    scores: Mapping[str, float]
    n: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str | None = None
    seed: int | None = None
    quoted: str | None = None
    table: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something to draw, as numbers.

    `values` by kind:

    - "histogram": {"groups": {label: [scores]}, "unit": x label, "lines": {name: x}}
    - "reliability": {"curves": {name: {"predicted": [bins], "observed": [bins], "count": [bins]}}}
    - "confusion": {"labels": [names], "counts": [[rows: true, columns: predicted]]}
    - "curve": {"lines": {name: {"x": [...], "y": [...]}}, "x": label, "y": label}
    - "map": {"panels": {title: {"points": [[x, y]], "groups": [group of each point]}}}
    - "bars": {"bars": {name: value}, "unit": label}
    """

    kind: FigureKind
    title: str
    values: Mapping[str, Any]
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row worth reading, as a rule one that the model gets wrong.

    Args:
        data: name of the data set.
        texts: what the model read, by name ("text", or "a" and "b").
        expected: the label, in words.
        found: what the model said, in words.
        score: how sure it was, from 0 to 1, or None.
        place: file and line.
    """

    data: str
    texts: Mapping[str, str]
    expected: str
    found: str
    score: float | None = None
    place: str = ""


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """A whole evaluation.

    Args:
        title: heading of the report.
        kind: "sts", "pairs", "topics", "clue", "speed", "calibration" or "data".
        rows: in the order of the tables; a report makes one table per `kind` with a column for each data set, or a row
            for each of them, as `layout` says.
        layout: "sets across" (rows are systems and protocols, columns data sets, one table per metric in `across`) or
            "one per row" (every row on a line of its own, all metrics as columns).
        across: metrics that get a table of their own with data sets across.
        averages: sets that are averaged in a last column, by its heading; only rows that have all of them get a value.
        figures: to draw.
        examples: rows worth reading.
        notes: sentences below the tables: protocols, warnings, what was left out.
        command: the command line that made it.
        version: of jinyi.
        machine: processor, cores, runtime versions.
    """

    title: str
    kind: str
    rows: list[Row] = field(default_factory=list)
    layout: Literal["sets across", "one per row"] = "one per row"
    across: tuple[str, ...] = ()
    averages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    version: str = ""
    machine: str = ""
