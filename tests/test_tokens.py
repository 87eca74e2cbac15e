"""Ids, truncation and bad input of the tokenizer; the library `tokenizers` is the measure of every id."""

from __future__ import annotations

import json
import pickle
import random
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from jinyi.errors import FolderError, InputError, TruncationWarning
from jinyi.text import normalize
from jinyi.tokens import CONTROL_TOKENS, Encoded, Tokenizer, build_tokenizer, split_pair

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCAB = [
    *CONTROL_TOKENS,
    *(f"[unused{i}]" for i in range(1, 5)),
    *"，。、？！：；“”‘’（）《》…—～·￥.,?!:;()[]\"'-+%$<>=/#@&*{}|\\^_`~",
    *"0123456789",
    *(f"##{digit}" for digit in "0123456789"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *("iphone", "##ing", "hello", "wor", "##ld", "##id", "2019", "##00", "😀", "##😀", "##～", "##￥", "é"),
    *map(chr, range(0x4E00, 0x9FA6, 2)),
    *"下是",  # every second character, and what the tests use of the others
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Characters that decide something: each class of the normaliser, control tokens, things that look like them.
TRICKY = st.lists(
    st.sampled_from(
        [
            *(
                "你",
                "好",
                "一",
                "，",
                "。",
                " ",
                "\u3000",
                "\t",
                "\n",
                "\x00",
                "\x0b",
                "\x85",
                "\u200b",
                "\u200d",
            ),
            *(
                "a",
                "B",
                "1",
                "Ａ",
                "１",
                "％",
                "「",
                "』",
                "…",
                "é",
                "e\u0301",
                "\u0301",
                "İ",
                "ß",
                "ﬁ",
                "①",
                "㎏",
            ),
            *(
                "😀",
                "👨\u200d👩\u200d👧",
                "❤\ufe0f",
                "🇨🇳",
                "𠀀",
                "豈",
                "が",
                "한",
                "ا",
                "ก",
                "\ufffd",
                "\ue000",
            ),
            *("[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]", "[unused1]", "[mask]", "##你", "[", "]"),
            *(
                "hello",
                "iphone",
                "2019",
                "≠",
                "；",
                "\u037e",
                "ａ",
                "～",
                "￥",
                "x" * 99,
                "x" * 101,
                "\u0301" * 120,
            ),
        ]
    ),
    max_size=30,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB, fold=False), max_length=64)


@pytest.fixture(scope="module")
def cased() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB, lowercase=False), max_length=64)


def tokens(tokenizer: Tokenizer, encoded: Encoded) -> list[str]:
    return [" ".join(tokenizer.vocab[i] for i in row) for row in encoded.ids]


