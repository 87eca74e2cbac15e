"""Which columns of a file hold text and labels: by their usual names, by place, or as given."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from jinyi.errors import InputError, shorten
from jinyi.files.labels import label_number

TEXT_COLUMNS = ("text", "sentence", "content", "query", "title", "question")
"""Usual names of a column of single texts, first match wins."""

PAIR_COLUMNS = (
    ("texta", "textb"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sentence", "sentence2"),
    ("question1", "question2"),
    ("query", "title"),
    ("query", "document"),
    ("premise", "hypothesis"),
)
"""Usual names of the two columns of a pair, first match wins."""

LABEL_COLUMNS = ("label", "score")
"""Usual names of a column of labels or gold scores."""

NAME_THEM = "Name the columns (--column, --columns; `columns` in a recipe), or rename them in the file"
"""What to do about columns that are not found."""

KNOWN = {*TEXT_COLUMNS, *LABEL_COLUMNS, *(name for pair in PAIR_COLUMNS for name in pair)}


def label_column_of(row: Mapping[str, object], name: str | None, where: str) -> str | None:
    """Return the column of the label: the one named, the third of three without names, or None."""
    if name is not None and name not in row:
        raise _missing(row, name, where)
    if name is None and _by_place(row) and len(row) == 3:
        return "3"
    return name or next((usual for usual in LABEL_COLUMNS if usual in row), None)


class LabelReader:
    """Labels of one file, without blanks around them: "体育 " and "体育" would be two classes.

    The first one changed is told by a UserWarning.
    """

    def __init__(self) -> None:
        self._told = False

    def read(self, row: Mapping[str, object], name: str | None, where: str) -> object:
        """Return the label of a row, None without one."""
        label = row.get(name) if name else None
        if not isinstance(label, str) or label == label.strip():
            return label
        if not self._told:
            self._told = True
            message = f"{where}: the blanks around {shorten(label)} are left out, as those of other labels of this file"
            warnings.warn(message, stacklevel=3)
        return label.strip()


def text_column(row: Mapping[str, object], where: str) -> str:
    """Return the column of the text."""
    if list(row) == ["1"]:
        return "1"
    name = next((usual for usual in TEXT_COLUMNS if usual in row), None)
    if name is None:
        raise _missing(row, f"one of {', '.join(TEXT_COLUMNS)}", where)
    return name


def pair_columns(row: Mapping[str, object], where: str) -> tuple[str, str]:
    """Return the two columns of the pair; by place only where it is sure that there are two texts before a label."""
    for pair in PAIR_COLUMNS:
        if pair[0] in row and pair[1] in row:
            return pair
    if _by_place(row) and (len(row) == 2 or (len(row) == 3 and not _number_first(row))):
        return ("1", "2")
    names = " or ".join("/".join(pair) for pair in PAIR_COLUMNS[:5])
    raise _missing(row, f"{names}; or, without a header, two texts and perhaps a label behind them", where)


def cell_of(row: Mapping[str, object], name: str, where: str) -> object:
    """Return a cell; InputError where the row lacks the column."""
    if name not in row:
        raise _missing(row, name, where)
    return row[name]


def _by_place(row: Mapping[str, object]) -> bool:
    """Whether the columns have no names but their places: those of a table without a header."""
    return bool(row) and list(row) == [str(place) for place in range(1, len(row) + 1)]


def _number_first(row: Mapping[str, object]) -> bool:
    """Whether three columns begin with a number and do not end with one: an id or a label, then the two texts."""
    return label_number(row["1"]) is not None and label_number(row["3"]) is None


def _missing(row: Mapping[str, object], expected: str, where: str) -> InputError:
    found, fix = f"columns {', '.join(map(str, row)) or '(none)'}", NAME_THEM
    if _by_place(row):
        found += f" without a header that is known, which hold {cells_shown(row.values())}"
        fix += "; without a header they are called 1, 2, ..."
    return InputError(found=found, expected=f"column {expected}", fix=f"{fix}.", where=where)


def cells_shown(cells: Iterable[object]) -> str:
    """Return the first cells of a row for a message."""
    shown = [shorten(cell, 20) for cell in cells]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
