"""Ids of texts: those of the library `tokenizers`, and sooner."""

from __future__ import annotations

import json
import pickle
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from jinyi.errors import InputError
from jinyi.text import normalize
from jinyi.tokens import Tokenizer, build_tokenizer
from token_tools import ANY_TEXT, LETTERS, TRICKY, VOCAB, expected, mixed_lines, tokens, whole, write_vocab


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB, fold=False), max_length=64)


@pytest.fixture(scope="module")
def cased() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB, lowercase=False), max_length=64)


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


@pytest.mark.parametrize("char", ["a", "\u0301", "a\u0301", "😀", "Ａ\x00", "é"])
@pytest.mark.parametrize("size", [49, 50, 51, 99, 100, 101, 102, 300])
def test_long_words_are_exact(tokenizer: Tokenizer, cased: Tokenizer, char: str, size: int) -> None:
    for chosen in (tokenizer, cased):
        texts = [char * size, f"世{char * size}界", f"b{char * size}，"]
        assert whole(chosen, texts) == expected(chosen, texts)


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
    start = time.process_time()
    encoded = tokenizer.encode([text], truncate="report")
    assert time.process_time() - start < 2  # the library takes 8 s for Chinese characters on the same machine
    assert len(encoded.ids[0]) == kept + 2


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
