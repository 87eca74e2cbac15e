"""Corpus: files to documents, cleaning, duplicates."""

from __future__ import annotations

import gzip
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_tools import write
from jinyi.errors import InputError
from jinyi.train.corpus.clean import Report, Rules, clean, line_rule
from jinyi.train.corpus.duplicates import ExactSpans, NearDuplicates
from jinyi.train.corpus.read import cut_line, read_documents

PLAIN = Rules(span=None, near=None)


# Files to documents


def test_documents_of_files(tmp_path: Path) -> None:
    blank = write(tmp_path / "a.txt", "一\n二\n\n\n三\n\n")
    assert list(read_documents([blank])) == [["一", "二"], ["三"]]
    assert list(read_documents([blank, blank], form="lines")) == [["一"], ["二"], ["三"]] * 2
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress("一\n\n二\n".encode()))
    assert list(read_documents([packed])) == [["一"], ["二"]]
    rows = write(tmp_path / "c.jsonl", '{"content": "一\\n二", "id": 1}\n{"content": "", "id": 2}\n')
    assert list(read_documents([rows])) == [["一", "二"], [""]]
    assert list(read_documents([write(tmp_path / "one.txt", "只有一行\n")])) == [["只有一行"]]


def test_corpus_without_blank_lines_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "一\n二\n三\n")
    documents = read_documents([path])
    with pytest.raises(InputError, match="3 lines and no blank line.*--documents lines"):
        next(documents)
    with pytest.raises(InputError, match="expected 'blank' or 'lines'"):
        next(read_documents([path], form="pages"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found 3; expected a text"):
        next(read_documents([write(tmp_path / "a.jsonl", '{"text": 3}\n')]))
    with pytest.raises(InputError, match="column body"):
        next(read_documents([write(tmp_path / "b.jsonl", '{"text": "a"}\n')], column="body"))


@given(st.text(alphabet="一二三。！？”a ", max_size=60), st.integers(1, 20))
def test_cut_lines_lose_nothing(line: str, longest: int) -> None:
    parts = cut_line(line, longest)
    assert "".join(parts) == line
    assert all(len(part) <= longest for part in parts)


def test_cut_lines_at_sentences() -> None:
    assert cut_line("一二。三四。五六七八九。", 6) == ["一二。三四。", "五六七八九。"]
    assert cut_line("他说：“好。”他走了。", 7) == ["他说：“好。”", "他走了。"]


# Cleaning


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("今天的天气很好。", None),
        ("他说：“今天的天气很好。”", None),
        ("我在用 Python 写一个小程序。", None),
        ("", "blank"),
        ("你好。", "short"),
        ("This is an English line.", "not Chinese"),
        ("function() 会返回今天的天气。", "code"),
        ("<p>今天的天气很好。</p>", "code"),
        ("今天的天气&nbsp;很好。", "code"),
        ("版权所有：某某网站。", "boilerplate"),
        ("更多内容请点击这里。", "boilerplate"),
        ("今天的天气", "no sentence end"),
    ],
)
def test_line_rules(line: str, rule: str | None) -> None:
    assert line_rule(line, Rules()) == rule


def test_rules_can_be_switched_off() -> None:
    lax = Rules(characters=0, han=0, ended=False, code=False, boilerplate=False)
    assert all(line_rule(line, lax) is None for line in ("好", "abc", "{今天}", "版权所有"))


def test_clean_accounts_for_every_line() -> None:
    report = Report()
    documents = [
        ["今天的天气很好。我们去公园吧！", "短。", "上一篇：今天的天气很好。"],
        ["完全没有用的标题"],
        ["这里有一个坏词语。", "后面的句子也不要了。"],
        ["  全角ＡＢＣ和\u200b空白　很多的句子。 "],
    ]
    rules = Rules(span=None, near=None, bad_words=("坏词",))
    kept = list(clean(documents, rules, report=report))
    assert kept == [["今天的天气很好。", "我们去公园吧！"], ["全角ABC和空白 很多的句子。"]]
    dropped = {rule: (part.documents, part.lines) for rule, part in report.dropped.items()}
    assert dropped == {
        **{"short": (0, 1), "boilerplate": (0, 1), "no sentence end": (0, 1)},
        **{"bad words": (1, 2)},
    }
    assert report.documents == 4 and report.kept_documents == 2
    assert report.lines == report.kept_lines + sum(part.lines for part in report.dropped.values()) == 8
    assert report.characters == report.kept_characters + sum(
        part.characters for part in report.dropped.values()
    )
    assert report.dropped["short"].examples == ["短。"]


