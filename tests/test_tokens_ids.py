"""Texts that come as token ids already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import jinyi
from jinyi.errors import InputError
from jinyi.models.work import run
from jinyi.tokens import Tokenizer, build_tokenizer
from small_models import VOCAB

TEXTS = ["怎么改密码？", "今天天气很好", "a1"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=12)


def test_framed_or_bare_they_are_the_texts_rows(tokenizer: Tokenizer) -> None:
    texts = tokenizer.encode(TEXTS)
    bare = [row[1:-1] for row in texts.ids]
    for rows in (texts.ids, bare, [np.asarray(row) for row in bare], [tuple(row[:-1]) for row in texts.ids]):
        encoded = tokenizer.encode_ids(rows)
        assert encoded.ids == texts.ids and encoded.splits == texts.splits
        assert all(type(token) is int for row in encoded.ids for token in row)
        assert encoded.masks is None and encoded.report.cut == 0 and encoded.owners.tolist() == [0, 1, 2]


def test_control_tokens_inside_stay(tokenizer: Tokenizer) -> None:
    cls, sep, mask = tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    assert tokenizer.encode_ids([[cls, 7, sep, mask, 8]]).ids == [[cls, 7, sep, mask, 8, sep]]


def test_a_prefix_is_part_of_each_row(tokenizer: Tokenizer) -> None:
    bare = [row[1:-1] for row in tokenizer.encode(TEXTS).ids]
    prefixed = tokenizer.encode(["关于" + text for text in TEXTS])
    assert tokenizer.encode_ids(bare, prefix="关于").ids == prefixed.ids


def test_too_long_ones(tokenizer: Tokenizer) -> None:
    rows = [[7] * 20, [8] * 3]
    cut = tokenizer.encode_ids(rows, truncate="report")
    assert cut.ids[0] == [tokenizer.cls_id, *[7] * 10, tokenizer.sep_id]
    assert cut.report.rows.tolist() == [0] and cut.report.lost.tolist() == [10]
    assert len(tokenizer.encode_ids(rows, truncate="window").ids) > 2
    with pytest.raises(InputError, match="row 0 has 22"):
        tokenizer.encode_ids(rows, truncate="error")


@pytest.mark.parametrize(
    "row",
    [
        [],
        [2],
        [3],
        [2, 3],
        [-1],
        [len(VOCAB)],
        [1.5],
        ["今"],
        [None],
        5,
        "今",
        b"ab",
        np.array(5),
        np.zeros((2, 2), int),
    ],
)
def test_what_is_no_row(tokenizer: Tokenizer, row: object) -> None:
    with pytest.raises(InputError, match=r"row 1: found token ids") as caught:
        tokenizer.encode_ids([[7], row])  # type: ignore[list-item]
    assert f"ids from 0 to {len(VOCAB) - 1}" in caught.value.expected


def test_an_encoder_takes_them(folders: dict[str, Path]) -> None:
    encoder = jinyi.SentenceEncoder.load(folders["embed"])
    rows = [row[1:-1] for row in encoder.source.tokenizer.encode(TEXTS).ids]
    np.testing.assert_allclose(run(encoder.prepare(rows)), encoder.encode(TEXTS), rtol=0, atol=1e-6)
    states = run(encoder.prepare_tokens(rows))
    assert [state.shape for state in states] == [(len(row) + 2, 32) for row in rows]
    for wrong in ([["今天"]], [[7], "今天"]):
        with pytest.raises(InputError):
            encoder.prepare(wrong)  # type: ignore[arg-type]
