"""Topic sets as an evaluation reads them: labels under one name, training rows by fold, the rows that are scored.

Three kinds of sets are understood: a folder with `train`, `dev` and `labels.json`; a folder as FewCLUE has it
(`train_0` ... `train_4`, `train_few_all`, `dev_0` ..., `test_public`); and single files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.evals.topic_labels import SetLabels, label_entries
from jinyi.files import read_texts
from jinyi.hashes import file_sha256

FOLDS = ("0", "1", "2", "3", "4")
"""FewCLUE's training folds."""
WHOLE = ("train", "few_all")
"""Names of training rows that are not a fold: of a whole set, and of all folds of FewCLUE together."""
SPLITS = ("test_public", "dev_few_all", "dev")
"""What is scored in a folder, first one there wins."""
_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class TopicRows:
    """Labelled texts of one file.

    Args:
        path: the file.
        texts: n texts.
        targets: int64 [n], the place of each text's label in `TopicData.labels`.
        lines: the line of each text in the file, from 1.
        sha256: of the file.
    """

    path: Path
    texts: list[str]
    targets: npt.NDArray[np.int64]
    lines: list[int]
    sha256: str

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Fold:
    """Training rows and the rows that are scored after learning from them.

    Args:
        name: "0" to "4" for FewCLUE's folds, "few_all" for all of them, "train" for a whole set, "" without training
            rows.
        train: None without.
        scored: the rows that are scored, of one file for all folds, or of a file for each of them.
    """

    name: str
    train: TopicRows | None
    scored: TopicRows


@dataclass(frozen=True, kw_only=True)
class TopicData:
    """A topic set.

    Args:
        name: as tables show it.
        labels: its labels, in the set's order; answers and targets are places in it.
        split: name of what is scored: "dev", "test_public", or the file's name.
        folds: training rows with what is scored after them.
    """

    name: str
    labels: SetLabels
    split: str
    folds: tuple[Fold, ...] = field(repr=False)

    def choose(self, names: Sequence[str] | None) -> tuple[Fold, ...]:
        """Return folds by their names; None takes FewCLUE's numbered folds, or else the first there is.

        Raises:
            InputError: the set has no such fold.
        """
        known = {fold.name: fold for fold in self.folds}
        if names is None:
            numbered = tuple(fold for fold in self.folds if fold.name in FOLDS)
            return numbered or self.folds[:1]
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise InputError(
                found=f"fold {', '.join(missing) or '(none)'}",
                expected=f"some of {', '.join(filter(None, known)) or '(this set has no training rows)'}",
                fix="Name folds the set has, or leave them out.",
                where=self.name,
            )
        return tuple(known[name] for name in dict.fromkeys(names))


def read_topic_data(
    path: Path,
    *,
    name: str = "",
    train: Path | None = None,
    labels: Path | None = None,
    split: str | None = None,
    encoding: str = "utf-8",
) -> TopicData:
    """Read a topic set.

    Args:
        path: a folder of a set, or the file that is scored.
        name: of the set; by default the folder's or the file's. TNEWS, CSLDCP and IFLYTEK are known by their names
            ("tnews", "fewclue-tnews"), with label words and both prompts of TCBert.
        train: file of training rows, where `path` is a file.
        labels: file of labels: a JSON list or JSON lines of {"index", "code", "name", "word"} or {"label",
            "label_desc"}; by default `labels.json` beside the scored file.
        split: what is scored in a folder: "dev", "test_public", ...; with numbered folds "dev" means each fold's own
            `dev_0` ... By default the first of `SPLITS`.
        encoding: of text files.

    Returns:
        the set with all its training rows.

    Raises:
        InputError: no file to score, a file without labels, labels that are all equal or that the set does not know;
            names file and line. `split` for a file, or `train` for a folder.
    """
    _check_given(path, train, split)
    folder = path if path.is_dir() else path.parent
    name = name or (path.name if path.is_dir() else path.name.split(".")[0])
    files = _files_of_folder(path, split) if path.is_dir() else _files_given(path, train)
    table = labels if labels is not None else folder / "labels.json"
    entries = label_entries(table, encoding) if labels is not None or table.is_file() else []
    raw = {file: _read_rows(file, encoding) for _, *pair in files for file in pair if file is not None}
    known = SetLabels.of(
        f"{name} {folder.name}", entries, {each for _, seen, _ in raw.values() for each in seen}
    )
    rows = {file: _numbered(file, known, *columns) for file, columns in raw.items()}
    for file in {scored for *_, scored in files}:
        _check_scored(rows[file])
    folds = tuple(
        Fold(fold, rows[source] if source is not None else None, rows[scored])
        for fold, source, scored in files
    )
    shown = split or _split_name(path, files)
    return TopicData(name=name, labels=known, split=shown, folds=folds)


