"""Words as tokens: RoFormer's tokenizer, held against transformers' class."""

from __future__ import annotations

import json
import pickle
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from jinyi import PairScorer
from jinyi.errors import FolderError, MissingExtraError
from jinyi.folder import read_folder, write_folder
from jinyi.tokens import CONTROL_TOKENS, Tokenizer
from jinyi.tokens.build import bert_normalizer, wordpiece
from jinyi.tokens.words import WORD_TOKENIZERS, holds_words
from small_models import CONFIG, random_weights

CHARACTERS = "怎么改密码如何修登录今天气很好不心情体育财经新闻的一则关于是下面非常喜欢中国人民银行卡我们他在"
WORDS = [
    "今天",
    "天气",
    "密码",
    "心情",
    "非常",
    "喜欢",
    "中国",
    "人民",
    "银行",
    "银行卡",
    "我们",
    "登录",
    "今天天气",
]
VOCAB = [
    *CONTROL_TOKENS,
    *dict.fromkeys(CHARACTERS),
    *"，。？！：、（）.,+-_#%&[]",
    *"0123456789abcdefghijklmnopqrstuvwxyz",
    *(f"##{char}" for char in "0123456789abcdefghijklmnopqrstuvwxyz"),
    *("hello", "##ing", "##天", "2019", "привет"),
    *WORDS,
]
# Words, parts of words, what jieba joins and what it splits, blanks, letters with accents, signs it does not know.
PARTS = [
    *WORDS,
    *CHARACTERS[:24],
    *(
        "，",
        "。",
        "？",
        " ",
        "\u3000",
        "\n",
        "Hello",
        "ING",
        "2019年",
        "3.14",
        "c++",
        "T恤",
        "É",
        "e\u0301",
        "привет",
    ),
    *("😀", "a_b", "100%", "[MASK", "が", "\u200b", "\x00", "\ufeff", "龘", "卡拉OK", "x" * 101, "々"),
]


