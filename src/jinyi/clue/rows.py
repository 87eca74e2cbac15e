"""One file of a submission, row by row: what a board would stumble over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinyi.clue.tasks import ClueTask, Id
from jinyi.errors import shorten

_BESIDE: Final = ("label_desc", "label_des")
"""Keys that CLUE's baselines write beside the label; the board reads past them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a submission.

    Args:
        member: the file it is in; the name of the zip for faults of the zip itself.
        kind: what is wrong, in one or two words.
        message: what was found and what was expected.
        lines: where, from 1; empty for faults of the whole file.
    """

    member: str
    kind: str
    message: str
    lines: tuple[int, ...] = ()


_NOTHING: Final = object()


class _DoubledKey(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _DoubledKey
    return row


class MemberCheck:
    """Collects the faults of one file; equal faults of many lines become one finding."""

    def __init__(self, member: str, task: ClueTask) -> None:
        self.member = member
        self.task = task
        self.ids: list[tuple[int, Id]] = []
        self.rows = 0
        # By kind, what was found and what was expected: the lines, and the values met there.
        self._found: dict[tuple[str, str, str], tuple[list[int], dict[str, None]]] = {}

    def add(
        self, kind: str, found: str, expected: str = "", lines: Iterable[int] = (), value: object = _NOTHING
    ) -> None:
        """Write down a fault.

        Args:
            kind: as of a `Finding`.
            found: in words, without the value.
            expected: in words.
            lines: where.
            value: what stood there, for the message.
        """
        places, values = self._found.setdefault((kind, found, expected), ([], {}))
        places.extend(lines)
        if value is not _NOTHING:
            values[shorten(value)] = None

    def findings(self) -> list[Finding]:
        """Return what was found, in the order of its first meeting."""
        made = []
        for (kind, found, expected), (places, values) in self._found.items():
            some = ", ".join(list(values)[:5]) + (", ..." if len(values) > 5 else "")
            message = found + (f": {some}" if values else "") + (f"; expected {expected}" if expected else "")
            made.append(Finding(self.member, kind, message, tuple(places)))
        return made

    def read(self, raw: bytes) -> None:
        """Check bytes, lines, keys, labels and the type of ids."""
        if raw.startswith(b"\xef\xbb\xbf"):
            self.add("byte order mark", "a byte order mark at the beginning", "plain UTF-8")
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as fault:
            line = raw.count(b"\n", 0, fault.start) + 1
            self.add("encoding", "bytes that are no UTF-8", lines=[line])
            return
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        if not lines:
            self.add("missing", "an empty file")
            return
        for number, row in enumerate(lines, 1):
            self._row(number, row)

    def _row(self, number: int, line: str) -> None:
        if not line.strip():
            self.add("blank line", "lines without a row", lines=[number])
            return
        try:
            row = json.loads(line, object_pairs_hook=_pairs)
        except _DoubledKey:
            self.add("keys", "a key twice in one row", lines=[number])
            return
        except (ValueError, RecursionError):
            self.add("no JSON", "lines that are no JSON object", lines=[number])
            return
        if not isinstance(row, dict):
            what = "a JSON list" if isinstance(row, list) else "a JSON value"
            self.add("no JSON", what, "one object a line", [number])
            return
        self.rows += 1
        answer = self.task.answer
        for key in ("id", answer):
            if key not in row:
                self.add("keys", f'rows without "{key}"', lines=[number])
        for key in row:
            if key not in ("id", answer, *_BESIDE):
                self.add("keys", "other keys", f'"id" and "{answer}"', [number], key)
        if answer in row:
            self._label(number, row[answer])
        if "id" in row:
            self._id(number, row["id"])

    def _label(self, number: int, label: object) -> None:
        task = self.task
        kind: type = int if task.answer == "answer" else str
        if type(label) is not kind:
            expected = "a whole number" if kind is int else 'a string, as "0"'
            self.add("label type", f"{task.answer}s of the wrong type", expected, [number], label)
        elif str(label) not in task.labels:
            domain = f"one of {shorten(list(task.labels), 60)}"
            self.add("label", f"{task.answer}s that the task does not have", domain, [number], label)

    def _id(self, number: int, value: object) -> None:
        if type(value) is int or type(value) is str:
            self.ids.append((number, value))
        else:
            self.add("id type", "ids of the wrong type", self._named(self.task.id_type), [number], value)

    @staticmethod
    def _named(kind: type) -> str:
        return 'a string, as "0"' if kind is str else "a whole number, as 0"

    def compare(self, expected: Sequence[Id] | None, rows: int | None) -> None:
        """Check ids against those of the test file, or without it their type, doubles and number.

        Args:
            expected: ids of the test file in its order; None if it is not there.
            rows: how many rows the official test file has.
        """
        kind = type(expected[0]) if expected else self.task.id_type
        wrong = False
        for number, value in self.ids:
            if type(value) is not kind:
                wrong = True
                self.add("id type", "ids of the wrong type", self._named(kind), [number], value)
        seen: set[Id] = set()
        doubled = False
        for number, value in self.ids:
            if value in seen:
                doubled = True
                self.add("doubled", "ids a second time", lines=[number], value=value)
            seen.add(value)
        if expected is None:
            if rows is not None and self.rows != rows:
                official = f"{rows:,} as the official test file has (give --data for another one)"
                self.add("rows", f"{self.rows:,} rows", official)
            return
        if wrong:  # every comparison below would only say it again
            return
        known = set(expected)
        strange = False
        for number, value in self.ids:
            if value not in known:
                strange = True
                self.add("unknown id", "ids that the test file does not have", lines=[number], value=value)
        missing = [value for value in expected if value not in seen]
        for value in missing:
            self.add("missing", f"no row for {len(missing):,} of the {len(expected):,} ids", value=value)
        if not (strange or missing or doubled) and len(self.ids) == len(expected):
            moved = [
                number for (number, value), right in zip(self.ids, expected, strict=True) if value != right
            ]
            if moved:
                self.add(
                    "order",
                    "rows in another order",
                    "that of the test file: the board compares by row",
                    moved,
                )
