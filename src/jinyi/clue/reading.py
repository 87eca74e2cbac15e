"""CLUE's files as records: a text or a pair, a label, an id.

    train = read_split(task_by_name("afqmc"), "data", "train")
    for record in train.records: record.a, record.b, record.label

A file is read whole: as many rows as CMNLI's 391,783 for training take 0.4 GB while they are read, 0.2 GB afterwards.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from jinyi.clue.forms import json_lines, texts_of
from jinyi.clue.places import Place, find_place, search_place
from jinyi.clue.tasks import UNLABELLED, ClueTask, Id, Version
from jinyi.errors import InputError, shorten

_OPEN = "-"
"""NLI's mark for rows on which the annotators did not agree."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row.

    Args:
        a: the text; for CSL the keywords joined by a blank, for WSC the text with _span1_ and [span2] marked.
        b: the second text of a pair; None for one text.
        label: as the board has it; None where the split has none.
        id: from the file, int or str as it stands there; None if the file has none. In "test" never None.
        line: of the file, from 1.
        options: the seven idioms of ChID.
    """

    a: str
    b: str | None
    label: str | None
    id: Id | None
    line: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One split of a task.

    Args:
        task: whose.
        name: "train", "dev", "test", "train_0", ...
        records: in the order of the file.
        source: the file, "data/afqmc_public.zip!train.json".
        dropped: rows left out because they have the label "-".
        numbered: whether the file has no ids, so that rows are numbered from 0.
        sha256: of the file's unpacked bytes.
        notes: what a reader of the results should know of this file.
    """

    task: ClueTask
    name: str
    records: tuple[Record, ...]
    source: str
    dropped: int
    numbered: bool
    sha256: str
    notes: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether scores may be computed on it."""
        return self.name not in UNLABELLED


def splits_there(task: ClueTask, data: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the splits of a task that `data` has a file for.

    Raises:
        InputError: no such folder or zip, or a damaged zip.
    """
    place = search_place(task, data)
    if place is None:
        return ()
    return tuple(split for split in task.splits if place.find(task.files(split)) is not None)


def read_split(
    task: ClueTask, data: str | os.PathLike[str], split: str, *, version: Version = "1.1"
) -> Split:
    """Read one split of a task.

    Labels of "test" and "unlabeled" are not read even if the file has some: copies of CLUE go round with a made-up
    label in every test row. Rows of NLI with the label "-" are left out of labelled splits and counted.

    Args:
        task: see `task_by_name`.
        data: folder or zip, as for `find_place`.
        split: one of `task.splits`.
        version: of the board; TNEWS and WSC have two test files.

    Raises:
        InputError: no such file, a damaged one, a row that is not as it should be; names file and line.
    """
    place = find_place(task, data)
    names = task.files(split, version)
    name = place.find(names)
    if name is None:
        raise InputError(
            found=f"{', '.join(sorted(place.names)[:8]) or 'nothing'}",
            expected=f"{' or '.join(names)}",
            fix="Put the file there, or give another --data.",
            where=f"{place.where('')}, task {task.name}, {split}",
        )
    raw = place.read(name)
    where = place.where(name)
    labelled = split not in UNLABELLED
    records: list[Record] = []
    dropped = 0
    for line, row in json_lines(raw, where):
        at = f"{where}:{line}"
        label = _label(task, row, at) if labelled else None
        if label == _OPEN:
            dropped += 1
            continue
        a, b, options = texts_of(task, row, at)
        records.append(Record(a, b, label, _id(row, at), line, options))
    if not records:
        raise InputError(
            found=f"{dropped} rows with the label '-' only" if dropped else "a file without a row",
            expected="rows",
            fix="Fetch the file again.",
            where=where,
        )
    numbered = False
    notes: list[str] = []
    if split == "test":
        numbered = _check_ids(records, where)
        if numbered:
            records = [Record(r.a, r.b, None, row, r.line, r.options) for row, r in enumerate(records)]
            notes.append(f"{where} has no ids: its rows are numbered from 0")
        notes += _version_notes(task, place, name, version, len(records))
    if dropped:
        notes.append(f'{where}: {dropped:,} rows with the label "-" left out')
    return Split(
        task=task,
        name=split,
        records=tuple(records),
        source=where,
        dropped=dropped,
        numbered=numbered,
        sha256=hashlib.sha256(raw).hexdigest(),
        notes=tuple(notes),
    )


def _label(task: ClueTask, row: dict[str, Any], where: str) -> str:
    value = row.get(task.answer)
    # FewCLUE has whole numbers where CLUE has strings.
    label = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, (str, int)) and (
        label in task.labels or (label == _OPEN and "neutral" in task.labels)
    ):
        return label
    raise InputError(
        found=f"no {task.answer}" if task.answer not in row else f"{task.answer} {shorten(value)}",
        expected=f"one of {shorten(list(task.labels), 80)}",
        fix="Check that the file belongs to this task. No score is computed on rows without labels.",
        where=where,
    )


def _id(row: dict[str, Any], where: str) -> Id | None:
    value = row.get("id")
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
        return value
    raise InputError(
        found=f"id {shorten(value)}",
        expected="a whole number or a string",
        fix="Fetch the file again.",
        where=where,
    )


def _check_ids(records: list[Record], where: str) -> bool:
    """Return whether a test file has no ids at all; raise if some are missing, doubled or of two types."""
    kinds = {type(record.id) for record in records}
    if kinds == {type(None)}:
        return True
    if len(kinds) > 1:
        other = next(record for record in records if type(record.id) is not type(records[0].id))
        raise InputError(
            found=f"id {shorten(other.id)} where line {records[0].line} has {shorten(records[0].id)}",
            expected="ids of one type in every row",
            fix="Fetch the file again.",
            where=f"{where}:{other.line}",
        )
    seen: dict[Id | None, int] = {}
    for record in records:
        if record.id in seen:
            raise InputError(
                found=f"id {shorten(record.id)} a second time, after line {seen[record.id]}",
                expected="every id once",
                fix="Fetch the file again.",
                where=f"{where}:{record.line}",
            )
        seen[record.id] = record.line
    return False


def _version_notes(task: ClueTask, place: Place, name: str, version: Version, rows: int) -> list[str]:
    if not task.versioned or not name.startswith("test.json"):
        return []
    other: Version = "1.0" if version == "1.1" else "1.1"
    if task.test_rows[version] != rows == task.test_rows[other]:
        raise InputError(
            found=f"{rows:,} rows, as many as the test set of {other} has",
            expected=f"the test set of {version} with {task.test_rows[version]:,}",
            fix=f"Fetch {task.folders[0]}.zip again, or give --version {other}.",
            where=place.where(name),
        )
    if version == "1.1" and place.find(("test1.0.json",)) is not None:
        return []
    return [
        f"{place.where(name)} is taken for the test set of {version}: nothing beside it tells "
        "(in CLUE's zips since July 2021, test.json is 1.1 and test1.0.json is 1.0)"
    ]
