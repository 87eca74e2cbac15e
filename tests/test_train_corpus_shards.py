"""Token shards with word boundaries."""

from __future__ import annotations

import errno
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_tools import TOKENIZER, characters, marked, pairs
from jinyi.errors import FolderError, InputError, MissingExtraError
from jinyi.folder.atomic import StagedFolder
from jinyi.text import _rjieba
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.corpus import Shards, write_shards
from jinyi.train.corpus.words import WordEncoder
from small_models import VOCAB

# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("怎么|修改|密码", "|怎么|修改|密码"),
        ("怎么| |改", "|怎么|改"),  # the blank is a word and no token
        ("ab|改", "|a##b|改"),
        ("怎么改|密码", "|怎么改|密码"),
        ("\u200b怎么|\u200b改", "|怎么|改"),  # a word that begins with a character that is dropped
        ("a|b|改", "|a|##b|改"),  # one WordPiece word: its pieces count to words where they begin
        ("龘龘|改", "|[UNK][UNK]|改"),
        ("[MASK]|改", "|[UNK]" + "[UNK]" * 2 + "|改"),
    ],
)
def test_word_starts(text: str, expected: str) -> None:
    assert marked(text) == expected


@given(st.lists(st.text(alphabet="怎么改密码ab1 😂é，\u200b[UNK]", max_size=12), max_size=6))
def test_ids_are_the_tokenizers_whatever_the_words(texts: list[str]) -> None:
    ids, starts, counts = WordEncoder(TOKENIZER, characters)(texts)
    rows = TOKENIZER.encode(texts, truncate="report", allow_empty=True).ids
    assert ids.tolist() == [token for row in rows for token in row[1:-1]]
    assert counts.tolist() == [len(row) - 2 for row in rows]
    assert starts.shape == ids.shape and starts.dtype == bool
    bounds = np.cumsum(counts)[:-1][counts[1:] > 0]
    assert starts[bounds[bounds < len(starts)]].all()  # the first token of a text begins a word


NASTY = st.text(alphabet="怎么改密ab12##é\u0301😂龘，～ \u3000\u200b\ufffd\x00[]İß", max_size=14)


@given(st.lists(NASTY, max_size=5), st.sampled_from([characters, pairs]))
def test_table_and_library_mark_the_same_tokens(texts: list[str], segment) -> None:
    fast, slow = WordEncoder(TOKENIZER, segment), WordEncoder(TOKENIZER, segment)
    assert fast._table is not None
    slow._table = None  # as with a tokenizer the table cannot reproduce
    for one, other in zip(fast(texts), slow(texts), strict=True):
        np.testing.assert_array_equal(one, other)


def test_segmenter_that_changes_the_text_is_refused() -> None:
    with pytest.raises(InputError, match="words that join to"):
        WordEncoder(TOKENIZER, lambda text: text.split())(["怎么 改"])