def test_clean_streams() -> None:
    def endless() -> Iterator[list[str]]:
        while True:
            yield ["今天的天气很好。"]

    assert list(itertools.islice(clean(endless(), PLAIN), 3)) == [["今天的天气很好。"]] * 3


def test_simplified() -> None:
    pytest.importorskip("opencc")
    rules = Rules(span=None, near=None, simplified=True)
    assert list(clean([["今天的頭髮發展得很好。"]], rules)) == [["今天的头发发展得很好。"]]


def test_few_sentences() -> None:
    report = Report()
    rules = Rules(span=None, near=None, sentences=2)
    assert list(clean([["今天的天气很好。"], ["一起去公园。", "好的好的。"]], rules, report=report)) == [
        ["一起去公园。", "好的好的。"]
    ]
    assert report.dropped["few sentences"].documents == 1


# Duplicates


def brute_repeated(documents: list[list[str]], span: int) -> list[list[bool]]:
    seen: list[tuple[str, ...]] = []
    out = []
    for lines in documents:
        width = min(span, len(lines))
        marks = [False] * len(lines)
        for first in range(len(lines) - width + 1 if lines else 0):
            key = tuple(lines[first : first + width])
            if key in seen:
                marks[first : first + width] = [True] * width
            seen.append(key)
        out.append(marks)
    return out


@given(st.lists(st.lists(st.sampled_from("甲乙丙"), max_size=6), max_size=5), st.integers(1, 3))
def test_exact_spans_are_those_of_brute_force(documents: list[list[str]], span: int) -> None:
    spans = ExactSpans(span)
    assert [spans.repeated(lines) for lines in documents] == brute_repeated(documents, span)


def jaccard(a: str, b: str, size: int = 5) -> float:
    one, two = ({text[i : i + size] for i in range(len(text) - size + 1)} for text in (a, b))
    return len(one & two) / len(one | two)


def test_minhash_estimates_jaccard() -> None:
    rng = random.Random(0)
    alphabet = [chr(0x4E00 + i) for i in range(500)]
    near = NearDuplicates()
    errors = []
    for changed in range(0, 100, 4):
        text = rng.choices(alphabet, k=300)
        other = [rng.choice(alphabet) if i < changed else char for i, char in enumerate(text)]
        a, b = "".join(text), "".join(other)
        estimate = float((near.signature(a) == near.signature(b)).mean())
        errors.append(estimate - jaccard(a, b))
    assert np.abs(errors).max() < 0.2 and abs(np.mean(errors)) < 0.03


def test_near_duplicates_are_found_and_others_not() -> None:
    rng = random.Random(1)
    alphabet = [chr(0x4E00 + i) for i in range(300)]
    texts = ["".join(rng.choices(alphabet, k=200)) for _ in range(50)]
    near = NearDuplicates()
    assert not any(near.duplicate(text) for text in texts)
    edited = [text[:100] + "改" + text[101:] for text in texts]  # Jaccard 191 / 201 = 0.95
    assert all(near.duplicate(text) for text in edited)
    half = [text[:100] + "".join(rng.choices(alphabet, k=100)) for text in texts]  # about 0.3
    assert not any(near.duplicate(text) for text in half)


def test_short_and_equal_texts() -> None:
    near = NearDuplicates()
    assert [near.duplicate(text) for text in ["好", "好", "坏", "今天天气", "今天天气", ""]] == [
        *(False, True, False, False, True, False)
    ]
    with pytest.raises(InputError, match="near=0.3"):
        NearDuplicates(0.3)


def test_long_texts_are_hashed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(chr(0x4E00 + i * i % 5000) for i in range(3000))
    whole = NearDuplicates().signature(text)
    monkeypatch.setattr("jinyi.train.corpus.duplicates._BLOCK", 6000)
    np.testing.assert_array_equal(NearDuplicates().signature(text), whole)


def test_clean_drops_duplicates() -> None:
    page = ["今天的天气真的很好。", "我们一起去公园玩。", "晚上再一起吃饭吧。"]
    report = Report()
    documents = [page, page, [*page, "这一句是新加上去的。"], ["今天的天气真的很好。"]]
    kept = list(clean(documents, report=report))
    assert kept == [page, ["这一句是新加上去的。"], ["今天的天气真的很好。"]]
    assert (report.dropped["repeated"].lines, report.dropped["repeated"].documents) == (6, 1)
    edited = [page[0], page[1], "晚上再一起吃饭啊。"]
    long = [f"第{i}天的天气真的和前一天完全不同。" for i in range(30)]
    report = Report()
    rules = Rules(span=None)
    assert list(clean([long, [*long[:-1], "最后一天例外啊。"], edited], rules, report=report)) == [
        long,
        edited,
    ]
    assert report.dropped["near duplicate"].documents == 1
