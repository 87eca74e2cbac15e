"""Predictions in the form the boards take: one file of JSON lines a task, packed into a flat zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jinyi.clue.reading import Split
from jinyi.clue.tasks import Version
from jinyi.errors import InputError, shorten
from jinyi.files import atomic_file

_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The same predictions give the same zip, byte for byte."""


def write_predictions(
    folder: Path, test: Split, labels: Sequence[str], *, version: Version = "1.1", fold: str | None = None
) -> Path:
    """Write the predictions for one test file, whole or not at all.

    Ids come from the test file, with their type, in its order: the boards compare row by row.

    Args:
        folder: where the file goes; it must exist.
        test: the "test" split that was predicted.
        labels: one for every record of it, in order, as in `task.labels`.
        version: of the board; it decides the names for TNEWS and WSC.
        fold: "0" to "4" or "all" for FewCLUE's multi-fold form.

    Returns:
        the file, `folder / task.member(version, fold)`.

    Raises:
        InputError: another split than "test", more or fewer labels than records, or a label the board does not know.
    """
    task = test.task
    if test.name != "test":
        raise InputError(
            found=f"predictions for {test.name}",
            expected="predictions for test",
            fix="The boards take the test file only.",
            where=test.source,
        )
    if len(labels) != len(test.records):
        raise InputError(
            found=f"{len(labels):,} labels",
            expected=f"{len(test.records):,}, one for every row",
            fix="Predict the whole test file.",
            where=test.source,
        )
    rows: list[str] = []
    for record, label in zip(test.records, labels, strict=True):
        if label not in task.labels:
            raise InputError(
                found=f"label {shorten(label)}",
                expected=f"one of {shorten(list(task.labels), 80)}",
                fix="Map the model's classes to the labels of the task.",
                where=f"{test.source}:{record.line}",
            )
        answer: Any = int(label) if task.answer == "answer" else label
        rows.append(json.dumps({"id": record.id, task.answer: answer}, ensure_ascii=False))
    path = folder / task.member(version, fold)
    with atomic_file(path) as stream:
        stream.write("".join(f"{row}\n" for row in rows).encode("utf-8"))
    return path


def write_zip(path: Path, files: Sequence[Path]) -> Path:
    """Pack files into a flat zip, whole or not at all; equal files give an equal zip.

    Raises:
        InputError: no file, or two of one name.
    """
    names = sorted(file.name for file in files)
    if not names or len(set(names)) < len(names):
        raise InputError(
            found=f"files {', '.join(names) or '(none)'}",
            expected="at least one file, each name once",
            fix="Give the files of one submission.",
            where=str(path),
        )
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files, key=lambda file: file.name):
            entry = zipfile.ZipInfo(file.name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return path