def expected(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [row.ids for row in tokenizer.backend.encode_batch(texts)]


def whole(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids without any cut: windows long enough for everything."""
    return _wide(tokenizer).encode(texts, allow_empty=True).ids


@cache
def _wide(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizer.backend, max_length=1 << 24)


# --- ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("你好，世界。", "[CLS] 你 [UNK] ， 世 界 。 [SEP]"),
        ("ＡＢ１％「世」", "[CLS] a ##b ##1 % “ 世 ” [SEP]"),
        ("Hello World 2019", "[CLS] hello wor ##ld 2019 [SEP]"),
        ("世[MASK]界", "[CLS] 世 [ m ##a ##s ##k ] 界 [SEP]"),
        ("😀😀", "[CLS] 😀 ##😀 [SEP]"),
        ("🦄🦄🦄", "[CLS] [UNK] [SEP]"),
        ("世\x00\u200b界", "[CLS] 世 界 [SEP]"),
        ("a\x00b", "[CLS] a ##b [SEP]"),
        ("Éé", "[CLS] e ##e [SEP]"),
    ],
)
def test_ids_by_example(tokenizer: Tokenizer, text: str, ids: str) -> None:
    assert tokens(tokenizer, tokenizer.encode([text])) == [ids]


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.one_of(ANY_TEXT, TRICKY), max_size=6), kind=st.sampled_from(["fold", "plain", "cased"])
)
def test_ids_are_those_of_the_library(
    texts: list[str], kind: str, tokenizer: Tokenizer, plain: Tokenizer, cased: Tokenizer
) -> None:
    chosen = {"fold": tokenizer, "plain": plain, "cased": cased}[kind]
    assert whole(chosen, texts) == expected(chosen, texts)


def test_every_character_has_the_id_of_the_library(tokenizer: Tokenizer) -> None:
    codes = [
        *range(0x3000),
        *range(0x3000, 0xD800, 31),
        *range(0xE000, 0x110000, 397),
        *range(0xFE00, 0x10000),
    ]
    texts = [f"世{chr(code)}b{chr(code)}{chr(code)}，1{chr(code)}" for code in codes]
    assert whole(tokenizer, texts) == expected(tokenizer, texts)


@settings(max_examples=200, deadline=None)
@given(TRICKY)
def test_normalize_keeps_the_ids(tokenizer: Tokenizer, text: str) -> None:
    assert whole(tokenizer, [normalize(text)]) == whole(tokenizer, [text])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(ANY_TEXT, TRICKY), min_size=1, max_size=4))
def test_text_never_makes_a_control_token(tokenizer: Tokenizer, texts: list[str]) -> None:
    control = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    for row in whole(tokenizer, texts):
        assert row[0] == tokenizer.cls_id
        assert row[-1] == tokenizer.sep_id
        assert not control & set(row[1:-1])


def test_a_tokenizer_with_unusual_steps_gives_the_ids_of_the_library() -> None:
    odd = build_tokenizer(VOCAB)
    odd.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    odd.pre_tokenizer = pre_tokenizers.Whitespace()
    added = build_tokenizer(VOCAB)
    added.add_tokens([AddedToken("界世", normalized=False)])
    for backend in (odd, added):
        opened = Tokenizer(backend)
        texts = ["世界，hello", "界世界 [MASK] ①", "ＡＢ"]
        assert opened.encode(texts).ids == expected(opened, texts)
    assert opened.vocab_size == len(VOCAB) + 1
    with pytest.raises(InputError, match="row 1"):
        opened.encode(["世", "\ud800"])


def test_threads_and_many_words_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinyi.wordpiece._MAX_WORDS", 50)
    shared = Tokenizer(build_tokenizer(VOCAB))
    rng = random.Random(5)
    jobs = [
        ["".join(rng.choices(LETTERS + " 世界，", k=20)) + "x" for _ in range(rng.randint(1, 60))]
        for _ in range(40)
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda job: shared.encode(job).ids, jobs))
    assert answers == [expected(shared, job) for job in jobs]


def test_a_pickled_copy_is_the_same(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.max_length == tokenizer.max_length
    assert copy.encode(["世[MASK]界"]).ids == tokenizer.encode(["世[MASK]界"]).ids


def test_views_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab == VOCAB
    assert tokenizer.vocab_size == len(VOCAB)
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id] == [
        *range(5)
    ]
    assert tokenizer.lowercase is True
    assert [VOCAB[i] for i in tokenizer.ids_of_word("世界")] == ["世", "界"]
    assert tokenizer.ids_of_word(" ") == []


# --- what is cut


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


# --- pairs


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


# --- prompts


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


# --- bad input and extremes

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


@pytest.mark.parametrize(
    ("char", "kept"),
    [
        ("世", 62),
        ("a", 1),
        ("1", 1),
        ("😀", 1),
        ("a\u0301", 1),
        ("a ", 62),
        ("，", 62),
        ("𠀀", 62),
        ("a\x00", 1),
    ],
)
def test_a_megabyte_of_one_character_takes_a_moment(tokenizer: Tokenizer, char: str, kept: int) -> None:
    text = char * (1_000_000 // len(char))
    start = time.perf_counter()
    encoded = tokenizer.encode([text], truncate="report")
    assert time.perf_counter() - start < 2  # the library takes 8 s for Chinese characters on the same machine
    assert len(encoded.ids[0]) == kept + 2


@pytest.mark.parametrize("char", ["a", "\u0301", "a\u0301", "😀", "Ａ\x00", "é"])
@pytest.mark.parametrize("size", [49, 50, 51, 99, 100, 101, 102, 300])
def test_long_words_are_exact(tokenizer: Tokenizer, cased: Tokenizer, char: str, size: int) -> None:
    for chosen in (tokenizer, cased):
        texts = [char * size, f"世{char * size}界", f"b{char * size}，"]
        assert whole(chosen, texts) == expected(chosen, texts)


# --- files


def write_vocab(folder: Path, entries: list[str] = VOCAB, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_bytes(("\n".join(entries) + "\n").encode())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_from_folder_prefers_tokenizer_json(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_vocab(tmp_path, model_max_length=33)
    assert Tokenizer.from_folder(tmp_path).encode(["Ａ"]).ids == [[2, 1, 3]]
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    opened = Tokenizer.from_folder(tmp_path)
    assert opened.encode(["Ａ"]).ids == tokenizer.encode(["a"]).ids
    assert opened.max_length == 33
    assert Tokenizer.from_folder(tmp_path, max_length=20).max_length == 20


@pytest.mark.parametrize("stated", [1e30, None, "x", -1, True])
def test_a_length_without_meaning_is_512(tmp_path: Path, stated: Any) -> None:
    assert Tokenizer.from_folder(write_vocab(tmp_path, model_max_length=stated)).max_length == 512


def test_truncation_and_padding_of_a_file_are_switched_off(tmp_path: Path) -> None:
    backend = build_tokenizer(VOCAB)
    backend.enable_truncation(8)
    backend.enable_padding(length=16)
    backend.save(str(tmp_path / "tokenizer.json"))
    opened = Tokenizer.from_folder(tmp_path)
    assert list(map(len, opened.encode(["世", "世" * 20]).ids)) == [3, 22]
    assert json.loads(opened.to_str())["truncation"] is None


def test_case_of_a_vocab_folder_follows_its_settings(tmp_path: Path) -> None:
    entries = [*VOCAB, "A", "É"]
    cased = Tokenizer.from_folder(write_vocab(tmp_path / "cased", entries, do_lower_case=False))
    assert tokens(cased, cased.encode(["AÉ É"])) == ["[CLS] [UNK] É [SEP]"]
    accents = write_vocab(tmp_path / "accents", entries, do_lower_case=True, strip_accents=False)
    assert tokens(cased, Tokenizer.from_folder(accents).encode(["É"])) == ["[CLS] é [SEP]"]
    joined = write_vocab(tmp_path / "joined", entries, tokenize_chinese_chars=False)
    assert tokens(cased, Tokenizer.from_folder(joined).encode(["世界"])) == ["[CLS] [UNK] [SEP]"]


def test_a_vocab_with_line_ends_of_windows_and_a_double_entry(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*VOCAB, "世"]).encode())
    opened = Tokenizer.from_folder(tmp_path)
    assert opened.encode(["世"]).ids == [[2, len(VOCAB), 3]]
    assert opened.vocab_size == len(VOCAB) + 1
    assert opened.vocab[VOCAB.index("世")] == ""


def bad_folders() -> dict[str, tuple[Callable[[Path], object], str]]:
    bpe = Backend(models.BPE()).to_str()
    half = build_tokenizer(VOCAB).to_str()[:1000]
    return {
        "nothing there": (lambda f: None, "no tokenizer.json and no vocab.txt"),
        "no mask": (lambda f: write_vocab(f, [t for t in VOCAB if t != "[MASK]"]), r"without \[MASK\]"),
        "gbk": (lambda f: (f / "vocab.txt").write_bytes("世界".encode("gbk")), "not UTF-8"),
        "half a file": (lambda f: (f / "tokenizer.json").write_text(half, encoding="utf-8"), "cannot read"),
        "another kind": (lambda f: (f / "tokenizer.json").write_text(bpe, encoding="utf-8"), "of type BPE"),
        "settings": (
            lambda f: (write_vocab(f) / "tokenizer_config.json").write_text("{", "utf-8"),
            "damaged JSON",
        ),
    }


@pytest.mark.parametrize("case", bad_folders())
def test_bad_folders(tmp_path: Path, case: str) -> None:
    make, message = bad_folders()[case]
    make(tmp_path)
    with pytest.raises(FolderError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_a_missing_folder_or_file(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no such folder"):
        Tokenizer.from_folder(tmp_path / "x")
    with pytest.raises(FolderError, match="no such file"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_files_that_disagree_on_case(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_vocab(tmp_path, do_lower_case=False)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    with pytest.raises(FolderError, match="do_lower_case False"):
        Tokenizer.from_folder(tmp_path)


def test_a_wordpiece_file_without_control_tokens() -> None:
    with pytest.raises(FolderError, match=r"without \[PAD\]"):
        Tokenizer(Backend(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")))


def test_bad_vocabularies() -> None:
    with pytest.raises(InputError, match=r"without \[CLS\]"):
        build_tokenizer([token for token in VOCAB if token != "[CLS]"])
    with pytest.raises(InputError, match="'世' more than once"):
        build_tokenizer([*VOCAB, "世"])


# --- speed and the other readers


def mixed_lines(count: int) -> list[str]:
    """Chinese, Latin, digits, emoji, full-width, rare characters, controls and accents, mixed at random."""
    rng = random.Random(11)
    alphabets = [
        [chr(c) for c in range(0x4E00, 0x9FA6)],
        list("，。！？：；（）“”‘’、《》…—·「」『』【】"),
        list(LETTERS + LETTERS.upper() + "0123456789"),
        ["hello", "iPhone", "2019", "WORLD", " ", " ", "3.5", "a@b.cn", "##ing", "don't"],
        [chr(c) for c in range(0xFF01, 0xFF5F)] + ["\u3000"],
        list("😀🎉❤👍🏽🇨🇳") + ["\ufe0f", "\u200d"],
        [chr(c) for c in (*range(0x3400, 0x3500), *range(0x20000, 0x20100), *range(0xF900, 0xFB00))],
        [chr(c) for c in (*range(0x20), 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x2028, 0xFEFF, 0xFFFD, 0xE000)],
        ["é", "ü", "Å", "e\u0301", "\u0301", "ñ", "ß", "İ", "Σ", "я", "が", "한", "ก็", "ا"],
    ]
    weights = [12, 3, 3, 2, 1, 1, 1, 1, 1]
    lines = []
    for _ in range(count):
        parts = rng.choices(alphabets, weights, k=rng.randint(1, 24))
        lines.append("".join(rng.choice(part) for part in parts))
    return lines


def test_mixed_lines_have_the_ids_of_the_library(tokenizer: Tokenizer, cased: Tokenizer) -> None:
    lines = mixed_lines(3000)
    for chosen in (tokenizer, cased):
        assert whole(chosen, lines) == expected(chosen, lines)


@pytest.mark.slow
@pytest.mark.parametrize("lowercase", [True, False])
def test_100000_lines_have_the_ids_of_transformers(tmp_path: Path, lowercase: bool) -> None:
    from transformers import BertTokenizer

    folder = write_vocab(tmp_path, do_lower_case=lowercase, model_max_length=512)
    measure, ours = BertTokenizer.from_pretrained(folder), Tokenizer.from_folder(folder)
    lines = mixed_lines(100_000 if lowercase else 20_000)
    for start in range(0, len(lines), 10_000):
        part = lines[start : start + 10_000]
        assert ours.encode(part, allow_empty=True).ids == measure(part)["input_ids"]


@pytest.mark.slow
def test_a_folder_of_ours_has_the_same_ids_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from jinyi.folder.layout import tokenizer_files

    backend = build_tokenizer(VOCAB)
    for name, text in tokenizer_files(json.loads(backend.to_str()), 512).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    measure, ours = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_folder(tmp_path)
    lines = mixed_lines(5000)
    assert ours.encode(lines, allow_empty=True).ids == measure(lines)["input_ids"]
    pairs = [("「世」Ａ", "界１％"), ("世" * 9, "界")]
    both = measure([a for a, _ in pairs], [b for _, b in pairs])
    encoded = ours.encode_pairs(pairs)
    assert encoded.ids == both["input_ids"]
    assert encoded.splits == [row.count(0) for row in both["token_type_ids"]]


@pytest.mark.slow
def test_short_texts_are_faster_than_the_library(tokenizer: Tokenizer) -> None:
    rng = random.Random(2)
    texts = [
        "".join(rng.choices("世界的一是在不了有和人这中大为上个国我以要他", k=13)) + "2019"
        for _ in range(5000)
    ]
    ours, theirs = [], []
    for _ in range(5):
        for call, times in ((tokenizer.encode, ours), (tokenizer.backend.encode_batch_fast, theirs)):
            start = time.perf_counter()
            call(texts)
            times.append(time.perf_counter() - start)
    assert min(ours) * 3 < min(theirs)
