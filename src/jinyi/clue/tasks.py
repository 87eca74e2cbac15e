"""Every task of CLUE, FewCLUE, ZeroCLUE and QBQTC as data: fields, labels, file names, names in a submission.

The names of CLUE's members follow the board's rules of 2021-09-04: "<task>_predict.json", with "10" or "11" behind
the two tasks whose test set was replaced (tnews, cluewsc); OCNLI is "ocnli_50k". FewCLUE's follow its sample files.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

from jinyi.errors import InputError, shorten
from jinyi.label_words import label_words

Benchmark = Literal["clue", "fewclue", "qbqtc"]
Version = Literal["1.0", "1.1"]
Form = Literal["text", "pair", "wsc", "csl", "idiom"]
Id = int | str

VERSIONS: Final[tuple[Version, ...]] = ("1.0", "1.1")
FOLDS: Final = ("0", "1", "2", "3", "4", "all")
"""Folds of FewCLUE's multi-fold form, as they stand in the names of its submission."""
UNLABELLED: Final = ("test", "unlabeled")
"""Splits whose labels are never read, even where a file has some."""
PACKED: Final = ("", ".xz", ".gz")
"""What may stand behind the name of a file in a folder."""
_NLI = ("contradiction", "entailment", "neutral")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClueTask:
    """One task.

    Args:
        name: what the command line calls it; FewCLUE's names are those of its submission ("tnewsf").
        benchmark: "clue", "fewclue" (ZeroCLUE has its test files and names) or "qbqtc".
        title: for tables.
        form: how a row becomes text: "text" (one sentence), "pair", "wsc" (both spans marked in the text), "csl"
            (keywords joined by a blank, abstract) or "idiom" (ChID: a text with a hole and seven idioms).
        fields: of a row, the text or texts first.
        labels: as files and submissions have them, in the board's order.
        metric: what the board scores.
        folders: names its folder or zip may have; the first is the official one.
        members: names in a submission, by version.
        test_rows: rows of the official test file, by version.
        id_type: of the ids in the official test file.
        versioned: whether 1.0 and 1.1 have different test files.
        aliases: other names people use.
        train: names of the training file, first match wins.
        answer: key of the label, in files and submissions; ChID answers with a whole number.
    """

    name: str
    benchmark: Benchmark
    title: str
    form: Form
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    folders: tuple[str, ...]
    members: dict[Version, str]
    test_rows: dict[Version, int]
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    id_type: type[int] | type[str] = int
    versioned: bool = False
    aliases: tuple[str, ...] = ()
    train: tuple[str, ...] = ("train.json",)
    answer: str = "label"

    @property
    def paired(self) -> bool:
        """Whether a row becomes two texts."""
        return self.form in ("pair", "csl")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits the task's data come in."""
        if self.benchmark == "fewclue":
            folds = (*FOLDS[:-1], "few_all")
            return (
                *(f"train_{fold}" for fold in folds),
                *(f"dev_{fold}" for fold in folds),
                "test_public",
                "test",
                "unlabeled",
            )
        if self.benchmark == "qbqtc":
            return ("train", "dev", "test_public", "test")
        return ("train", "dev", "test")

    def files(self, split: str, version: Version = "1.1") -> tuple[str, ...]:
        """Return the names the file of a split may have, best first.

        Raises:
            InputError: the task has no such split.
        """
        if split not in self.splits:
            raise InputError(
                found=f"split {shorten(split)}",
                expected=f"one of {', '.join(self.splits)}",
                fix="FewCLUE numbers its splits: train_0 to train_4 and train_few_all.",
                where=self.name,
            )
        if split == "train":
            return self.train
        if split == "test" and self.versioned:
            # Since July 2021 test.json is the new set and test1.0.json the old one; some copies have test1.1.json.
            return (f"test{version}.json", "test.json")
        return (f"{split}.json",)

    def member(self, version: Version = "1.1", fold: str | None = None) -> str:
        """Return the name in a submission.

        Args:
            version: of the board.
            fold: "0" to "4" or "all" for the multi-fold form of FewCLUE; None otherwise.

        Raises:
            InputError: a fold where there are none, or one that does not exist.
        """
        name = self.members[version]
        if fold is None:
            return name
        if self.benchmark != "fewclue" or fold not in FOLDS:
            raise InputError(
                found=f"fold {shorten(fold)}",
                expected=f"one of {', '.join(FOLDS)}, with a task of FewCLUE",
                fix="Leave the fold out.",
                where=self.name,
            )
        return f"{name.removesuffix('.json')}_{fold}.json"


def _same(value: str) -> dict[Version, str]:
    return dict.fromkeys(VERSIONS, value)


def _clue(
    name: str,
    title: str,
    form: Form,
    fields: tuple[str, ...],
    labels: tuple[str, ...],
    rows: int,
    new_rows: int | None = None,
) -> ClueTask:
    """Return a task of CLUE's board; `new_rows` are those of the test set of 1.1, for tasks that have a new one."""
    versioned = new_rows is not None
    members: dict[Version, str] = {"1.0": f"{name}10_predict.json", "1.1": f"{name}11_predict.json"}
    return ClueTask(
        name=name,
        benchmark="clue",
        title=title,
        form=form,
        fields=fields,
        labels=labels,
        folders=(f"{name}_public", name),
        members=members if versioned else _same(f"{name}_predict.json"),
        test_rows={"1.0": rows, "1.1": rows if new_rows is None else new_rows},
        versioned=versioned,
    )


