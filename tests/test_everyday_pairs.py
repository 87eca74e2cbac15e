"""Pairs drawn from patterns of everyday sentences (recipes/everyday_pairs.py), and the patterns that are there."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
PATTERNS = """## 账号

@手机: 苹果|华为
= 改密码
[怎么|如何]改[|登录]密码
密码换一个
= 忘记密码
密码[忘了|不记得了]
= 截屏
{手机}手机怎么截屏
用{手机}截图
## 快递
= 几天到
快递几天到
发货以后多久能收到
"""
SAME = (
    {"怎么改密码", "怎么改登录密码", "如何改密码", "如何改登录密码", "密码换一个"},
    {"密码忘了", "密码不记得了"},
    {"苹果手机怎么截屏", "用苹果截图"},
    {"华为手机怎么截屏", "用华为截图"},
    {"快递几天到", "发货以后多久能收到"},
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("everyday_pairs", RECIPES / "everyday_pairs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / "everyday_pairs.py"), str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_intent_is_similar_and_others_are_not(tmp_path: Path) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text(PATTERNS, encoding="utf-8")
    done, again = (run(file, "--each", "60") for _ in range(2))
    assert done.returncode == 0 and done.stdout == again.stdout and "2 domains, 4 intents" in done.stderr
    assert run(file, "--each", "60", "--seed", "1").stdout != done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    labels = Counter(row["label"] for row in rows)
    assert min(labels[0], labels[1]) > 15
    pairs = [frozenset((row["texta"], row["textb"])) for row in rows]
    assert len(set(pairs)) == len(pairs), "none twice"
    for row in rows:
        first, other = row["texta"], re.sub("[。？]$", "", row["textb"])
        known = [next(place for place, kind in enumerate(SAME) if text in kind) for text in (first, other)]
        assert (known[0] == known[1]) == row["label"], row
    drawn = {text for row in rows for text in (row["texta"], row["textb"])}
    assert set().union(*SAME) <= drawn
    assert any(row["label"] and row["texta"] == row["textb"].rstrip("。？") for row in rows)
    values = [
        row for row in rows if "苹果" in row["texta"] + row["textb"] and "华为" in row["texta"] + row["textb"]
    ]
    assert values and not any(row["label"] for row in values)


def test_exchanged_values_mean_something_else_unless_said_so(tmp_path: Path) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text(
        "## 身高\n@甲 乙: 我|你|他\n= 更高\n{甲}比{乙}高\n{乙}比{甲}矮\n~ 一样高\n{甲}和{乙}一样高\n",
        encoding="utf-8",
    )
    done = run(file, "--each", "200")
    assert done.returncode == 0

    def meaning(text: str) -> object:
        text = text.rstrip("。")
        one, two = text[0], text[2]
        if "一样" in text:
            return frozenset((one, two))
        return (one, two) if text.endswith("高") else (two, one)

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        assert one_of(row, "我你他") and (meaning(row["texta"]) == meaning(row["textb"])) == row["label"], row
    turned = [
        row for row in rows if Counter(row["texta"]) == Counter(row["textb"]) and row["texta"] != row["textb"]
    ]
    assert {(row["label"], "一样" in row["texta"]) for row in turned} == {(0, False), (1, True)}


def one_of(row: dict[str, object], values: str) -> bool:
    return all(len(set(str(row[name])) & set(values)) == 2 for name in ("texta", "textb"))


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("怎么改密码\n", 1, "before the first domain"),
        ("## 账号\n怎么改密码\n", 2, "before the first intent"),
        ("## 账号\n= 改\n[怎么|[如何|怎样]]改密码\n", 3, "brackets"),
        ("## 账号\n= 改\n[怎么改密码\n", 3, "brackets"),
        ("## 账号\n= 改\n{手机}怎么改\n", 3, "手机"),
        ("## 账号\n@手机: 苹果\n", 2, "two different ones"),
        ("## 账号\n@手机: 苹果|\n", 2, "two different ones"),
        ("## 账号\n@甲 乙: 苹果|苹果|华为\n", 2, "two different ones"),
        ("## 账号\n@甲 乙 丙: 苹果|华为|小米\n", 2, "3 names"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path: Path, text: str, line: int, part: str) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text(text, encoding="utf-8")
    done = run(file)
    assert done.returncode == 1 and not done.stdout
    assert f"patterns.txt:{line}:" in done.stderr and part in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("## 账号\n= 改\n= 忘\n密码忘了\n", "'改' has no pattern"),
        ("## 账号\n@号: 甲|乙\n~ 改\n{号}改了\n", "'改' (~) has no two slots"),
    ],
)
def test_intents_that_say_nothing(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text(text, encoding="utf-8")
    done = run(file)
    assert done.returncode == 1 and part in done.stderr


def test_lists_are_exchanged_one_at_a_time(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text(
        "## 经历\n@起 止: 北京|上海\n@前 后: 早|晚\n= 住过\n{前}年住{起}{后}年住{止}\n", encoding="utf-8"
    )
    found = [row for row in script.pairs(script.read_patterns(file), 300, random.Random(0)) if not row[2]]
    assert found
    for first, other, _ in found:
        assert {first[:1] + first[3:5], first[5:6] + first[8:]} != {
            other[:1] + other[3:5],
            other[5:6] + other[8:],
        }


def sentences(script: ModuleType, pattern: str) -> set[str]:
    """All that a pattern says, its slots left open."""
    parts = [
        (found[1], found.start(), found.end())
        for found in script._PART.finditer(pattern)
        if found[1] is not None
    ]
    said = set()
    for chosen in itertools.product(*(part.split("|") for part, _, _ in parts)):
        text, behind = "", 0
        for choice, (_, start, end) in zip(chosen, parts, strict=True):
            text, behind = text + pattern[behind:start] + choice, end
        said.add(text + pattern[behind:])
    return said


def exchanged(text: str, names: tuple[str, str]) -> str:
    one, two = (f"{{{name}}}" for name in names)
    return two.join(part.replace(two, one) for part in text.split(one))


def test_no_sentence_has_two_meanings(script: ModuleType) -> None:
    files = sorted((RECIPES / "everyday").glob("*.txt"))
    assert len(files) > 3
    count = 0
    for file in files:
        for domain in script.read_patterns(file):
            seen: dict[str, tuple[str, bool]] = {}
            turned = [names for names in domain.slots if len(names) == 2]
            for intent in domain.intents:
                for text in set().union(*(sentences(script, pattern) for pattern in intent.patterns)):
                    assert seen.setdefault(text, (intent.name, False)) == (intent.name, False), (
                        file.name,
                        text,
                    )
                    assert text.strip() == text and text
                    for names in turned:
                        other = exchanged(text, names)
                        meant = (intent.name, not intent.symmetric and other != text)
                        assert seen.setdefault(other, meant) == meant, (file.name, domain.name, text, other)
                count += 1
                slots = [set(re.findall(r"\{([^}]*)\}", pattern)) for pattern in intent.patterns]
                assert all(found == slots[0] for found in slots), (file.name, intent.name)
    assert count > 300


def test_the_draw_is_balanced(script: ModuleType) -> None:
    domains = [
        domain
        for file in sorted((RECIPES / "everyday").glob("*.txt"))
        for domain in script.read_patterns(file)
    ]
    labels = Counter(label for *_, label in script.pairs(domains, 10, random.Random(0)))
    assert 0.4 < labels[1] / labels.total() < 0.6
