"""Submissions as they are written: an independent reader takes them."""

from __future__ import annotations

import json
import os
import random
import zipfile
from pathlib import Path

import pytest

from clue_data import rows, write_task
from clue_reader import read_member, read_zip
from jinyi.clue.checking import check_submission
from jinyi.clue.reading import read_split
from jinyi.clue.submission import write_predictions, write_zip
from jinyi.clue.tasks import FOLDS, VERSIONS, task_by_name, tasks
from jinyi.errors import InputError

BOARDS = {"clue": ("1.0", "1.1"), "fewclue": ("few",), "qbqtc": ("qbqtc",)}


def choose(task, split, seed: str = "") -> list[str]:
    chance = random.Random(task.name + seed)
    return [chance.choice(task.labels) for _ in split.records]


@pytest.mark.parametrize("board", ["1.0", "1.1", "few", "qbqtc"])
def test_an_independent_reader_takes_it(board: str, tmp_path: Path) -> None:
    version = board if board in VERSIONS else "1.1"
    kind = next(kind for kind, boards in BOARDS.items() if board in boards)
    files, ids, wanted = [], {}, {}
    for task in tasks().values():
        if task.benchmark != kind:
            continue
        write_task(tmp_path / "data" / task.folders[0], task, splits=("test",))
        test = read_split(task, tmp_path / "data", "test", version=version)
        labels = choose(task, test)
        files.append(write_predictions(tmp_path, test, labels, version=version))
        name = files[-1].name
        ids[name] = [entry["id"] for entry in rows(task, "test")]
        wanted[name] = list(map(int, labels)) if task.answer == "answer" else labels
    path = write_zip(tmp_path / "submit.zip", files)
    assert read_zip(path.read_bytes(), board, ids) == wanted
    report = check_submission(path, data=tmp_path / "data", version=version if kind == "clue" else None)
    assert report.accepted and report.members == {name: 12 for name in sorted(wanted)}


def test_folds(tmp_path: Path) -> None:
    files, ids = [], {}
    for name in ("bustm", "tnewsf"):
        task = task_by_name(name)
        write_task(tmp_path / "data" / task.folders[0], task, splits=("test",))
        test = read_split(task, tmp_path / "data", "test")
        ids[task.member()] = [record.id for record in test.records]
        files += [write_predictions(tmp_path, test, choose(task, test, fold), fold=fold) for fold in FOLDS]
    path = write_zip(tmp_path / "few.zip", files)
    answers = read_zip(path.read_bytes(), "few", ids, FOLDS)
    assert len(answers) == 12
    assert answers["tnewsf_predict_0.json"] != answers["tnewsf_predict_all.json"]
    assert check_submission(path, data=tmp_path / "data").accepted


def test_ids_keep_type_and_order(tmp_path: Path) -> None:
    task = task_by_name("csl")
    (tmp_path / "csl").mkdir()
    entries = rows(task, "test", 5)
    for entry, value in zip(entries, (2415, 7, 2565, 0, 99), strict=True):
        entry["id"] = value
    (tmp_path / "csl" / "test.json").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    path = write_predictions(tmp_path, read_split(task, tmp_path, "test"), ["0", "1", "0", "1", "1"])
    assert read_member(path.read_bytes(), {"0", "1"}, [2415, 7, 2565, 0, 99]) == ["0", "1", "0", "1", "1"]
    assert path.read_text(encoding="utf-8").startswith('{"id": 2415, "label": "0"}\n')


def test_equal_predictions_give_an_equal_zip(tmp_path: Path) -> None:
    packed = []
    for when in (0, 1_700_000_000):
        files = [tmp_path / name for name in ("csl_predict.json", "afqmc_predict.json")]
        for file in files:
            file.write_text(file.name, encoding="utf-8")
            os.utime(file, (when, when))
        packed.append(write_zip(tmp_path / "submit.zip", files[:: 1 if when else -1]).read_bytes())
    assert packed[0] == packed[1]
    with zipfile.ZipFile(tmp_path / "submit.zip") as archive:
        assert archive.namelist() == ["afqmc_predict.json", "csl_predict.json"]


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    write_task(tmp_path / "afqmc", task)
    test, dev = read_split(task, tmp_path, "test"), read_split(task, tmp_path, "dev")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="predictions for dev"):
        write_predictions(out, dev, ["0"] * 12)
    with pytest.raises(InputError, match="11 labels; expected 12"):
        write_predictions(out, test, ["0"] * 11)
    with pytest.raises(InputError, match=r"test\.json:12: found label '2'"):
        write_predictions(out, test, ["0"] * 11 + ["2"])
    with pytest.raises(InputError, match=r"files \(none\)"):
        write_zip(out / "submit.zip", [])
    with pytest.raises(InputError, match="each name once"):
        write_zip(out / "submit.zip", [tmp_path / "a.json", out / "a.json"])
    with pytest.raises(FileNotFoundError):
        write_zip(out / "submit.zip", [tmp_path / "gone.json"])
    assert list(out.iterdir()) == []
    with pytest.raises(InputError, match="folder that can be written"):
        write_predictions(tmp_path / "nothing", test, ["0"] * 12)
