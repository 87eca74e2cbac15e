"""Rows that are no text, and options that mean nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer, build_tokenizer
from token_tools import VOCAB, expected


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


ANY_VALUE = st.one_of(st.text(), st.none(), st.integers(), st.floats(), st.binary(), st.lists(st.text()))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(), ANY_VALUE), max_size=4), st.sampled_from(["error", "report", "window"]))
def test_any_value_gives_ids_or_a_clear_error(tokenizer: Tokenizer, values: list[Any], mode: Any) -> None:
    for call in (
        lambda: tokenizer.encode(values, max_length=9, truncate=mode),
        lambda: tokenizer.encode_prompt(values, "的{}", max_length=9, truncate=mode),
        lambda: tokenizer.encode_pairs(list(pairwise(values)), max_length=9, truncate="report"),
        lambda: tokenizer.encode_pairs(values, truncate="report"),
    ):
        try:
            encoded = call()
        except InputError as error:
            assert error.fix
            assert len(str(error)) < 600
        else:
            assert all(0 <= token < tokenizer.vocab_size for row in encoded.ids for token in row)
            assert all(len(row) > 2 for row in encoded.ids)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["世", None], "row 1: found None"),
        (["世", 5], "row 1: found 5 of type int"),
        (["世", b"a"], "row 1: .*decode"),
        (["世", float("nan")], "row 1: .*pandas"),
        (["世", ["界"]], "row 1: .*list"),
        (["世", ""], "row 1: found an empty text"),
        (["世", " \u3000"], "row 1: .*nothing but blanks"),
        (["世", "\u0301\x00"], "row 1: .*nothing but blanks"),
        (["世", "\udc80"], "row 1: found half a character, U\\+DC80"),
        ("世界", "texts: found '世界' of type str"),
        (b"a", "texts: found b'a' of type bytes"),
        (None, "texts: found None"),
        (7, "texts: found 7"),
    ],
)
def test_bad_texts(tokenizer: Tokenizer, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.encode(texts)


def test_rows_are_right_after_a_large_block(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinyi.tokens.inputs._BLOCK", 10)
    texts = ["世界hello" * (i % 4 + 1) for i in range(50)]
    assert tokenizer.encode(texts).ids == expected(tokenizer, texts)
    for bad in (None, "\ud800", ""):
        with pytest.raises(InputError, match="row 43:"):
            tokenizer.encode([*texts[:43], bad, *texts[44:]])  # type: ignore[list-item]


def test_no_texts_and_any_iterable(tokenizer: Tokenizer) -> None:
    nothing = tokenizer.encode([])
    assert nothing.ids == []
    assert nothing.report.total == 0
    assert tokenizer.encode(iter(["世", "界"])).ids == tokenizer.encode(("世", "界")).ids
    assert tokenizer.encode([""], allow_empty=True).ids == [[tokenizer.cls_id, tokenizer.sep_id]]


@pytest.mark.parametrize("limit", [0, 2, -1, 65, "9", 3.5])
def test_bad_limits(tokenizer: Tokenizer, limit: Any) -> None:
    with pytest.raises(InputError, match="max_length"):
        tokenizer.encode(["世"], max_length=limit)


def test_bad_mode(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="'error' or 'warn'"):
        tokenizer.encode(["世"], truncate="silent")  # type: ignore[arg-type]