_Files = list[tuple[str, Path | None, Path]]
_Columns = tuple[list[str], list[str], list[int]]


def _check_given(path: Path, train: Path | None, split: str | None) -> None:
    """Refuse what would have no effect."""
    if path.is_dir() and train is not None:
        raise InputError(
            found=f"training rows {train} for a folder",
            expected="them for a set that is given as a file",
            fix="Give the file that is scored in place of the folder, or leave the training rows out.",
            where=str(path),
        )
    if path.is_file() and split is not None:
        raise InputError(
            found=f"split {split} for a file",
            expected="it for a set that is given as a folder",
            fix="Give the folder, or leave the split out.",
            where=str(path),
        )


def _files_given(path: Path, train: Path | None) -> _Files:
    return [("" if train is None else "train", train, path)]


def _files_of_folder(folder: Path, split: str | None) -> _Files:
    """Return (fold, training file, scored file) for every training file of a folder, or one entry without any."""
    numbered = {fold: _find(folder, f"train_{fold}") for fold in FOLDS}
    whole = {"few_all": _find(folder, "train_few_all"), "train": _find(folder, "train")}
    trains = {fold: file for fold, file in {**numbered, **whole}.items() if file is not None}
    wanted = (split,) if split is not None else SPLITS
    common = next((file for each in wanted if (file := _find(folder, each)) is not None), None)
    found: _Files = []
    for fold in list(trains) or [""]:
        own = _find(folder, f"dev_{fold}") if split in (None, "dev") and common is None else common
        if own is not None:
            found.append((fold, trains.get(fold), own))
    if not found:
        there = sorted(file.name for file in folder.iterdir() if file.is_file())
        raise InputError(
            found=f"files {shorten(there, 120)}",
            expected=f"a file to score: {' or '.join(wanted)} with a suffix of {', '.join(_SUFFIXES)} (.gz, .xz)",
            fix="Name the split that is there, or give the files themselves.",
            where=str(folder),
        )
    return found


def _find(folder: Path, stem: str) -> Path | None:
    for suffix in _SUFFIXES:
        for packing in ("", ".xz", ".gz"):
            if (file := folder / f"{stem}{suffix}{packing}").is_file():
                return file
    return None


def _split_name(path: Path, files: _Files) -> str:
    stems = {scored.name.split(".")[0] for *_, scored in files}
    return stems.pop() if len(stems) == 1 else "dev"


def _read_rows(path: Path, encoding: str) -> _Columns:
    texts, labels, lines = [], [], []
    for row in read_texts(path, encoding=encoding):
        missing = row.label is None or row.label != row.label
        label = "" if missing else str(row.label)
        if label in ("", "-"):
            raise InputError(
                found="label '-', which marks none" if label else "a row without a label",
                expected="a label in every row",
                fix="Rows without labels cannot be scored: take another split.",
                where=f"{path}:{row.line}",
            )
        texts.append(row.text)
        labels.append(label)
        lines.append(row.line)
    return texts, labels, lines


def _numbered(
    path: Path, known: SetLabels, texts: list[str], labels: list[str], lines: list[int]
) -> TopicRows:
    """Return rows with the places of their labels."""
    targets = [known.place(label, f"{path}:{line}") for label, line in zip(labels, lines, strict=True)]
    return TopicRows(path, texts, np.asarray(targets, np.int64), lines, file_sha256(path))


def _check_scored(rows: TopicRows) -> None:
    if len(set(rows.targets.tolist())) < 2:
        raise InputError(
            found=f"{len(rows)} labels that are all equal",
            expected="labels that differ",
            fix="Files that are handed in for scoring often carry one label everywhere: take a split with real ones.",
            where=str(rows.path),
        )


def shared_texts(fold: Fold) -> int:
    """Return how many scored rows have a text that is also a training text of the fold."""
    if fold.train is None:
        return 0
    known = set(fold.train.texts)
    return sum(text in known for text in fold.scored.texts)
