"""Numbers to findings: what is said about a file, its labels, and what files share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jinyi.evals.datacheck.findings import Draft, listed, some
from jinyi.evals.datacheck.shared import Overlap, SharedPair

if TYPE_CHECKING:
    from jinyi.evals.datacheck.check import FileReport

FEW_ROWS = 5
"""A label with fewer rows than this is told."""
ONE_SIDED = 0.9
"""A share of one label above this is told."""
SHOWN_ROWS = 4
_NAMED = 6


def describe_file(place: int, report: FileReport, examples: int) -> Iterator[Draft]:
    """Yield what is to be said about one file."""
    table, name = report.table, (report.file.name,)
    if table.unreadable:
        line, reason = table.unreadable[0]
        yield Draft(
            "unreadable",
            True,
            name,
            len(table.unreadable),
            f"{some(len(table.unreadable), 'row')} without a text to read, such as line {line}: {reason}",
        )
    if table.columns == ("1", "2") and table.label_column is None and not table.named:
        message = (
            "two columns without names are read as the texts of a pair; where the second holds labels, say so"
        )
        yield Draft("columns", False, name, report.rows, f"{message} (--columns 1 --label-column 2)")
    repeats, conflicts = report.repeats, report.conflicts
    if repeats.alike:
        parts = listed(
            [
                (repeats.written, "as written"),
                (
                    repeats.same - repeats.written,
                    "swapped or with other blanks" if table.width == 2 else "blanks aside",
                ),
                (repeats.alike - repeats.same, "with other width, case or punctuation"),
            ]
        )
        shown = [[(place, row) for row in group[:SHOWN_ROWS]] for group in repeats.examples]
        message = (
            f"{some(repeats.alike, 'row')} that repeat{'s' * (repeats.alike == 1)} an earlier one: {parts}"
        )
        yield Draft("repeated", True, name, repeats.alike, message, shown)
    if conflicts.alike:
        more = conflicts.alike - conflicts.same
        unit = "pair" if table.width == 2 else "text"
        message = f"{some(conflicts.same, unit)} ({some(conflicts.rows, 'row')}) with several labels"
        if not conflicts.same:
            message = f"{some(more, unit)} with several labels, alike but for width, case and punctuation"
        elif more:
            message += f", and {more:,} more alike but for width, case and punctuation"
        shown = [[(place, row) for row in _of_each_label(report, group)] for group in conflicts.examples]
        yield Draft("conflict", True, name, conflicts.alike, message, shown)
    if len(report.equal):
        shown = [[(place, row)] for row in report.equal[:examples].tolist()]
        message = f"{some(len(report.equal), 'pair')} of twice the same text{_labels_of(report)}"
        yield Draft("equal texts", False, name, len(report.equal), message, shown)
    yield from _describe_tokens(place, report, examples)


def describe_labels(reports: Sequence[FileReport]) -> Iterator[Draft]:
    """Yield what is to be said about labels: unbalanced ones, and those that training does not have."""
    for report in reports:
        labels, name = report.labels, (report.file.name,)
        if not labels:
            continue
        missing = int((report.table.labels < 0).sum())
        if missing:
            yield Draft(
                "label", True, name, missing, f"{some(missing, 'row')} without a label, others have one"
            )
        total = labels.total()
        top, most = labels.most_common(1)[0]
        if most > ONE_SIDED * total:
            message = f"{most / total:.1%} of the rows have the label {top}: always saying it scores as much"
            yield Draft("balance", False, name, most, message)
        if report.table.graded:
            continue
        few = [label for label, count in labels.items() if count < FEW_ROWS]
        if few:
            message = f"{some(len(few), 'label')} with fewer than {FEW_ROWS} rows each: {_names(few)}"
            yield Draft("balance", False, name, len(few), message)
    for report in reports:
        trained = {
            label
            for other in reports
            if other.file.set == report.file.set and other.file.role == "train"
            for label in other.labels
        }
        lacking = [label for label in report.labels if label not in trained]
        if report.file.role == "evaluated" and trained and lacking and not report.table.graded:
            message = f"{some(len(lacking), 'label')} that no training file of the set has: {_names(lacking)}"
            yield Draft("label", True, (report.file.name,), len(lacking), message)


def describe_shared(
    reports: Sequence[FileReport], rows: Sequence[SharedPair], sentences: Sequence[SharedPair]
) -> Iterator[Draft]:
    """Yield what is to be said about rows and sentences in several files."""
    for pair in rows:
        first, second = reports[pair.first], reports[pair.second]
        roles = {first.file.role, second.file.role}
        problem = "unlabelled" not in roles and roles != {"train"}
        shares = f"{_share(pair.alike.first, first)}, {_share(pair.alike.second, second)}"
        message = f"in both: {_amount(pair, 'row')} ({shares})"
        if first.labels and second.labels and not first.labels.keys() & second.labels.keys():
            message += "; labels of another kind"
        elif pair.alike.differing:
            message += f"; {pair.alike.differing:,} with other labels"
        yield Draft("shared", problem, _files(reports, pair), pair.alike.distinct, message, _both(pair))
    for pair in sentences:
        message = f"in both: {_amount(pair, 'single sentence')}"
        yield Draft("sentences", False, _files(reports, pair), pair.alike.distinct, message, _both(pair))


def _describe_tokens(place: int, report: FileReport, examples: int) -> Iterator[Draft]:
    tokens, name = report.tokens, (report.file.name,)
    if tokens is None:
        return
    cut = tokens.cut
    if len(cut):
        message = (
            f"{some(len(cut), 'row')} ({len(cut) / report.rows:.1%}) longer than the {tokens.reader.limit} tokens that "
            f"{tokens.reader.name} reads; the longest has {max(tokens.lengths):,}"
        )
        shown = [[(place, row)] for row in cut[:examples].tolist()]
        yield Draft("cut", False, name, len(cut), message, shown)
    if tokens.unknown:
        kinds = len(tokens.missing)
        met = " ".join(f"{word} ({count:,})" for word, count in tokens.missing.most_common(_NAMED))
        message = (
            f"{tokens.unknown_rate:.2%} of the tokens are unknown to {tokens.reader.name}: "
            f"{kinds:,} {'characters or words' if kinds > 1 else 'character or word'}, most often {met}"
        )
        yield Draft("unknown", False, name, tokens.unknown, message)


def _of_each_label(report: FileReport, group: Sequence[int]) -> list[int]:
    """The first row of each label of a group."""
    _, places = np.unique(report.table.labels[list(group)], return_index=True)
    return [group[place] for place in sorted(places.tolist())][:SHOWN_ROWS]


def _labels_of(report: FileReport) -> str:
    """ ", labelled 1: 12, 0: 3" of the pairs of equal texts."""
    labels = report.table.labels[report.equal]
    if not (labels >= 0).any():
        return ""
    values, counts = np.unique(labels[labels >= 0], return_counts=True)
    names = report.label_names
    return ", labelled " + ", ".join(
        f"{names[value]}: {count:,}" for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    )


def _amount(pair: SharedPair, what: str) -> str:
    def counted(overlap: Overlap) -> str:
        return some(overlap.distinct, what)

    more = pair.alike.distinct - pair.same.distinct
    if not pair.same.distinct:
        return f"{counted(pair.alike)}, alike but for width, case and punctuation"
    return counted(pair.same) + (
        f" and {more:,} alike but for width, case and punctuation" if more > 0 else ""
    )


def _share(rows: int, report: FileReport) -> str:
    share = rows / report.rows
    return f"{'under 0.1%' if share < 0.001 else f'{share:.1%}'} of {report.file.name}"


def _files(reports: Sequence[FileReport], pair: SharedPair) -> tuple[str, str]:
    return reports[pair.first].file.name, reports[pair.second].file.name


def _both(pair: SharedPair) -> list[list[tuple[int, int]]]:
    return [[(pair.first, first), (pair.second, second)] for first, second in pair.examples]


def _names(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_NAMED]) + (" and others" if len(labels) > _NAMED else "")
