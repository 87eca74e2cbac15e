"""A submission checked before a board sees it: names, version, form, ids against the test file, labels.

report = check_submission("submit.zip", data="data")
for finding in report.findings: print(finding.member, finding.kind, finding.message)
"""

from __future__ import annotations

import difflib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinyi.clue.places import UNREADABLE, find_place
from jinyi.clue.reading import read_split, splits_there
from jinyi.clue.rows import Finding, MemberCheck
from jinyi.clue.tasks import FOLDS, VERSIONS, ClueTask, Id, Version, tasks
from jinyi.errors import InputError, shorten

_LARGEST: Final = 1 << 26
_READING: Final = ("cmrc2018", "chid10", "chid11", "c310", "c311")
"""CLUE's tasks of reading comprehension: known names whose content is not checked beyond being JSON."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the name of a member says: its task, the versions it may belong to, and its fold."""

    task: ClueTask
    versions: tuple[Version, ...]
    fold: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What the check of a submission came to.

    Args:
        path: the file.
        version: of CLUE's board that the names stand for; None where they do not tell or are not CLUE's.
        members: rows of every member that was checked.
        findings: its faults; none if it may be submitted.
        notes: what could not be checked, and what is left out.
    """

    path: str
    version: Version | None
    members: Mapping[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check_submission(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    version: Version | None = None,
) -> CheckReport:
    """Check a submission: a zip, or one of its files.

    Args:
        path: the zip, or one `*_predict.json`.
        data: folder or zip with the test files (as for `read_split`); with it ids are compared one by one and in
            order. Without it, missing rows show in their number and a changed order cannot be seen.
        version: of CLUE's board; None takes the one the names tell.

    Raises:
        InputError: no such file, or a test file that is damaged.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(
            found="a folder" if source.is_dir() else "no such file",
            expected="a zip or a file of predictions",
            fix="Check the path.",
            where=str(source),
        )
    findings: list[Finding] = []
    notes: list[str] = []
    contents = _contents(source, findings)
    names = known_members()
    named: dict[str, Named] = {}
    rows: dict[str, int] = {}
    tests: dict[str, Sequence[Id] | None] = {}
    for member, raw in contents.items():
        stem = member.removesuffix("_predict.json")
        if member in names:
            named[member] = names[member]
        elif stem != member and stem in _READING:
            findings += _one_object(member, raw)
            notes.append(f"{member}: reading comprehension; only its form was checked")
        else:
            findings.append(Finding(member, "name", f"{shorten(member)}; {_right_name(member, version)}"))
    board = _version(source.name, named, version, findings)
    findings += _completeness(source.name, named, notes)
    for member, entry in named.items():
        check = MemberCheck(member, entry.task)
        check.read(contents[member])
        assumed = board or "1.1"
        if entry.task.name not in tests:
            tests[entry.task.name] = _test_ids(entry.task, data, assumed, notes)
        expected = tests[entry.task.name]
        other = _other_version(check, data, assumed, expected)
        if other is not None:
            check.add("version", f"ids of the test set of {other}", f"those of {assumed}")
        check.compare(expected, entry.task.test_rows[assumed])
        rows[member] = check.rows
        findings += check.findings()
    if data is None and named:
        notes.append("without --data, ids are not compared with the test file, nor is their order")
    return CheckReport(
        path=str(source),
        version=board,
        members=rows,
        findings=tuple(findings),
        notes=tuple(dict.fromkeys(notes)),
    )


@cache
def known_members() -> Mapping[str, Named]:
    """Return what every name a member may have stands for."""
    names: dict[str, Named] = {}
    for task in tasks().values():
        for fold in (None, *(FOLDS if task.benchmark == "fewclue" else ())):
            for name in {task.member(version, fold) for version in VERSIONS}:
                versions = tuple(version for version in VERSIONS if task.member(version, fold) == name)
                names[name] = Named(task, versions, fold)
    return names


