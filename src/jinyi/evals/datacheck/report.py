"""A check as an `Evaluation`, for the report, and as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from jinyi.evals.datacheck.check import DataCheck, FileReport
from jinyi.evals.datacheck.findings import Finding
from jinyi.evals.datacheck.shared import Overlap, SharedPair
from jinyi.evals.result import Evaluation, Example, Figure, Row

_DRAWN = 5000  # lengths of a file that a figure shows, evenly spaced in the sorted file
_BARS = 30
_KEPT_MISSING = 100


def as_evaluation(check: DataCheck) -> Evaluation:
    """Return a check as an evaluation of kind "data": a row a file, findings as notes, what shows them as examples."""
    figures = [_lengths(check), *_labels(check)]
    if check.sets:
        bars = {" + ".join(one.sets): one.same for one in check.sets}
        title = "Distinct rows in several sets"
        caption = "Compared without white space, pairs in either order. Each row counts for one combination."
        figures.insert(0, Figure(kind="bars", title=title, values=_bars(bars, "rows"), caption=caption))
    return Evaluation(
        title="Data check",
        kind="data",
        rows=[_row(report) for report in check.files],
        figures=figures,
        examples=[example for finding in check.findings for example in _examples(finding)],
        notes=[sentence(finding) for finding in check.findings] or ["Nothing found."],
    )


def sentence(finding: Finding) -> str:
    """Return a finding as one sentence: "problem: afqmc/train: 2 rows that ..."."""
    return f"{'problem' if finding.problem else 'note'}: {' and '.join(finding.files)}: {finding.message}."


def as_dict(check: DataCheck) -> dict[str, Any]:
    """Return a check as JSON values."""

    def overlap(one: Overlap) -> dict[str, int]:
        return {
            "distinct": one.distinct,
            "first": one.first,
            "second": one.second,
            "other_label": one.differing,
        }

    def pair(one: SharedPair) -> dict[str, Any]:
        names = [check.files[place].file.name for place in (one.first, one.second)]
        return {"files": names, "same": overlap(one.same), "alike": overlap(one.alike)}

    return {
        "files": [_file(report) for report in check.files],
        "shared_rows": [pair(one) for one in check.shared],
        "shared_sentences": [pair(one) for one in check.sentences],
        "sets": [
            {
                "sets": list(one.sets),
                "same": {"distinct": one.same, "other_label": one.same_differing},
                "alike": {"distinct": one.alike, "other_label": one.alike_differing},
            }
            for one in check.sets
        ],
        "findings": [_finding(finding) for finding in check.findings],
        "problems": len(check.problems),
    }


def quantiles(report: FileReport) -> tuple[int, int, int]:
    """Return median, 95% quantile and maximum of the characters of a file's rows."""
    values = np.quantile(report.table.characters, [0.5, 0.95, 1])
    return int(values[0]), int(values[1]), int(values[2])


def _file(report: FileReport) -> dict[str, Any]:
    table, tokens = report.table, report.tokens
    found: dict[str, Any] = {
        "name": report.file.name,
        "path": str(report.file.path),
        "sha256": table.sha256,
        "columns": list(table.columns),
        "label_column": table.label_column,
        "rows": report.rows,
        "unreadable": len(table.unreadable),
        "repeated": {name: getattr(report.repeats, name) for name in ("written", "same", "alike")},
        "conflicts": {name: getattr(report.conflicts, name) for name in ("same", "rows", "alike")},
        "equal_texts": len(report.equal),
        "labels": dict(report.labels),
        "characters": dict(zip(("median", "p95", "longest"), quantiles(report), strict=True)),
    }
    if tokens is not None:
        lengths = np.frombuffer(tokens.lengths, np.int32)
        found["tokens"] = {
            "model": tokens.reader.name,
            "limit": tokens.reader.limit,
            "median": int(np.quantile(lengths, 0.5)),
            "p95": int(np.quantile(lengths, 0.95)),
            "longest": int(lengths.max()),
            "cut": len(tokens.cut),
            "unknown_rate": tokens.unknown_rate,
            "unknown": dict(tokens.missing.most_common(_KEPT_MISSING)),
        }
    return found


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "problem": finding.problem,
        "files": list(finding.files),
        "count": finding.count,
        "message": finding.message,
        "examples": [
            [{"where": place.where, "texts": list(place.texts), "label": place.label} for place in group]
            for group in finding.examples
        ],
    }


def _row(report: FileReport) -> Row:
    median, most, longest = quantiles(report)
    scores: dict[str, float] = {
        "unreadable": len(report.table.unreadable),
        "repeated": report.repeats.alike,
        "conflicts": report.conflicts.alike,
        "labels": len(report.labels),
    }
    if report.labels:
        scores["most frequent label, %"] = 100 * max(report.labels.values()) / report.labels.total()
    scores |= {"characters, median": median, "95%": most, "longest": longest}
    if report.tokens is not None:
        scores |= {"cut": len(report.tokens.cut), "unknown tokens, %": 100 * report.tokens.unknown_rate}
    return Row(
        data=report.file.name,
        system=" / ".join(report.table.columns),
        protocol="",
        scores=scores,
        n=report.rows,
        settings={
            "path": str(report.file.path),
            "label_column": report.table.label_column,
            "model": None if report.tokens is None else report.tokens.reader.name,
        },
        data_sha256=report.table.sha256,
    )


def _lengths(check: DataCheck) -> Figure:
    groups = {}
    for report in check.files:
        ordered = np.sort(report.table.characters)
        places = np.linspace(0, len(ordered) - 1, min(_DRAWN, len(ordered))).round().astype(np.int64)
        groups[report.file.name] = ordered[places].tolist()
    return Figure(
        kind="histogram",
        title="Characters of a row",
        values={"groups": groups, "unit": "characters", "lines": {}},
        caption=f"All texts of a row together; of files with more rows, {_DRAWN:,} evenly spaced by length.",
    )


def _labels(check: DataCheck) -> list[Figure]:
    return [
        Figure(
            kind="bars",
            title=f"Labels of {report.file.name}",
            values=_bars(dict(report.labels.most_common(_BARS)), "rows"),
            caption=f"The {_BARS} most frequent of {len(report.labels)}."
            if len(report.labels) > _BARS
            else "",
        )
        for report in check.files
        if report.labels
    ]


def _bars(bars: dict[str, int], unit: str) -> dict[str, Any]:
    return {"bars": bars, "unit": unit}


def _examples(finding: Finding) -> list[Example]:
    return [
        Example(
            data=" and ".join(finding.files),
            texts={
                place.short + (f", label {place.label}" if place.label is not None else ""): " | ".join(
                    place.texts
                )
                for place in group
            },
            expected="",
            found=f"{finding.kind}: {finding.message}",
            place=group[0].where,
        )
        for group in finding.examples
    ]