@cache
def tasks() -> dict[str, ClueTask]:
    """Return all tasks by name, CLUE's first, in the order of its board."""
    news = tuple(label_words("tnews").words)
    apps = tuple(label_words("iflytek").words)
    pair = ("sentence1", "sentence2")
    yes_no = ("0", "1")
    spans = ("text", "target")
    truth = ("false", "true")
    clue = [
        _clue("afqmc", "AFQMC", "pair", pair, yes_no, 3861),
        _clue("tnews", "TNEWS", "text", ("sentence",), news, 10000, new_rows=10000),
        _clue("iflytek", "IFLYTEK", "text", ("sentence",), apps, 2600),
        _clue("cmnli", "CMNLI", "pair", pair, _NLI, 13880),
        replace(
            _clue("ocnli", "OCNLI", "pair", pair, _NLI, 3000),
            members=_same("ocnli_50k_predict.json"),
            aliases=("ocnli_50k", "ocnli50k"),
            train=("train.50k.json", "train.json"),
        ),
        replace(
            _clue("wsc", "CLUEWSC2020", "wsc", spans, truth, 290, new_rows=2574),
            folders=("cluewsc2020_public", "cluewsc2020", "wsc", "cluewsc"),
            members={"1.0": "cluewsc10_predict.json", "1.1": "cluewsc11_predict.json"},
            aliases=("cluewsc", "cluewsc2020"),
        ),
        _clue("csl", "CSL", "csl", ("keyword", "abst"), yes_no, 3000),
    ]
    sciences = tuple(label_words("csldcp").words)
    # name, folder, title, form, fields, labels, rows of test
    few: list[tuple[str, str, str, Form, tuple[str, ...], tuple[str, ...], int]] = [
        ("eprstmt", "eprstmt", "EPRSTMT", "text", ("sentence",), ("Negative", "Positive"), 753),
        ("csldcp", "csldcp", "CSLDCP", "text", ("content",), sciences, 2999),
        ("tnewsf", "tnews", "TNEWS (FewCLUE)", "text", ("sentence",), news, 1500),
        ("iflytekf", "iflytek", "IFLYTEK (FewCLUE)", "text", ("sentence",), apps, 2600),
        ("ocnlif", "ocnli", "OCNLI (FewCLUE)", "pair", pair, _NLI, 3000),
        ("bustm", "bustm", "BUSTM", "pair", pair, yes_no, 2000),
        ("chidf", "chid", "ChID (FewCLUE)", "idiom", ("content", "candidates"), tuple("0123456"), 2000),
        ("cslf", "csl", "CSL (FewCLUE)", "csl", ("keyword", "abst"), yes_no, 3000),
        ("cluewscf", "cluewsc", "CLUEWSC (FewCLUE)", "wsc", spans, truth, 290),
    ]
    fewclue = [
        ClueTask(
            name=name,
            benchmark="fewclue",
            title=title,
            form=form,
            fields=fields,
            labels=labels,
            folders=(folder, *((name,) if name != folder else ())),
            members=_same(f"{name}_predict.json"),
            test_rows=dict.fromkeys(VERSIONS, rows),
            id_type=str if name == "tnewsf" else int,
            answer="answer" if form == "idiom" else "label",
        )
        for name, folder, title, form, fields, labels, rows in few
    ]
    ranking = ClueTask(
        name="qbqtc",
        benchmark="qbqtc",
        title="QBQTC",
        form="pair",
        fields=("query", "title"),
        labels=("0", "1", "2"),
        folders=("qbqtc", "dataset", "QBQTC"),
        members=_same("qbqtc_predict.json"),
        test_rows=dict.fromkeys(VERSIONS, 10000),
        metric="macro_f1",
    )
    return {task.name: task for task in (*clue, *fewclue, ranking)}


def task_by_name(name: str) -> ClueTask:
    """Return a task by its name or an alias, in any case.

    Raises:
        InputError: no such task; names the nearest.
    """
    known = tasks()
    wanted = name.strip().lower()
    for task in known.values():
        if wanted == task.name or wanted in task.aliases:
            return task
    names = [*known, *(alias for task in known.values() for alias in task.aliases)]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    advice = f"Did you mean {near[0]}?" if near else "Choose from the list."
    if wanted in ("chid", "c3", "cmrc2018", "cmrc", "drcd"):
        advice = "Reading comprehension is not built in; leave the task out."
    raise InputError(
        found=f"task {shorten(name)}",
        expected=f"one of {', '.join(known)}",
        fix=advice,
        where="tasks",
    )


def tasks_by_name(names: str | Sequence[str]) -> list[ClueTask]:
    """Return tasks of a list, or of names separated by commas, each once, in the order given.

    "clue" and "fewclue" stand for all tasks of these benchmarks (ChID left out: it is no classification task).

    Raises:
        InputError: an empty list or an unknown name.
    """
    given = names.split(",") if isinstance(names, str) else names
    found: dict[str, ClueTask] = {}
    for name in filter(None, (entry.strip() for entry in given)):
        group = [task for task in tasks().values() if task.benchmark == name.lower() and task.form != "idiom"]
        for task in group or [task_by_name(name)]:
            found.setdefault(task.name, task)
    if not found:
        raise InputError(
            found="no task",
            expected=f"some of {', '.join(tasks())}",
            fix="Name them: --tasks afqmc,tnews.",
            where="tasks",
        )
    return list(found.values())


def check_version(version: str) -> Version:
    """Return the version, or raise InputError."""
    for known in VERSIONS:
        if version == known:
            return known
    raise InputError(
        found=f"version {shorten(version)}",
        expected="1.0 or 1.1",
        fix="The board has taken 1.1 since September 2021.",
        where="version",
    )
