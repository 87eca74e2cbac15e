"""Pruning: CLUE's rules, what a text needs, and models whose embedding rows are carried over."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import jinyi
from jinyi import vocab
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.vocab.files import open_tokenizer, read_entries, write_entries
from small_models import VOCAB, write_small

CONTROL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLUE_SHA256 = "160c9064ee4233d38dc64787f5d6654e820e2394b9d31079eb04deb9d85a2b52"
NUMBERS = [*map(str, range(10, 101)), *map(str, range(2016, 2023))]


def pruned(*tokens: str) -> list[str]:
    return vocab.prune([*CONTROL, *tokens]).entries[len(CONTROL) :]


@pytest.mark.skipif(
    "JINYI_GOOGLE_VOCAB" not in os.environ, reason="set JINYI_GOOGLE_VOCAB to Google's vocab.txt"
)
def test_google_list_becomes_clues_to_the_byte() -> None:
    result = vocab.prune(read_entries(os.environ["JINYI_GOOGLE_VOCAB"]))
    text = "".join(f"{entry}\n" for entry in result.entries)
    assert len(result.entries) == 8021
    assert hashlib.sha256(text.encode("utf-8")).hexdigest() == CLUE_SHA256
    counts = {rule: len(rows) for rule, rows in result.dropped.items()}
    assert counts["traditional"] == 3264 and counts["junk"] == 132 and counts["emoji"] == 56


@pytest.mark.parametrize(
    ("tokens", "kept", "rule"),
    [
        (["▲topmay", "￥799", "～～", "～10", "##～5", "##cm～"], ["～"], "junk"),
        (["★★", "↓↓↓", "##◆◆", "##★", "##℃"], ["★", "○○", "──", "##█", "℃"], "junk"),
        (["ａ", "ｃｐ", "##ｃ", "×email"], ["##ａ", "##ｂ", "##ｍ"], "junk"),
        (["國", "##國", "著", "余", "覆"], ["国", "籤"], "traditional"),
        (["##国", "##一"], ["国", "一"], "continued Chinese character"),
        (["한", "ᄀ", "##ᆫ", "ᗜ"], [], "Korean"),
        (["の", "##カ", "ｲ", "##ﾝ"], ["ｯ"], "Japanese"),
        (["hello", "ab", "iphone7"], ["h", "##ello", "##h", "##a1", "Word"], "word of Latin letters"),
        (["😂", "##❤", "♥yoyo♥", "®"], ["☆", "✿"], "emoji"),
        (["11", "4g", "1080p", "##00"], ["8", "##8", "４", "##０"], "number"),
        (["ㄅ", "##ㄥ"], ["ㄧ"], "phonetic sign"),
    ],
)
def test_each_rule(tokens: list[str], kept: list[str], rule: str) -> None:
    result = vocab.prune([*CONTROL, *tokens, *kept])
    assert result.dropped == {rule: tokens}
    assert result.entries == [*CONTROL, *kept]


def test_first_rule_decides_and_the_rest_stays_in_order() -> None:
    assert pruned("[unused1]", "<S>", "中", "龥", "α", "##α", "、", "々", "鿿") == [
        *("[unused1]", "<S>", "中", "龥", "α", "##α", "、", "々", "鿿")
    ]
    assert (
        vocab.prune([*CONTROL, "##ｃ國"]).dropped == {}
    )  # neither a Chinese character first nor a full match


def test_additions_stand_behind_their_neighbours_once() -> None:
    result = vocab.prune([*CONTROL, '"', "#", "8", "9", "42", "a"])
    assert result.entries[5:] == ['"', "“", "‘", "#", "8", "9", *NUMBERS, "a"]
    assert "42" not in result.added and {"“", "‘", "10", "2022"} <= set(result.added)
    assert pruned('"', "“") == ['"', "“", "‘"]


def test_blank_entries_are_left_out_as_clue_does() -> None:
    result = vocab.prune([*CONTROL, "\u2028", "##\u2028", "a"])
    assert result.entries[5:] == ["##", "a"] and result.dropped == {"blank": ["\u2028"]}


def test_wrong_use_is_told() -> None:
    with pytest.raises(InputError, match="expected one of clue"):
        vocab.prune(CONTROL, rules="google")
    with pytest.raises(InputError, match=r"without \[MASK\]"):
        vocab.prune([*CONTROL[:-1], "a"])


def test_prune_unseen_keeps_what_the_text_needs() -> None:
    tokenizer = Tokenizer(build_tokenizer(VOCAB))
    texts = ["怎么改密码", "怎么改", "今天"]
    before = tokenizer.encode(texts, truncate="report").ids
    result = vocab.prune_unseen(tokenizer, texts)
    assert set(CONTROL) | {"a", "##a", "0"} <= set(result.entries)
    assert "财" in result.dropped["unseen"] and "怎" in result.entries
    after = Tokenizer(build_tokenizer(result.entries)).encode(texts, truncate="report").ids
    assert [[VOCAB[i] for i in row] for row in before] == [[result.entries[i] for i in row] for row in after]
    always = len(result.entries) - len(set("怎么改密码今天"))
    few = vocab.prune_unseen(tokenizer, texts, size=always + 2)
    assert len(few.entries) == always + 2 and {"怎", "么"} <= set(few.entries)
    # 改 came as often as 怎 and 么: the lower id wins.
    assert set(few.dropped["rare"]) == set("改密码今天")
    assert set(vocab.prune_unseen(tokenizer, texts, least=2).dropped["unseen"]) >= set("密码今天")
    with pytest.raises(InputError, match="found size=3"):
        vocab.prune_unseen(tokenizer, texts, size=3)


def test_pruned_model_computes_the_same(tmp_path: Path) -> None:
    old = write_small(tmp_path / "old", "embed", pooling="mean", normalize=True, licence="Apache-2.0")
    left = [token for token in VOCAB if token not in "体育财经##b"]
    entries = [*left[:5], "密码", *left[5:], "##ab", "龘", "[unused9]"]
    result = vocab.prune_model(old, entries, tmp_path / "new")
    assert (result.equal, result.composed, result.fresh) == (len(left), ["密码", "##ab"], ["龘", "[unused9]"])
    texts = ["怎么改密", "今天天气很好！abc1", "a"]
    a, b = jinyi.SentenceEncoder.load(old), jinyi.SentenceEncoder.load(result.path)
    np.testing.assert_allclose(a.encode(texts), b.encode(texts), atol=1e-6)
    folder = read_folder(result.path)
    assert folder.config.vocab_size == len(entries) and folder.record["licence"] == "Apache-2.0"
    rows, before = folder.weights()["embeddings.word_embeddings.weight"], read_folder(old).weights()
    words = before["embeddings.word_embeddings.weight"]
    np.testing.assert_allclose(rows[5], (words[VOCAB.index("密")] + words[VOCAB.index("码")]) / 2, atol=1e-6)
    np.testing.assert_allclose(rows[entries.index("龘")], words.mean(0), atol=1e-5)
    pieces = [words[VOCAB.index("##a")], words[VOCAB.index("##b")]]
    np.testing.assert_allclose(rows[entries.index("##ab")], np.mean(pieces, 0), atol=1e-6)
    np.testing.assert_array_equal(rows[entries.index("好")], words[VOCAB.index("好")])
    assert folder.record["training"]["pruned"]["entries"] == [len(VOCAB), len(entries)]


def test_pruned_mlm_keeps_bias_labels_and_normaliser(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VOCAB, lowercase=False)
    old = write_small(
        tmp_path / "old", "topic", labels=["体育", "财经"], tokenizer=tokenizer, dtype="float16"
    )
    entries = [token for token in reversed(VOCAB) if token != "码"]
    folder = read_folder(vocab.prune_model(old, entries, tmp_path / "new").path)
    assert folder.labels == ("体育", "财经") and folder.dtype == "F16"
    bias, before = (f.weights()["cls.predictions.bias"] for f in (folder, read_folder(old)))
    np.testing.assert_array_equal(bias, [before[VOCAB.index(token)] for token in entries])
    assert Tokenizer.from_folder(folder.path).lowercase is False
    with pytest.raises(InputError, match="an entry that comes twice"):
        vocab.prune_model(old, [*entries, "好"], tmp_path / "bad")
    with pytest.raises(InputError, match=r"without \[MASK\]"):
        vocab.prune_model(old, [token for token in entries if token != "[MASK]"], tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_vocabulary_files(tmp_path: Path) -> None:
    write_entries(tmp_path / "vocab.txt", [*CONTROL, "\u2028", "a"])
    assert read_entries(tmp_path / "vocab.txt") == [*CONTROL, "\u2028", "a"]
    assert open_tokenizer(tmp_path / "vocab.txt").vocab_size == 7
    with pytest.raises(InputError, match="entry 0"):
        write_entries(tmp_path / "bad.txt", ["a\nb"])
    with pytest.raises(FolderError, match="No such file"):
        read_entries(tmp_path / "none.txt")


def test_commands(run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("怎么修改登录密码？\n今天天气很好\n" * 3, encoding="utf-8")
    built = tmp_path / "built"
    code, out, _ = run("vocab", "build", "-i", text, "-o", built, "--size", 300, "--json")
    assert code == 0 and json.loads(out)["entries"] == 300
    assert Tokenizer.from_folder(built).vocab == read_entries(built / "vocab.txt")

    code, out, _ = run("vocab", "inspect", built / "tokenizer.json", "-i", text, "--json")
    assert code == 0 and json.loads(out)["unknown"] == 0 and json.loads(out)["tokens"] == 45
    code, out, _ = run("vocab", "inspect", built / "vocab.txt", "-i", text)
    assert code == 0 and "0.000%" in out

    source = tmp_path / "vocab.txt"
    write_entries(source, [*CONTROL, "國", "国", "##国", "9"])
    code, out, err = run("vocab", "prune", source, "-o", tmp_path / "small.txt")
    assert code == 0 and "traditional" in out and "105 entries" in err
    assert read_entries(tmp_path / "small.txt") == [*CONTROL, "国", "9", *NUMBERS]


def test_a_vocabulary_is_not_written_over_unasked(run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("怎么修改登录密码？\n", encoding="utf-8")
    model = write_small(tmp_path / "model")
    before = (model / "tokenizer.json").read_bytes()
    build = ("vocab", "build", "-i", text, "--size", 300, "-o")
    for options in ((), ("--overwrite",)):
        code, _, err = run(*build, model, *options)
        assert code == 2 and "a model folder" in err
    assert (model / "tokenizer.json").read_bytes() == before
    assert run(*build, tmp_path / "built")[0] == 0
    code, _, err = run(*build, tmp_path / "built")
    assert code == 2 and "tokenizer.json and vocab.txt there already" in err
    assert run(*build, tmp_path / "built", "--overwrite")[0] == 0


def test_prune_a_model(run, tmp_path: Path) -> None:
    old = write_small(tmp_path / "old")
    text = tmp_path / "text.txt"
    text.write_text("怎么改密码\n", encoding="utf-8")
    new = tmp_path / "new"
    code, out, _ = run("vocab", "prune", old, "--model", "--rules", "seen", "-i", text, "-o", new, "--json")
    body = json.loads(out)
    assert code == 0 and body["fresh"] == [] and body["equal"] == body["entries"] < len(VOCAB)
    assert read_folder(new).golden is not None
    code, _, err = run("vocab", "prune", old, "--rules", "seen", "-o", new)
    assert code == 2 and "--rules seen without --input" in err
    code, _, err = run("vocab", "prune", old, "-i", text, "-o", new)
    assert code == 2 and "--input with --rules clue" in err
    code, _, err = run("vocab", "prune", old, "--rules", "foo", "-o", new)
    assert code == 2 and "one of clue, seen" in err
