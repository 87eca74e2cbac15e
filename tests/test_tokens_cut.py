"""What becomes of texts that are too long: cut, refused, or read in windows."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi.errors import InputError, TruncationWarning
from jinyi.tokens import Tokenizer, build_tokenizer
from token_tools import TRICKY, VOCAB, whole


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


def test_short_texts_are_not_cut_and_give_no_warning(tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = tokenizer.encode(["世" * 62, "界"])
    assert encoded.report.cut == 0
    assert str(encoded.report) == "none of 2 texts cut"
    assert encoded.owners.tolist() == [0, 1]
    assert encoded.splits == [64, 3]
    assert encoded.masks is None


def test_a_cut_is_reported_and_warned_of_once(tokenizer: Tokenizer) -> None:
    texts = ["世", "世" * 63, "界" * 70]
    with pytest.warns(TruncationWarning) as caught:
        encoded = tokenizer.encode(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "2 of 3 texts cut, 9 tokens not read (rows 1, 2)" in str(caught[0].message)
    assert encoded.report.rows.tolist() == [1, 2]
    assert encoded.report.lost.tolist() == [1, 8]
    assert encoded.report.tokens_lost == 9
    assert list(map(len, encoded.ids)) == [3, 64, 64]


def test_error_names_rows_and_lengths(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer.encode(["世", "世" * 63], truncate="error")
    assert "row 1 has 65" in str(caught.value)
    assert "at most 64 tokens" in str(caught.value)


def test_report_neither_warns_nor_raises(tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.encode(["世" * 100], truncate="report").report.tokens_lost == 38


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TRICKY, st.just("世" * 50)), min_size=1, max_size=5), st.integers(3, 20))
def test_a_cut_text_is_the_beginning_of_the_whole_one(
    tokenizer: Tokenizer, texts: list[str], limit: int
) -> None:
    encoded = tokenizer.encode(texts, max_length=limit, truncate="report", allow_empty=True)
    for row, (ids, full) in enumerate(zip(encoded.ids, whole(tokenizer, texts), strict=True)):
        assert ids == (full if len(full) <= limit else [*full[: limit - 1], tokenizer.sep_id])
        assert (row in encoded.report.rows) == (len(full) > limit)
    assert encoded.report.tokens_lost == sum(max(0, len(full) - limit) for full in whole(tokenizer, texts))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TRICKY, st.just("世界" * 50)), min_size=1, max_size=5), st.integers(3, 20))
def test_windows_hold_every_token_and_are_full(tokenizer: Tokenizer, texts: list[str], limit: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = tokenizer.encode(texts, max_length=limit, truncate="window", allow_empty=True)
    assert encoded.report.cut == 0
    room = limit - 2
    for row, full in enumerate(whole(tokenizer, texts)):
        bodies = [encoded.ids[i][1:-1] for i in np.flatnonzero(encoded.owners == row)]
        body = full[1:-1]
        if len(body) <= room:
            assert bodies == [body]
            continue
        assert all(len(window) == room for window in bodies)
        last = len(body) - room
        starts = [round_down * last // (len(bodies) - 1) for round_down in range(len(bodies))]
        assert [body[start : start + room] for start in starts] == bodies
        assert all(b - a <= room - room // 4 for a, b in pairwise(starts))
    assert encoded.owners.tolist() == sorted(encoded.owners.tolist())
