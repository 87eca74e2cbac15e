"""Ids of pairs, and of texts in a prompt."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi.errors import InputError, TruncationWarning
from jinyi.tokens import Tokenizer, build_tokenizer, split_pair
from token_tools import VOCAB, tokens


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


def test_pairs(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_pairs([("世", "界 a"), ["b", "世[SEP]"]])
    assert tokens(tokenizer, encoded) == ["[CLS] 世 [SEP] 界 a [SEP]", "[CLS] b [SEP] 世 [ s ##e ##p ] [SEP]"]
    assert encoded.splits == [3, 3]
    assert tokenizer.encode_pairs([("世", "界")], segment_ids="zeros").splits == [5]
    assert tokenizer.encode_pairs([]).ids == []


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(4, 24))
def test_pairs_are_cut_as_the_library_does(tokenizer: Tokenizer, first: int, second: int, limit: int) -> None:
    pair = ("世" * first, "界" * second)
    encoded = tokenizer.encode_pairs([pair], max_length=limit, truncate="report")
    try:
        tokenizer.backend.enable_truncation(limit, strategy="longest_first")
        measure = tokenizer.backend.encode(*pair)
    finally:
        tokenizer.backend.no_truncation()
    assert encoded.ids == [measure.ids]
    assert encoded.splits == [measure.type_ids.count(0)]
    assert encoded.report.tokens_lost == max(0, first + second + 3 - limit)


def test_pairs_too_long(tokenizer: Tokenizer) -> None:
    with pytest.warns(TruncationWarning, match="1 of 2 texts cut, 13 tokens") as caught:
        tokenizer.encode_pairs([("世", "界"), ("世" * 4, "界" * 70)])
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match="row 1 has 65"):
        tokenizer.encode_pairs([("世", "界"), ("世", "界" * 61)], truncate="error")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("世", "界"), ("世", None)], "row 1, second text: found None"),
        ([("世", "界"), ("", "界")], "row 1, first text: found an empty text"),
        ([("世",)], "row 0: .*1 instead of two"),
        ([("世", "界", "人")], "row 0: .*3 instead of two"),
        (["世[SEP]界"], "row 0: .*split_pair"),
        ([None], "row 0: found None"),
        (None, "found None"),
        ("世界", "found '世界' of type str"),
        ([("世", "\ud83d")], "row 0, second text: found half a character"),
        ([("世", 5)], "row 0, second text: found 5 of type int"),
    ],
)
def test_bad_pairs(tokenizer: Tokenizer, pairs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.encode_pairs(pairs)


def test_pairs_have_no_windows_and_two_kinds_of_segments(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="no meaning for them"):
        tokenizer.encode_pairs([("世", "界")], truncate="window")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="segment_ids"):
        tokenizer.encode_pairs([("世", "界")], segment_ids="both")  # type: ignore[arg-type]


def test_split_pair() -> None:
    assert split_pair("今天心情不好[SEP]今天很开心") == ("今天心情不好", "今天很开心")
    assert split_pair(" a [SEP] b ") == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("今天", "row 2: found '今天' with no"),
        ("a[SEP]b[SEP]c", "with 2 \\[SEP\\]"),
        ("[SEP]b", "row 2, first text: found an empty text"),
        ("a[SEP] ", "row 2, second text: found an empty text"),
        (None, "row 2: found None"),
    ],
)
def test_bad_one_string_pairs(text: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_pair(text, "row 2")


def test_prompt_before_the_text(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_prompt(["世界", "a"], "下{}的：", 2)
    assert tokens(tokenizer, encoded)[1] == "[CLS] 下 [MASK] [MASK] 的 ： a [SEP]"
    assert encoded.masks == [[2, 3], [2, 3]]
    assert encoded.splits == list(map(len, encoded.ids))


def test_prompt_around_and_behind_the_text(tokenizer: Tokenizer) -> None:
    around = tokenizer.encode_prompt(["世界", "a"], "一{text}是{}。", 2)
    assert tokens(tokenizer, around) == [
        "[CLS] 一 世 界 是 [MASK] [MASK] 。 [SEP]",
        "[CLS] 一 a 是 [MASK] [MASK] 。 [SEP]",
    ]
    assert around.masks == [[5, 6], [4, 5]]
    ahead = tokenizer.encode_prompt(["世"], "{}{text}。")
    assert tokens(tokenizer, ahead) == ["[CLS] [MASK] 世 。 [SEP]"]


def test_the_text_of_a_prompt_is_no_template_and_no_control(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_prompt(["{}[MASK]{text}"], "一{}")
    assert encoded.masks == [[2]]
    assert encoded.ids[0].count(tokenizer.mask_id) == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(9, 30), st.sampled_from(["warn", "window"]), st.integers(1, 3))
def test_the_prompt_is_never_cut(
    tokenizer: Tokenizer, size: int, limit: int, mode: Any, n_masks: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        encoded = tokenizer.encode_prompt(
            ["界" * size], "一{text}是{}。", n_masks, max_length=limit, truncate=mode
        )
    assert encoded.masks is not None
    for ids, masks in zip(encoded.ids, encoded.masks, strict=True):
        assert len(ids) <= limit
        assert tokenizer.vocab[ids[1]] == "一"
        assert [tokenizer.vocab[i] for i in ids[-n_masks - 3 :]] == [
            "是",
            *["[MASK]"] * n_masks,
            "。",
            "[SEP]",
        ]
        assert [ids[place] for place in masks] == [tokenizer.mask_id] * n_masks
    assert encoded.report.cut == (mode == "warn" and size > limit - 5 - n_masks)


@pytest.mark.parametrize(
    ("prompt", "n_masks", "message"),
    [
        ("没有", 1, r"one \{\}"),
        ("[MASK]的", 1, "plain text"),
        ("{}{}", 1, r"one \{\}"),
        ("{}{text}{text}", 1, "at most one"),
        ("", 1, "prompt: found an empty text"),
        (None, 1, "prompt: found None"),
        ("{}", 0, "n_masks"),
        ("一" * 61 + "{}", 1, "at least 65"),
    ],
)
def test_bad_prompts(tokenizer: Tokenizer, prompt: Any, n_masks: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.encode_prompt(["世"], prompt, n_masks)
