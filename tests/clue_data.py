"""Small data in the form of CLUE, FewCLUE and QBQTC, of sentences made up here."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

from jinyi.clue.tasks import ClueTask

SUBJECTS = ("花呗", "密码", "订单", "会员卡", "话费", "车票", "发票", "地址")
VERBS = ("怎么改", "如何取消", "什么时候到", "为什么没有", "可以退", "在哪里查")


def sentence(chance: random.Random) -> str:
    return f"{chance.choice(SUBJECTS)}{chance.choice(VERBS)}{chance.choice(SUBJECTS)}{chance.randrange(1000)}"


def row(task: ClueTask, chance: random.Random) -> dict[str, Any]:
    """One row without label and id."""
    a, b = sentence(chance), sentence(chance)
    if task.form == "pair":
        return dict(zip(task.fields, (a, b), strict=True))
    if task.form == "text":
        return {task.fields[0]: a}
    if task.form == "csl":
        return {"abst": f"{a}，{b}。", "keyword": chance.sample(SUBJECTS, 3)}
    if task.form == "idiom":
        return {"content": f"{a}#idiom#{b}", "candidates": [f"成语之{n}" for n in "一二三四五六七"]}
    noun = chance.choice(SUBJECTS)
    text = f"{noun}不见了，{a}，它去哪了"
    target = {
        "span1_text": noun,
        "span1_index": 0,
        "span2_text": "它",
        "span2_index": text.rindex("它"),
    }
    return {"target": target, "text": text}


def rows(task: ClueTask, split: str, count: int = 12, *, start: int = 0) -> list[dict[str, Any]]:
    """Rows of a split, labelled or with ids as CLUE has them."""
    chance = random.Random(f"{task.name} {split} {start}")
    made = []
    for number in range(count):
        entry = row(task, chance)
        if split == "test":
            entry["id"] = task.id_type(start + number)
        elif split != "unlabeled":
            label = task.labels[number % len(task.labels)]
            entry[task.answer] = int(label) if task.answer == "answer" else label
        made.append(entry)
    return made


def lines(entries: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def write_task(folder: Path, task: ClueTask, count: int = 12, splits: tuple[str, ...] | None = None) -> Path:
    """Write splits of a task into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits or task.splits:
        (folder / task.files(split, "1.1")[-1]).write_bytes(lines(rows(task, split, count)))
    return folder


def zip_folder(folder: Path, path: Path, inside: str = "") -> Path:
    """Pack a folder as a zip, with `inside` before every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{inside}{file.name}")
    return path
