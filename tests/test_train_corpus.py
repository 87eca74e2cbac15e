"""Corpus: files to documents, cleaning, duplicates, token shards with word boundaries, and the commands."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi.errors import FolderError, InputError, MissingExtraError
from jinyi.folder.atomic import StagedFolder
from jinyi.text import _rjieba
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.corpus import Shards, write_shards
from jinyi.train.corpus.clean import Report, Rules, clean, line_rule
from jinyi.train.corpus.duplicates import ExactSpans, NearDuplicates
from jinyi.train.corpus.read import cut_line, read_documents
from jinyi.train.corpus.words import WordEncoder
from small_models import VOCAB

TOKENIZER = Tokenizer(build_tokenizer(VOCAB))
PLAIN = Rules(span=None, near=None)


def characters(text: str) -> list[str]:
    return list(text)


def pairs(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def words_of(table: str):
    """A segmenter that knows the words of a text written with | between them."""
    return lambda text: table.split("|") if text == table.replace("|", "") else [text]


def marked(text: str, tokenizer: Tokenizer = TOKENIZER) -> str:
    """Tokens of one text with a | before each that begins a word."""
    ids, starts, _ = WordEncoder(tokenizer, words_of(text))([text.replace("|", "")])
    return "".join(("|" if start else "") + tokenizer.vocab[i] for i, start in zip(ids, starts, strict=True))


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
    assert shards.record["words"] == "test_train_corpus.characters"
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


# Files to documents


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_documents_of_files(tmp_path: Path) -> None:
    blank = write(tmp_path / "a.txt", "一\n二\n\n\n三\n\n")
    assert list(read_documents([blank])) == [["一", "二"], ["三"]]
    assert list(read_documents([blank, blank], form="lines")) == [["一"], ["二"], ["三"]] * 2
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress("一\n\n二\n".encode()))
    assert list(read_documents([packed])) == [["一"], ["二"]]
    rows = write(tmp_path / "c.jsonl", '{"content": "一\\n二", "id": 1}\n{"content": "", "id": 2}\n')
    assert list(read_documents([rows])) == [["一", "二"], [""]]
    assert list(read_documents([write(tmp_path / "one.txt", "只有一行\n")])) == [["只有一行"]]


def test_corpus_without_blank_lines_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "一\n二\n三\n")
    documents = read_documents([path])
    with pytest.raises(InputError, match="3 lines and no blank line.*--documents lines"):
        next(documents)
    with pytest.raises(InputError, match="expected 'blank' or 'lines'"):
        next(read_documents([path], form="pages"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found 3; expected a text"):
        next(read_documents([write(tmp_path / "a.jsonl", '{"text": 3}\n')]))
    with pytest.raises(InputError, match="column body"):
        next(read_documents([write(tmp_path / "b.jsonl", '{"text": "a"}\n')], column="body"))


@given(st.text(alphabet="一二三。！？”a ", max_size=60), st.integers(1, 20))
def test_cut_lines_lose_nothing(line: str, longest: int) -> None:
    parts = cut_line(line, longest)
    assert "".join(parts) == line
    assert all(len(part) <= longest for part in parts)


def test_cut_lines_at_sentences() -> None:
    assert cut_line("一二。三四。五六七八九。", 6) == ["一二。三四。", "五六七八九。"]
    assert cut_line("他说：“好。”他走了。", 7) == ["他说：“好。”", "他走了。"]


# Cleaning


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("今天的天气很好。", None),
        ("他说：“今天的天气很好。”", None),
        ("我在用 Python 写一个小程序。", None),
        ("", "blank"),
        ("你好。", "short"),
        ("This is an English line.", "not Chinese"),
        ("function() 会返回今天的天气。", "code"),
        ("<p>今天的天气很好。</p>", "code"),
        ("今天的天气&nbsp;很好。", "code"),
        ("版权所有：某某网站。", "boilerplate"),
        ("更多内容请点击这里。", "boilerplate"),
        ("今天的天气", "no sentence end"),
    ],
)
def test_line_rules(line: str, rule: str | None) -> None:
    assert line_rule(line, Rules()) == rule


def test_rules_can_be_switched_off() -> None:
    lax = Rules(characters=0, han=0, ended=False, code=False, boilerplate=False)
    assert all(line_rule(line, lax) is None for line in ("好", "abc", "{今天}", "版权所有"))


def test_clean_accounts_for_every_line() -> None:
    report = Report()
    documents = [
        ["今天的天气很好。我们去公园吧！", "短。", "上一篇：今天的天气很好。"],
        ["完全没有用的标题"],
        ["这里有一个坏词语。", "后面的句子也不要了。"],
        ["  全角ＡＢＣ和\u200b空白　很多的句子。 "],
    ]
    rules = Rules(span=None, near=None, bad_words=("坏词",))
    kept = list(clean(documents, rules, report=report))
    assert kept == [["今天的天气很好。", "我们去公园吧！"], ["全角ABC和空白 很多的句子。"]]
    dropped = {rule: (part.documents, part.lines) for rule, part in report.dropped.items()}
    assert dropped == {
        **{"short": (0, 1), "boilerplate": (0, 1), "no sentence end": (0, 1)},
        **{"bad words": (1, 2)},
    }
    assert report.documents == 4 and report.kept_documents == 2
    assert report.lines == report.kept_lines + sum(part.lines for part in report.dropped.values()) == 8
    assert report.characters == report.kept_characters + sum(
        part.characters for part in report.dropped.values()
    )
    assert report.dropped["short"].examples == ["短。"]


def test_clean_streams() -> None:
    def endless() -> Iterator[list[str]]:
        while True:
            yield ["今天的天气很好。"]

    assert list(itertools.islice(clean(endless(), PLAIN), 3)) == [["今天的天气很好。"]] * 3


def test_simplified() -> None:
    pytest.importorskip("opencc")
    rules = Rules(span=None, near=None, simplified=True)
    assert list(clean([["今天的頭髮發展得很好。"]], rules)) == [["今天的头发发展得很好。"]]


def test_few_sentences() -> None:
    report = Report()
    rules = Rules(span=None, near=None, sentences=2)
    assert list(clean([["今天的天气很好。"], ["一起去公园。", "好的好的。"]], rules, report=report)) == [
        ["一起去公园。", "好的好的。"]
    ]
    assert report.dropped["few sentences"].documents == 1


# Duplicates


def brute_repeated(documents: list[list[str]], span: int) -> list[list[bool]]:
    seen: list[tuple[str, ...]] = []
    out = []
    for lines in documents:
        width = min(span, len(lines))
        marks = [False] * len(lines)
        for first in range(len(lines) - width + 1 if lines else 0):
            key = tuple(lines[first : first + width])
            if key in seen:
                marks[first : first + width] = [True] * width
            seen.append(key)
        out.append(marks)
    return out


@given(st.lists(st.lists(st.sampled_from("甲乙丙"), max_size=6), max_size=5), st.integers(1, 3))
def test_exact_spans_are_those_of_brute_force(documents: list[list[str]], span: int) -> None:
    spans = ExactSpans(span)
    assert [spans.repeated(lines) for lines in documents] == brute_repeated(documents, span)


def jaccard(a: str, b: str, size: int = 5) -> float:
    one, two = ({text[i : i + size] for i in range(len(text) - size + 1)} for text in (a, b))
    return len(one & two) / len(one | two)


def test_minhash_estimates_jaccard() -> None:
    rng = random.Random(0)
    alphabet = [chr(0x4E00 + i) for i in range(500)]
    near = NearDuplicates()
    errors = []
    for changed in range(0, 100, 4):
        text = rng.choices(alphabet, k=300)
        other = [rng.choice(alphabet) if i < changed else char for i, char in enumerate(text)]
        a, b = "".join(text), "".join(other)
        estimate = float((near.signature(a) == near.signature(b)).mean())
        errors.append(estimate - jaccard(a, b))
    assert np.abs(errors).max() < 0.2 and abs(np.mean(errors)) < 0.03


def test_near_duplicates_are_found_and_others_not() -> None:
    rng = random.Random(1)
    alphabet = [chr(0x4E00 + i) for i in range(300)]
    texts = ["".join(rng.choices(alphabet, k=200)) for _ in range(50)]
    near = NearDuplicates()
    assert not any(near.duplicate(text) for text in texts)
    edited = [text[:100] + "改" + text[101:] for text in texts]  # Jaccard 191 / 201 = 0.95
    assert all(near.duplicate(text) for text in edited)
    half = [text[:100] + "".join(rng.choices(alphabet, k=100)) for text in texts]  # about 0.3
    assert not any(near.duplicate(text) for text in half)


def test_short_and_equal_texts() -> None:
    near = NearDuplicates()
    assert [near.duplicate(text) for text in ["好", "好", "坏", "今天天气", "今天天气", ""]] == [
        *(False, True, False, False, True, False)
    ]
    with pytest.raises(InputError, match="near=0.3"):
        NearDuplicates(0.3)


def test_long_texts_are_hashed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(chr(0x4E00 + i * i % 5000) for i in range(3000))
    whole = NearDuplicates().signature(text)
    monkeypatch.setattr("jinyi.train.corpus.duplicates._BLOCK", 6000)
    np.testing.assert_array_equal(NearDuplicates().signature(text), whole)


def test_clean_drops_duplicates() -> None:
    page = ["今天的天气真的很好。", "我们一起去公园玩。", "晚上再一起吃饭吧。"]
    report = Report()
    documents = [page, page, [*page, "这一句是新加上去的。"], ["今天的天气真的很好。"]]
    kept = list(clean(documents, report=report))
    assert kept == [page, ["这一句是新加上去的。"], ["今天的天气真的很好。"]]
    assert (report.dropped["repeated"].lines, report.dropped["repeated"].documents) == (6, 1)
    edited = [page[0], page[1], "晚上再一起吃饭啊。"]
    long = [f"第{i}天的天气真的和前一天完全不同。" for i in range(30)]
    report = Report()
    rules = Rules(span=None)
    assert list(clean([long, [*long[:-1], "最后一天例外啊。"], edited], rules, report=report)) == [
        long,
        edited,
    ]
    assert report.dropped["near duplicate"].documents == 1


# Commands


RAW = (
    "今天天气很好。心情不好！\n版权所有的一句话。\n\n今天天气很好。心情不好！\n\n怎么改密码，如何修改密码？\n"
)


def test_clean_then_shard(run, tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    raw, cleaned, account = write(tmp_path / "raw.txt", RAW), tmp_path / "clean.txt.gz", tmp_path / "r.json"
    code, out, err = run("corpus", "clean", "-i", raw, "-o", cleaned, "--report", account)
    assert code == 0 and "boilerplate" in out and "2 of 3 documents" in err
    text = gzip.decompress(cleaned.read_bytes()).decode("utf-8")
    assert text == "今天天气很好。\n心情不好！\n\n怎么改密码，如何修改密码？\n\n"
    assert json.loads(account.read_text(encoding="utf-8"))["dropped"]["repeated"]["lines"] == 2

    tokenizer = write(tmp_path / "vocab.txt", "".join(f"{token}\n" for token in VOCAB))
    shards = tmp_path / "shards"
    code, out, err = run("corpus", "shard", "-i", cleaned, "--tokenizer", tokenizer, "-o", shards, "--json")
    assert code == 0, err
    assert json.loads(out)["counts"]["sentences"] == 3 and json.loads(out)["words"].startswith("rjieba ")
    assert Shards.open(shards).documents.tolist() == [0, 2, 3]
    short = tmp_path / "short"
    options = ("--documents", "lines", "--longest", 7)
    code, _, err = run("corpus", "shard", "-i", cleaned, "--tokenizer", tokenizer, "-o", short, *options)
    assert code == 0 and "3 documents, 4 sentences" in err


def test_options_reach_the_rules(run, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.txt", "今天 {很好}\n今天 {很好}\n坏词在这一句里。\n")
    bad = write(tmp_path / "bad.txt", "坏词\n")
    lax = ("--no-code", "--no-ended", "--span", 0, "--near", 0, "--characters", 1, "--no-split", "--json")
    out_file = tmp_path / "out.txt"
    code, out, _ = run(
        *("corpus", "clean", "-i", raw, "-o", out_file, "--documents", "lines", "--bad-words", bad, *lax)
    )
    assert code == 0 and json.loads(out)["kept_documents"] == 2
    assert list(json.loads(out)["dropped"]) == ["bad words"]
    assert out_file.read_text(encoding="utf-8") == "今天 {很好}\n\n" * 2


def test_faults_end_with_two(run, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.txt", "一\n二\n三\n")
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.txt")
    assert code == 2 and "no blank line" in err and not (tmp_path / "out.txt").exists()
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.jsonl")
    assert code == 2 and "a jsonl file for the text" in err
    options = ("--documents", "lines", "--bad-words", tmp_path / "none.txt")
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.txt", *options)
    assert code == 2 and "no such file" in err
    code, _, err = run("corpus", "shard", "-i", raw, "--tokenizer", "no-such-model", "-o", tmp_path / "s")
    assert code == 2 and "no-such-model" in err
    assert sorted(os.listdir(tmp_path)) == ["raw.txt"]


@pytest.mark.slow
def test_the_input_is_not_written_over(run, tmp_path: Path) -> None:
    text = "今天天气很好。\n\n明天天气不好。\n"
    (tmp_path / "raw.txt").write_text(text, encoding="utf-8")
    code, _, err = run("corpus", "clean", "-i", tmp_path / "raw.txt", "-o", tmp_path / "raw.txt")
    assert code == 2 and "the same file" in err
    assert (tmp_path / "raw.txt").read_text(encoding="utf-8") == text
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n天\n", encoding="utf-8")
    code, _, err = run("vocab", "prune", tmp_path / "vocab.txt", "-o", tmp_path / "vocab.txt")
    assert code == 2 and "the same file" in err


def test_benchmark_prints_its_table(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    pytest.importorskip("opencc")
    texts = write(tmp_path / "texts.txt", "".join(f"第{i}天的天气很好，心情也很好。\n" for i in range(300)))
    tokenizer = write(tmp_path / "tokenizer.json", TOKENIZER.to_str())
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "corpus.py"
    command = [sys.executable, str(script), str(texts), str(tokenizer)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "300 different lines" in done.stdout and done.stdout.count("characters/s") == 4
    assert done.stdout.count(" bytes a ") == 2