def _contents(source: Path, findings: list[Finding]) -> dict[str, bytes]:
    if source.suffix.lower() == ".json":
        return {source.name: source.read_bytes()}
    contents: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if "/" in name or "\\" in name:
                    findings.append(Finding(name, "not flat", "in a folder; expected all files at the root"))
                elif name in contents:
                    findings.append(Finding(name, "doubled", "a second file of this name in the zip"))
                elif entry.flag_bits & 1:
                    findings.append(Finding(name, "password", "locked with a password"))
                elif entry.file_size > _LARGEST:
                    findings.append(
                        Finding(name, "size", f"{entry.file_size:,} bytes; no test set is that large")
                    )
                else:
                    contents[name] = archive.read(entry)
    except UNREADABLE as fault:
        findings.append(Finding(source.name, "zip", f"a zip that cannot be read ({fault})"))
    if not contents and not findings:
        findings.append(Finding(source.name, "missing", "a zip without a file"))
    return contents


def _one_object(member: str, raw: bytes) -> list[Finding]:
    try:
        if isinstance(json.loads(raw.decode("utf-8")), dict):
            return []
    except (ValueError, RecursionError):
        pass
    return [Finding(member, "no JSON", "expected one JSON object in UTF-8 for the whole file")]


def _right_name(member: str, version: Version | None) -> str:
    stem = member.lower().removesuffix(".json").removesuffix("_predict")
    for task in tasks().values():
        if stem in (task.name, *task.aliases, *task.folders):
            right = {task.member(known) for known in ((version,) if version else VERSIONS)}
            return f"expected {' or '.join(sorted(right))}"
    near = difflib.get_close_matches(member, list(known_members()), n=1)
    return f"did you mean {near[0]}?" if near else "expected names as afqmc_predict.json"


def _version(
    name: str, named: Mapping[str, Named], version: Version | None, findings: list[Finding]
) -> Version | None:
    told = {entry.versions[0]: member for member, entry in named.items() if len(entry.versions) == 1}
    if version is None and len(told) > 1:
        both = " and ".join(told[known] for known in VERSIONS)
        findings.append(Finding(name, "version", f"{both} belong to two versions of the board"))
    for member, entry in named.items():
        if version is not None and version not in entry.versions:
            right = entry.task.member(version, entry.fold)
            findings.append(Finding(member, "version", f"a name of {entry.versions[0]}; expected {right}"))
    return version or next(iter(told), None)


def _completeness(name: str, named: Mapping[str, Named], notes: list[str]) -> list[Finding]:
    """Look at the set of members: one board, one form, all folds; say which tasks are left out."""
    findings: list[Finding] = []
    boards = {entry.task.benchmark for entry in named.values()}
    if len(boards) > 1:
        findings.append(Finding(name, "name", f"files of {len(boards)} boards: {', '.join(sorted(boards))}"))
        return findings
    folds: dict[str, list[str | None]] = {}
    for entry in named.values():
        folds.setdefault(entry.task.name, []).append(entry.fold)
    if len({entry.fold is None for entry in named.values()}) > 1:
        findings.append(Finding(name, "name", "files of the single and of the multi-fold form"))
        return findings
    for task, found in folds.items():
        missing = [fold for fold in FOLDS if fold not in found]
        if None not in found and missing:
            files = ", ".join(tasks()[task].member("1.1", fold) for fold in missing)
            findings.append(Finding(name, "missing", f"folds of {task}: {files}"))
    for board in boards:
        absent = [
            task.name for task in tasks().values() if task.benchmark == board and task.name not in folds
        ]
        if absent and name.endswith(".zip"):
            notes.append(f"left out: {', '.join(absent)}")
    return findings


def _test_ids(
    task: ClueTask, data: str | os.PathLike[str] | None, version: Version, notes: list[str]
) -> Sequence[Id] | None:
    if data is None:
        return None
    if "test" not in splits_there(task, data):
        notes.append(f"{task.name}: no test file in {data}; only the number of rows was checked")
        return None
    split = read_split(task, data, "test", version=version)
    notes += split.notes
    return [record.id for record in split.records if record.id is not None]


def _other_version(
    check: MemberCheck,
    data: str | os.PathLike[str] | None,
    version: Version,
    expected: Sequence[Id] | None,
) -> Version | None:
    """Return the other version where the rows are plainly those of its test set."""
    task = check.task
    other: Version = "1.0" if version == "1.1" else "1.1"
    if not task.versioned:
        return None
    if expected is None or data is None:
        return other if task.test_rows[version] != check.rows == task.test_rows[other] else None
    if find_place(task, data).find(("test1.0.json",)) is None:  # one file for both
        return None
    ids = {value for _, value in check.ids}
    if ids == set(expected) or ids != set(_test_ids(task, data, other, []) or ()):
        return None
    return other
