"""Checks, normalisation, sentences and words."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi import text as text_module
from jinyi.errors import InputError, MissingExtraError
from jinyi.text import FOLDS, check_text, normalize, split_sentences, split_words

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "None"),
        (3, "3 of type int"),
        (3.5, "3.5 of type float"),
        (float("nan"), "nan of type float"),
        (True, "True of type bool"),
        (b"\xe4\xbd\xa0", "of type bytes"),
        (["你好"], "of type list"),
        ("", "an empty text"),
        ("  \t\r\n　 ", "nothing but blanks"),
        ("\x00\x07\u200b\ufeff", "nothing but blanks"),
        ("\ufffd", "nothing but blanks"),
        ("\u0301", "nothing but blanks"),
        ("坏\ud83d了", "half a character, U+D83D, at position 1"),
    ],
)
def test_a_bad_text_is_named_with_its_place(value: Any, found: str) -> None:
    with pytest.raises(InputError) as caught:
        check_text(value, "row 7")
    assert str(caught.value).startswith("row 7: found ")
    assert found in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("value", ["你好", " a ", "😀", "。", "a\x00b", "中\ufffd", "[SEP]", "\ue000字"])
def test_a_readable_text_comes_back_unchanged(value: str) -> None:
    assert check_text(value, "row 0") is value


def test_the_named_repair_of_half_characters_works() -> None:
    repaired = "好\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert check_text(repaired) == "好😀"


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        check_text(" " * 1_000_000)
    assert len(str(caught.value)) < 200


def test_folds_are_single_characters_and_final() -> None:
    assert all(len(old) == len(new) == 1 for old, new in FOLDS.items())
    assert not set(FOLDS) & set(FOLDS.values())
    assert not set("，。！？：；（）、《》“”‘’…—～") & set(FOLDS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ＡＢＣａ１２％＋［］", "ABCa12%+[]"),
        ("你好，（真的）！？：；～", "你好，（真的）！？：；～"),
        ("「甲」『乙』〝丙〞＂丁＇", "“甲”‘乙’“丙”\"丁'"),
        ("约翰・史密斯⋯⋯──¥5", "约翰·史密斯……——￥5"),
        ("\ufeff 你\u3000 \t\r\n好\u200b\x00\u2028吗 ", "你 好 吗"),
        ("e\u0301É", "e\u0301É"),
        ("👨\u200d👩", "👨👩"),
    ],
)
def test_normalize(before: str, after: str) -> None:
    assert normalize(before) == after


def test_nfkc_keeps_chinese_punctuation() -> None:
    assert normalize("①㎏ﬁ⼀，（…）～ＡＢ！", nfkc=True) == "1kgfi一，（…）～AB！"


@given(ANY_TEXT, st.booleans())
def test_normalizing_twice_changes_nothing(text: str, nfkc: bool) -> None:
    once = normalize(text, nfkc=nfkc)
    assert normalize(once, nfkc=nfkc) == once
    assert once == once.strip()
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Co") for char in once)


def test_traditional_to_simplified() -> None:
    assert normalize("頭髮和發展「軟體」", simplified=True) == "头发和发展“软体”"


@pytest.mark.parametrize(
    ("package", "call"),
    [("opencc", lambda: normalize("頭髮", simplified=True)), ("rjieba", lambda: split_words("今天"))],
)
def test_a_missing_extra_is_named(package: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    text_module._opencc.cache_clear()
    text_module._rjieba.cache_clear()
    with pytest.raises(MissingExtraError, match=r"jinyi\[zh\]"):
        call()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("你好。再见！", ["你好。", "再见！"]),
        ("“真的吗？！”他说……然后走了", ["“真的吗？！”", "他说……", "然后走了"]),
        ("（好的。）《书？》下一句", ["（好的。）", "《书？》", "下一句"]),
        ("第一行\n\n 第二行\r\n第三行", ["第一行", "第二行", "第三行"]),
        ("见 http://a.cn/?a=1;b=2 好吗? 好!好", ["见 http://a.cn/?a=1;b=2 好吗?", "好!", "好"]),
        ("3.14，没有句号", ["3.14，没有句号"]),
        ("。。。", ["。。。"]),
        (" \n ", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(ANY_TEXT)
def test_sentences_lose_nothing_but_white_space(text: str) -> None:
    def ink(part: str) -> str:
        return "".join(part.split())

    sentences = split_sentences(text)
    assert ink("".join(sentences)) == ink(text)
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize("text", ["今天天气真好 abc 123，😀", "", "  ", "\x00"])
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


def test_words_by_a_function_of_the_user() -> None:
    assert split_words("你好 吗", lambda text: text.partition(" ")) == ["你好", " ", "吗"]
    with pytest.raises(InputError, match="segment"):
        split_words("你好 吗", str.split)