def words_folder(path: Path, **settings: Any) -> Path:
    """The tokenizer files of a RoFormer folder as transformers saves them."""
    path.mkdir(exist_ok=True)
    ids = {token: index for index, token in enumerate(VOCAB)}
    wordpiece(ids, bert_normalizer(True, None, False)).save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "RoFormerTokenizer", "do_lower_case": True, **settings}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words_folder(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(folder, max_length=400)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from transformers import RoFormerTokenizer

    loaded = RoFormerTokenizer.from_pretrained(folder)
    assert loaded.tokenize("我们今天") == ["我们", "今天"]
    return loaded


def sample(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return ["我" + "".join(chance.choices(PARTS, k=chance.randint(1, 12))) for _ in range(count)]


def test_words_of_the_vocabulary_are_one_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.ids_of_word("今天天气非常好，我们银行卡密码")
    assert [tokenizer.vocab[index] for index in ids] == [
        *("今天天气", "非常", "好", "，", "我们", "银行卡", "密码")
    ]


def test_ids_are_those_of_transformers(tokenizer: Tokenizer, theirs: Any) -> None:
    texts = sample(300)
    expected = theirs(texts)["input_ids"]
    assert tokenizer.encode(texts).ids == expected
    used = {index for row in expected for index in row}
    assert used.issuperset(VOCAB.index(word) for word in WORDS), "the sample meets every word"


def test_pairs_are_those_of_transformers(tokenizer: Tokenizer, theirs: Any) -> None:
    firsts, seconds = sample(200, 1), sample(200, 2)
    expected = theirs(firsts, seconds, return_token_type_ids=True)
    encoded = tokenizer.encode_pairs(list(zip(firsts, seconds, strict=True)))
    assert encoded.ids == expected["input_ids"]
    assert encoded.splits == [row.count(0) for row in expected["token_type_ids"]]


@given(st.lists(st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_look_up_gives_the_ids_and_places_of_the_library(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    assert tokenizer.ids_of_word(text) == encoding.ids
    starts = [start for start, _ in encoding.offsets]
    assert starts == sorted(starts)


def test_places_of_tokens_are_those_in_the_text(tokenizer: Tokenizer) -> None:
    text = " 今天\n非常É好 龘"
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    assert [text[start:stop] for start, stop in encoding.offsets] == ["今天", "非常", "É", "好", "龘"]


@pytest.mark.parametrize("limit", [5, 8, 13])
def test_what_is_cut_is_counted_in_words(tokenizer: Tokenizer, theirs: Any, limit: int) -> None:
    texts = sample(60, 3)
    whole = theirs(texts)["input_ids"]
    encoded = tokenizer.encode(texts, max_length=limit, truncate="report")
    assert encoded.ids == theirs(texts, truncation=True, max_length=limit)["input_ids"]
    lost = {row: len(ids) - limit for row, ids in enumerate(whole) if len(ids) > limit}
    assert dict(zip(encoded.report.rows.tolist(), encoded.report.lost.tolist(), strict=True)) == lost
    windows = tokenizer.encode(texts, max_length=limit, truncate="window")
    for row, ids in enumerate(whole):
        parts = [
            part for part, owner in zip(windows.ids, windows.owners.tolist(), strict=True) if owner == row
        ]
        assert max(map(len, parts)) <= limit
        assert {index for part in parts for index in part} == set(ids)


def test_a_typed_control_token_is_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.ids_of_word("今天[MASK][SEP]非常")
    assert not {tokenizer.mask_id, tokenizer.sep_id} & set(ids)
    assert tokenizer.vocab.index("非常") == ids[-1]


def test_a_pickled_copy_and_the_file_cut_words_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = sample(40, 4)
    expected = tokenizer.encode(texts).ids
    assert pickle.loads(pickle.dumps(tokenizer)).encode(texts).ids == expected
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    assert Tokenizer.from_file(tmp_path / "tokenizer.json").encode(texts).ids == expected
    assert Tokenizer(tokenizer.backend).encode(texts).ids == expected


def test_a_vocab_file_alone_in_a_roformer_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCAB), encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).words is False
    (tmp_path / "config.json").write_text('{"model_type": "roformer"}', encoding="utf-8")
    opened = Tokenizer.from_folder(tmp_path)
    assert opened.words
    assert opened.encode(sample(40, 5)).ids == tokenizer.encode(sample(40, 5)).ids


@pytest.mark.parametrize("named", ["BertTokenizer", "RobertaTokenizer", "PreTrainedTokenizerFast"])
def test_another_class_is_read_without_words(tmp_path: Path, named: str) -> None:
    from transformers import AutoTokenizer

    opened = Tokenizer.from_folder(words_folder(tmp_path / "x", tokenizer_class=named))
    assert not opened.words
    plain = Backend.from_file(str(tmp_path / "x" / "tokenizer.json"))
    expected = plain.encode("今天 天气 今天好", add_special_tokens=False).ids
    assert opened.ids_of_word("今天 天气 今天好") == expected
    config = replace(CONFIG, vocab_size=len(VOCAB))
    write_folder(
        tmp_path / "y", task="encoder", config=config, weights=random_weights(config), tokenizer=opened
    )
    written = Tokenizer.from_folder(tmp_path / "y")
    assert written.ids_of_word("今天 天气 今天好") == expected
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "y")("今天 天气 今天好", add_special_tokens=False)[
            "input_ids"
        ]
        == expected
    )


@pytest.mark.parametrize("named", WORD_TOKENIZERS)
@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt"])
def test_a_vocabulary_of_characters_is_read_as_by_bert(tmp_path: Path, named: str, file: str) -> None:
    from transformers import BertTokenizer

    characters = [entry for entry in VOCAB if entry not in WORDS]
    assert not holds_words(characters)
    ids = {token: index for index, token in enumerate(characters)}
    if file == "tokenizer.json":
        wordpiece(ids, bert_normalizer(True, None, False)).save(str(tmp_path / file))
    else:
        (tmp_path / file).write_text("".join(f"{entry}\n" for entry in characters), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}), encoding="utf-8")
    opened = Tokenizer.from_folder(tmp_path)
    texts = [text.replace("[MASK", "") for text in sample(40, 6)]
    expected = BertTokenizer(vocab=ids)(texts)["input_ids"]
    assert opened.encode(texts).ids == expected
    config = replace(CONFIG, vocab_size=len(characters))
    write_folder(
        tmp_path / "y", task="encoder", config=config, weights=random_weights(config), tokenizer=tmp_path
    )
    assert Tokenizer.from_folder(tmp_path / "y").encode(texts).ids == expected
    assert BertTokenizer.from_pretrained(tmp_path / "y")(texts)["input_ids"] == expected


