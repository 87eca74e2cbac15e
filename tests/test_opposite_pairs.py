"""Pairs of statements from lists of opposites (recipes/opposite_pairs.py), and the lists that are there."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
LISTS = sorted((RECIPES / "opposites").glob("*.txt"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("opposite_pairs", RECIPES / "opposite_pairs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECIPES))  # as where the script is run
        spec.loader.exec_module(module)
    return module


def drawn(
    script: ModuleType, tmp_path: Path, line: str, draws: int = 40_000
) -> set[tuple[frozenset[str], int]]:
    """All different pairs of a line."""
    file = tmp_path / "list.txt"
    file.write_text(f"# a list\n\n{line}\n", encoding="utf-8")
    return {
        (frozenset((a, b)), label)
        for a, b, label in script.pairs(list(script.read(file)), draws, random.Random(0))
    }


def similar(found: set[tuple[frozenset[str], int]], one: str, other: str) -> int | None:
    """The label of a pair; None where it was not drawn."""
    labels = [label for texts, label in found if texts == {one, other}]
    assert len(labels) < 2, "a pair has one label"
    return labels[0] if labels else None


def test_adjectives(script: ModuleType, tmp_path: Path) -> None:
    found = drawn(script, tmp_path, "形 | 他 | 高兴 开心 | 难过 伤心")
    assert similar(found, "他很高兴", "他很开心") == 1
    assert similar(found, "他很高兴", "他真高兴") == 1
    assert similar(found, "他不高兴", "他不开心") == 1
    assert similar(found, "他很高兴", "他很难过") == 0
    assert similar(found, "他很高兴", "他一点也不高兴") == 0
    assert similar(found, "他不高兴", "他很难过") is None, "there is something between"
    assert similar(found, "他不高兴", "他不难过") is None
    assert similar(found, "他很难过", "他很伤心") == 1 and similar(found, "他很伤心", "他不伤心") == 0
    assert similar(found, "他不怎么高兴", "他一点也不开心") is None, "denied in one way"
    assert {"他挺高兴的", "他太伤心了"} <= {text for texts, _ in found for text in texts}


def test_nothing_between_the_sides(script: ModuleType, tmp_path: Path) -> None:
    found = drawn(script, tmp_path, "动! | 门 | 打开 敞开 | 关上 合上")
    assert similar(found, "门没打开", "门关上了") == 1
    assert similar(found, "门没打开", "门打开了") == 0
    assert similar(found, "门打开了", "门关上了") == 0
    assert similar(found, "门打开了", "门敞开了") == 1


def test_attitudes_have_objects_and_predicates_stay_as_they_are(script: ModuleType, tmp_path: Path) -> None:
    found = drawn(script, tmp_path, "态 | 我 | 喜欢 喜爱 | 讨厌 | 吃辣 早起")
    assert similar(found, "我喜欢吃辣", "我讨厌吃辣") == 0
    assert similar(found, "我不喜欢早起", "我不喜爱早起") == 1
    assert all({text[-2:] for text in texts} in ({"吃辣"}, {"早起"}) for texts, _ in found)
    found = drawn(script, tmp_path, "整 | 我昨晚 | 睡得很好 没醒过 | 没睡好 一夜没合眼")
    assert {text for texts, _ in found for text in texts} == {
        f"我昨晚{words}" for words in ("睡得很好", "没醒过", "没睡好", "一夜没合眼")
    }
    assert similar(found, "我昨晚睡得很好", "我昨晚没醒过") == 1
    assert similar(found, "我昨晚没睡好", "我昨晚睡得很好") == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("名 | 他 | 高 | 矮", "expected kind"),
        ("形 | 他 | 高", "expected kind"),
        ("形 | 他 | 高 | ", "expected kind"),
        ("态 | 他 | 喜欢 | 讨厌", "expected kind"),
        ("整! | 他 | 高 | 矮", "expected kind"),
        ("形 | 他 | 高 长 | 矮 长", "长 on both sides"),
    ],
)
def test_a_line_that_is_none(script: ModuleType, tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(SystemExit, match=rf"list.txt:3: .*{words}"):
        drawn(script, tmp_path, line)


@pytest.mark.parametrize("recipe", ["opposite", "everyday"])
def test_texts_that_models_are_measured_by_stay_out(tmp_path: Path, recipe: str) -> None:
    source = tmp_path / "list.txt"
    lines = {
        "opposite": "形 | 他 | 高兴 开心 | 难过 伤心",
        "everyday": "## 心情\n= 好\n他高兴\n他开心\n= 坏\n他难过\n他伤心",
    }
    source.write_text(lines[recipe] + "\n", encoding="utf-8")
    command = [sys.executable, str(RECIPES / f"{recipe}_pairs.py"), str(source), "--each", "40"]
    told = "他很高兴" if recipe == "opposite" else "他高兴"
    measured = tmp_path / "measured.jsonl"
    measured.write_text(
        json.dumps({"texta": "你好", "textb": told}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    whole, less = (
        subprocess.run([*command, *more], capture_output=True, check=True, text=True).stdout.splitlines()
        for more in ([], ["--without", measured])
    )
    assert less == [line for line in whole if f'"{told}"' not in line and f'"{told}。"' not in line] != whole


def test_the_script_prints_rows(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / "opposite_pairs.py"), *map(str, LISTS), "--each", "4"]
    first, again = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == again
    rows = [json.loads(line) for line in first.decode().splitlines()]
    assert len(rows) > 3000
    labels = Counter(row["label"] for row in rows)
    assert 0.4 < labels[1] / len(rows) < 0.6
    pairs = [frozenset((row["texta"], row["textb"])) for row in rows]
    assert len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)


def test_nothing_is_denied_twice(script: ModuleType, tmp_path: Path) -> None:
    found = drawn(script, tmp_path, "形 | 他 | 不满 气愤 | 满意 高兴")
    assert similar(found, "他很气愤", "他不气愤") == 0
    assert not any("不不" in text for texts, _ in found for text in texts)
    assert not any("不满" in text and "不气愤" in texts for texts, label in found for text in texts if label)


def test_predicates_that_share_most_are_taken_more_often(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("整 | 我 | 睡得很好 | 睡得很差 一夜没合眼 翻来覆去 老是惊醒\n", encoding="utf-8")
    entry, rng = next(script.read(file)), random.Random(0)
    drawn_ones = Counter(
        frozenset(pair[:2]) for pair in (entry.pair(rng) for _ in range(2000)) if not pair[2]
    )
    assert drawn_ones.most_common(1)[0][0] == {"我睡得很好", "我睡得很差"}


def test_lists_hold_each_word_once_a_side(script: ModuleType) -> None:
    entries = [entry for file in LISTS for entry in script.read(file)]
    assert len(entries) > 1000
    for entry in entries:
        for words in (entry.subjects, *entry.sides, entry.objects):
            assert len(set(words)) == len(words), words
