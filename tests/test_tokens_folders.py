"""A tokenizer read from the files of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from jinyi.errors import FolderError, InputError
from jinyi.tokens import Tokenizer, build_tokenizer
from token_tools import VOCAB, tokens, write_vocab


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=64)


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