def test_a_saved_folder_keeps_its_words(tokenizer: Tokenizer, folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    config = replace(CONFIG, vocab_size=len(VOCAB))
    weights = random_weights(config, head="classifier", labels=2)
    texts = sample(60, 7)
    for source in (tokenizer, folder):
        path = tmp_path / type(source).__name__
        write_folder(path, task="pair", config=config, weights=weights, tokenizer=source)
        theirs = AutoTokenizer.from_pretrained(path)
        assert type(theirs).__name__ == "RoFormerTokenizer"
        expected = tokenizer.encode(texts).ids
        assert theirs(texts)["input_ids"] == expected
        assert theirs("今天", "非常")["token_type_ids"] == [0, 0, 0, 1, 1]
        assert Tokenizer.from_folder(path).encode(texts).ids == expected
        assert read_folder(path).config.vocab_size == len(VOCAB)
    scorer = PairScorer.load(path, threads=1)
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy.predict(("今天天气", "我们非常好")) == scorer.predict(("今天天气", "我们非常好"))


def test_without_rjieba_the_message_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(MissingExtraError, match=r"jinyi\[zh\]"):
        Tokenizer.from_folder(folder)


def test_a_normaliser_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = words_folder(tmp_path / "x") / "tokenizer.json"
    body = json.loads(file.read_text(encoding="utf-8"))
    body["normalizer"] = {"type": "Sequence", "normalizers": [body["normalizer"]]}
    file.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(FolderError, match="normaliser other than BERT's"):
        Tokenizer.from_folder(tmp_path / "x")


def test_many_words_do_not_fill_the_memory(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinyi.tokens.words._MAX_WORDS", 4)
    fresh = Tokenizer(tokenizer.backend)
    texts = sample(30, 8)
    assert fresh.encode(texts).ids == tokenizer.encode(texts).ids
    assert len(fresh._words._known) <= 4


def test_who_asks_the_library_gets_words_too(tokenizer: Tokenizer) -> None:
    from jinyi import vocab
    from jinyi.evals.datacheck.tokens import Reader, TokenCount
    from jinyi.train.corpus.words import WordEncoder

    texts = [text for text in sample(40, 9) if "[MASK" not in text]
    expected = [tokenizer.ids_of_word(text) for text in texts]
    ids, begins, counts = WordEncoder(tokenizer)(texts)
    assert ids.tolist() == [index for row in expected for index in row]
    assert counts.tolist() == [len(row) for row in expected]
    assert begins[np.cumsum(counts) - counts].all()
    coverage = vocab.inspect(tokenizer.backend, texts)
    assert coverage.tokens == len(ids)
    assert coverage.unknown == ids.tolist().count(tokenizer.unk_id) > 0
    counted = TokenCount(Reader("m", tokenizer, 400, joint=False))
    counted.observe([(text,) for text in texts])
    assert (counted.tokens, counted.unknown) == (len(ids), coverage.unknown)
    assert "\u9f98" in counted.missing


def test_threads_do_not_disturb_each_other(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinyi.tokens.words._MAX_WORDS", 8)
    fresh, texts = Tokenizer(tokenizer.backend), sample(200, 10)
    expected = tokenizer.encode(texts).ids
    with ThreadPoolExecutor(4) as pool:
        assert all(result.ids == expected for result in pool.map(lambda _: fresh.encode(texts), range(8)))


def test_prompts_and_long_texts(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_prompt(["今天天气非常好"], "我们喜欢{}：", n_masks=2)
    words = [tokenizer.vocab[index] for index in encoded.ids[0]]
    assert words == ["[CLS]", "我们", "喜欢", "[MASK]", "[MASK]", "：", "今天天气", "非常", "好", "[SEP]"]
    started = time.perf_counter()
    assert len(tokenizer.encode(["今天" * 500_000], truncate="report").ids[0]) == 400
    assert len(tokenizer.encode(["x" * 1_000_000], truncate="report").ids[0]) == 3
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("habit", ["pair", "zeros"])
def test_a_roformer_folder_of_transformers_gives_its_scores(folder: Path, tmp_path: Path, habit: str) -> None:
    import torch
    from transformers import AutoTokenizer, RoFormerConfig, RoFormerForSequenceClassification

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = RoFormerConfig(vocab_size=len(VOCAB), max_position_embeddings=64, initializer_range=0.3, **shape)
    model = RoFormerForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    pairs = [("今天天气非常好", "我们喜欢中国银行卡"), ("密码", "怎么修改登录密码abc？"), ("心情", "心情")]
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    inputs = theirs(
        [list(pair) for pair in pairs],
        padding=True,
        return_tensors="pt",
        return_token_type_ids=habit == "pair",
    )
    with torch.no_grad():
        expected = torch.softmax(model(**inputs).logits, -1)[:, 1].numpy()
    scorer = PairScorer.load(tmp_path, segment_ids=habit, threads=1)
    np.testing.assert_allclose(scorer.predict(pairs, symmetric=False), expected, atol=1e-5)
