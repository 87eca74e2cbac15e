"""The vocabulary builder: size, order, what is always in it, and that nothing in it is out of reach."""

from __future__ import annotations

import pytest

from jinyi import vocab
from jinyi.errors import InputError
from jinyi.tokens import build_tokenizer

LINES = [
    "怎么修改登录密码？",
    "“今天”天气很好，适合出门……",
    "用 Python 3.11 写的脚本 (version 2)",
    "python 脚本报错 error 404",
    "价格￥99～199，好评😂😂",
] * 3


def test_exact_size_and_fixed_order() -> None:
    entries = vocab.build(LINES, 400)
    assert len(entries) == len(set(entries)) == 400
    assert tuple(entries[:5]) == vocab.SPECIAL_TOKENS
    assert entries == vocab.build(LINES, 400)  # ties are broken the same way every time


def test_punctuation_stays_whatever_the_corpus_holds() -> None:
    tokenizer = build_tokenizer(vocab.build(["无标点"], 300))
    ids = tokenizer.encode("“‘《（，。！？；：、…—）》’”", add_special_tokens=False).ids
    assert tokenizer.token_to_id("[UNK]") not in ids


def test_every_entry_can_be_reached() -> None:
    entries = vocab.build(LINES, 330)
    tokenizer = build_tokenizer(entries)
    tokenizer.encode_special_tokens = True
    for index, entry in enumerate(entries):
        if index < 5 + vocab.SPARE_TOKENS or entry.startswith("[unused"):
            continue
        # A continuation follows something it joins with: a letter, or for symbols another symbol.
        inner = entry[2:]
        text = entry if not entry.startswith("##") else ("a" if inner.isascii() else inner) + inner
        got = tokenizer.encode(text, add_special_tokens=False).ids
        reached = index in got or (entry.startswith("##") and entries[got[0]] == text)
        assert reached, (entry, [entries[i] for i in got])


def test_repeated_symbols_are_not_lost() -> None:
    tokenizer = build_tokenizer(vocab.build(LINES, 400))
    assert "[UNK]" not in tokenizer.encode("好评😂😂").tokens


def test_too_small_is_refused_with_the_least_size() -> None:
    with pytest.raises(InputError, match=r"found size=50; expected at least \d+"):
        vocab.build(LINES, 50)


def test_inspect_counts_what_is_missing() -> None:
    entries = vocab.build(["怎么修改"], 300)
    coverage = vocab.inspect(build_tokenizer(entries), ["怎么龘", "龘"])
    assert (coverage.tokens, coverage.characters, coverage.unknown) == (4, 4, 2)
    assert coverage.missing == [("龘", 2)] and coverage.unknown_rate == 0.5
