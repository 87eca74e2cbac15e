"""Pairs that differ in a word or two (recipes/contrast_pairs.py)."""

from __future__ import annotations

import importlib.util
import json
import lzma
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")  # the script reads pairs as training does

SCRIPT = Path(__file__).parents[1] / "recipes" / "contrast_pairs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contrast_pairs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(script: ModuleType, change: str, text: str, *groups: list[list[str]]) -> set[str | None]:
    """All that a change makes of a text in 60 draws."""
    rng, call = random.Random(0), getattr(script, change)
    return {call(text, *groups, rng, Counter()) for _ in range(60)}


def test_words_of_a_kind(script: ModuleType) -> None:
    kinds = [["北京", "上海"], ["贵", "便宜"]]
    assert changed(script, "replaced", "明天北京下雨吗", kinds) == {"明天上海下雨吗"}
    assert changed(script, "replaced", "这个便宜", kinds) == {"这个贵"}
    assert changed(script, "replaced", "贵宾厅", kinds) == {None}, (
        "a single character may be part of any word"
    )
    used = Counter({"北京": script.MOST})
    assert script.replaced("明天北京下雨吗", kinds, random.Random(0), used) is None
    fresh: Counter[str] = Counter()
    script.replaced("明天北京下雨吗", kinds, random.Random(0), fresh)
    assert fresh == {"北京": 1}


def test_numbers(script: ModuleType) -> None:
    found = changed(script, "renumbered", "三天内到")
    assert (
        None not in found and "三天内到" not in found and all(str(text).endswith("天内到") for text in found)
    )
    assert all(
        text != "发烧39度" and str(text)[:2] == "发烧" for text in changed(script, "renumbered", "发烧39度")
    )
    assert changed(script, "renumbered", "一起吃饭") == {None}


def test_two_of_a_kind_are_exchanged(script: ModuleType) -> None:
    assert changed(script, "exchanged", "从北京到上海的火车") == {"从上海到北京的火车"}
    assert changed(script, "exchanged", "我借给他五百块") == {"他借给我五百块"}
    for text in ("北京和上海的房价", "北京还是上海好", "北京很大", "北京上海广州都去过"):
        assert changed(script, "exchanged", text) == {None}, text


def test_statements_are_denied(script: ModuleType) -> None:
    assert changed(script, "denied", "我喜欢苹果") == {"我不喜欢苹果"}
    for text in ("你喜欢苹果吗", "我不喜欢苹果", "谁喜欢苹果", "今天下雨"):
        assert changed(script, "denied", text) == {None}, text


def test_other_words_for_the_same(script: ModuleType) -> None:
    found = changed(script, "reworded", "怎么修改密码")
    assert {"如何修改密码", "怎样更改密码"} <= found and "怎么修改密码" not in found
    assert "怎么改密码" not in found
    asked = changed(script, "reworded", "可以退吗？")
    assert any(str(text).startswith(script._POLITE) for text in asked if text)
    assert any(str(text).endswith("退吗") for text in asked if text)


def test_no_group_says_two_things(script: ModuleType) -> None:
    for groups in (script.GROUPS, script.PAIRED, script.ALIKE):
        for group in groups:
            assert len(group) > 1 and len(set(group)) == len(group), group
    assert all(len(pair) == 2 for pair in script.PAIRED)
    alike = {frozenset((a, b)) for group in script.ALIKE for a in group for b in group if a != b}
    other = {
        frozenset((a, b))
        for group in (*script.GROUPS, *script.PAIRED)
        for a in group
        for b in group
        if a != b
    }
    assert not alike & other


def test_rows_are_balanced_and_come_from_the_files(script: ModuleType, tmp_path: Path) -> None:
    cities, things = ("北京", "上海", "杭州"), ("天气", "房价", "地铁", "学校", "医院", "公园")
    rows = [
        {"texta": f"{city}的{thing}怎么样", "textb": f"请问{city}有{thing}吗"}
        for city in cities
        for thing in things
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    texts = tmp_path / "texts.txt.xz"
    texts.write_bytes(
        lzma.compress(
            "他喜欢在北京跑步\n\n短\n一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一\n".encode()
        )
    )
    command = [sys.executable, str(SCRIPT), "--pairs", str(pairs), "--texts", str(texts), "--rows", "20"]
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == again
    made = [json.loads(line) for line in first.splitlines()]
    known = {text for row in rows for text in row.values()} | {"他喜欢在北京跑步"}
    assert len(made) == 20 and sum(row["label"] for row in made) == 10
    for row in made:
        assert row["texta"] != row["textb"] and known & {row["texta"], row["textb"]}
    refused = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "no file" in refused.stderr