def test_without_rjieba_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    _rjieba.cache_clear()
    with pytest.raises(MissingExtraError, match="no package rjieba"):
        write_shards(DOCUMENTS, TOKENIZER, tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []


def test_rjieba_is_the_default() -> None:
    pytest.importorskip("rjieba")
    _, starts, _ = WordEncoder(TOKENIZER)(["怎么修改密码"])
    assert starts.tolist() == [True, False, True, False, True, False]


# Shards

DOCUMENTS = [["怎么改密码？", "今天天气很好。"], ["心情不好！"], ["财经新闻", "", "体育新闻。"]]


def test_shards_hold_the_corpus(tmp_path: Path) -> None:
    path = write_shards([*DOCUMENTS, ["", "\u200b"]], TOKENIZER, tmp_path / "shards", words=characters)
    shards = Shards.open(path)
    assert shards.ids.dtype == np.uint16 and isinstance(shards.ids, np.memmap)
    assert shards.starts.dtype == np.uint8 and shards.starts.all()
    back = []
    for first, last in itertools.pairwise(shards.documents):
        bounds = shards.sentences[first : last + 1]
        rows = [shards.ids[a:b] for a, b in itertools.pairwise(bounds)]
        back.append(["".join(VOCAB[i] for i in row) for row in rows])
    assert back == [[line for line in document if line] for document in DOCUMENTS]
    assert shards.tokens == len(shards.ids) == shards.sentences[-1]
    assert shards.record["counts"] == {
        **{"tokens": shards.tokens, "sentences": 5, "documents": 3, "characters": 28},
        **{"unknown": 0, "empty_sentences": 3, "empty_documents": 1},
    }
    assert shards.record["words"] == "corpus_tools.characters"
    assert shards.vocabulary_size == len(VOCAB) and shards.tokenizer.vocab == VOCAB
    assert sorted(file.name for file in path.iterdir()) == sorted(
        ["MANIFEST.sha256", "documents.npy", "ids.npy", "sentences.npy"]
        + ["shards.json", "starts.npy", "tokenizer.json"]
    )


def test_shards_do_not_depend_on_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Shards.open(write_shards(DOCUMENTS * 5, TOKENIZER, tmp_path / "one", words=characters))
    monkeypatch.setattr("jinyi.train.corpus.shards._BLOCK_CHARACTERS", 7)
    many = Shards.open(write_shards(iter(DOCUMENTS * 5), TOKENIZER, tmp_path / "many", words=characters))
    for name in ("ids", "starts", "sentences", "documents"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    assert one.record == many.record


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    entries = [*VOCAB, *(f"[unused{i}]" for i in range(1 << 16)), "龘"]
    tokenizer = Tokenizer(build_tokenizer(entries))
    shards = Shards.open(write_shards([["龘"]], tokenizer, tmp_path / "shards", words=characters))
    assert shards.ids.dtype == np.uint32 and shards.ids.tolist() == [len(entries) - 1]


def test_shards_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    shards = Shards.open(write_shards(DOCUMENTS, TOKENIZER, tmp_path / "shards", words=characters))
    shards.check_tokenizer(Tokenizer(build_tokenizer(VOCAB)))
    other = [*VOCAB]
    other[7], other[8] = other[8], other[7]
    with pytest.raises(FolderError, match="token 7 is '改' in the shards and '密' in the model"):
        shards.check_tokenizer(Tokenizer(build_tokenizer(other)))
    with pytest.raises(FolderError, match=f"{len(VOCAB)} tokens in the shards and {len(VOCAB) + 1}"):
        shards.check_tokenizer(Tokenizer(build_tokenizer([*VOCAB, "龘"])))
    with pytest.raises(FolderError, match="another normaliser"):
        shards.check_tokenizer(Tokenizer(build_tokenizer(VOCAB, fold=False)))


@pytest.mark.parametrize("documents", [[], [[]], [["", "\u200b"]]])
def test_empty_corpus_leaves_nothing(tmp_path: Path, documents: list[list[str]]) -> None:
    with pytest.raises(InputError, match="a corpus without a single token"):
        write_shards(documents, TOKENIZER, tmp_path / "shards", words=characters)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[list[str]]:
        yield ["怎么改"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(broken(), TOKENIZER, tmp_path / "shards", words=characters)
    assert list(tmp_path.iterdir()) == []

    def full(self: StagedFolder, name: str, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StagedFolder, "put", full)
    with pytest.raises(FolderError, match="No space left"):
        write_shards(DOCUMENTS, TOKENIZER, tmp_path / "shards", words=characters)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = write_shards(DOCUMENTS, TOKENIZER, tmp_path / "shards", words=characters)
    with pytest.raises(FolderError, match="expected a path that is free"):
        write_shards([["改"]], TOKENIZER, path, words=characters)
    assert Shards.open(path).record["counts"]["documents"] == 3
    write_shards([["改"]], TOKENIZER, path, words=characters, overwrite=True)
    assert Shards.open(path).record["counts"]["documents"] == 1
    other = tmp_path / "model"
    other.mkdir()
    (other / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FolderError, match="something there that is not a shard folder"):
        write_shards([["改"]], TOKENIZER, other, words=characters, overwrite=True)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ids.npy", lambda data: data[:-2], "cannot be read"),
        ("starts.npy", None, "cannot be read"),
        ("sentences.npy", lambda data: data[:128] + data[136:] + data[:8], "bounds that do not end"),
        ("shards.json", lambda data: data.replace(b'"format": 1', b'"format": 9'), "format 9"),
        ("shards.json", lambda data: b"{", "shards.json that cannot be read"),
        ("shards.json", lambda data: data.replace(b'"documents": 3', b'"documents": 4'), r"i8 \[5\]"),
        ("shards.json", None, "no shards.json"),
    ],
)
def test_damaged_shards_are_refused(tmp_path: Path, name: str, change, message: str) -> None:
    path = write_shards(DOCUMENTS, TOKENIZER, tmp_path / "shards", words=characters)
    data = (path / name).read_bytes()
    (path / name).unlink()
    if change:
        (path / name).write_bytes(change(data))
    with pytest.raises(FolderError, match=message):
        Shards.open(path)
