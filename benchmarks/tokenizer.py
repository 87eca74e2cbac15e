"""Texts per second from str to ids, and what folding costs each reader of a tokenizer.json.

    python benchmarks/tokenizer.py VOCAB.txt [TEXTS.txt] [--words 20000]

TEXTS.txt has one text on a line; without it, made-up customer questions are used. With --words the texts' most
frequent words are added to the vocabulary and RoFormer's way of reading is timed too. All ways run in turn, several
times, so that a busy machine treats them alike; the table has the best and the middle run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer as Backend

from jinyi.text import split_words
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.tokens.build import bert_normalizer, wordpiece

PARTS = (
    ("我的", "请问", "为什么", "昨天", "怎么", "花呗", "在App里", "2019年"),
    ("账号", "分期还款", "登录密码", "银行卡", "iPhone订单", "退款", "会员（年卡）", "优惠券"),
    ("无法修改", "什么时候到账", "能不能换", "显示错误500", "要多久", "被取消了", "在哪里查", "不能用"),
    ("？", "！", "", "，谢谢", "。", "吗？", "呢", "～"),
)


def questions(count: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choice(part) for part in PARTS) for _ in range(count)]


def library(backend: Backend) -> Callable[[list[str]], object]:
    return lambda texts: [row.ids for row in backend.encode_batch_fast(texts)]


def with_words(vocab: list[str], texts: list[str], count: int) -> Tokenizer:
    counts = Counter(word for text in texts for word in split_words(text) if len(word) > 1)
    known = set(vocab)
    entries = [*vocab, *(word for word, _ in counts.most_common(count) if word not in known)]
    normalizer = bert_normalizer(lowercase=True, han_alone=False)
    backend = wordpiece({entry: index for index, entry in enumerate(entries)}, normalizer)
    return Tokenizer(backend, max_length=1 << 20, words=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocab", type=Path)
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--words", type=int, default=0, help="how many words of the texts become entries")
    options = parser.parse_args()
    vocab = options.vocab.read_text(encoding="utf-8").split("\n")
    vocab = vocab if vocab[-1] else vocab[:-1]
    texts = options.texts.read_text(encoding="utf-8").split("\n") if options.texts else questions(10_000)
    texts = [text for text in texts if text.strip()]
    length = 1 << 20
    folding = Tokenizer(build_tokenizer(vocab), max_length=length)
    plain = Tokenizer(build_tokenizer(vocab, fold=False), max_length=length)
    ways: dict[str, tuple[Callable[[list[str]], object], list[float]]] = {
        "jinyi, folding": (lambda rows: folding.encode(rows, allow_empty=True), []),
        "jinyi, BERT's normaliser": (lambda rows: plain.encode(rows, allow_empty=True), []),
        "tokenizers, folding": (library(folding.backend), []),
        "tokenizers, BERT's normaliser": (library(plain.backend), []),
    }
    if options.words:
        words = with_words(vocab, texts, options.words)
        ways["jinyi, words"] = (lambda rows: words.encode(rows, allow_empty=True), [])
        ways["tokenizers calling jieba"] = (library(words.backend), [])
        assert words.encode(texts, allow_empty=True).ids == library(words.backend)(texts)
    start = time.perf_counter()
    ids = folding.encode(texts, allow_empty=True).ids
    first = time.perf_counter() - start
    assert ids == library(folding.backend)(texts)
    for _ in range(options.rounds):
        for call, times in ways.values():
            start = time.perf_counter()
            call(texts)
            times.append(time.perf_counter() - start)
    characters = sum(map(len, texts)) / len(texts)
    print(f"{len(texts)} texts of {characters:.1f} characters, {len(vocab)} entries, {options.rounds} rounds")
    print(f"first call, characters unseen: {len(texts) / first:,.0f} texts/s; ids equal to tokenizers: yes")
    print(f"{'texts/s':32}{'best':>10}{'median':>10}")
    for name, (_, times) in ways.items():
        print(f"{name:32}{len(texts) / min(times):>10,.0f}{len(texts) / statistics.median(times):>10,.0f}")
    single = [_latency(folding, text) for text in texts[:2000]]
    print(f"one text at a time: median {statistics.median(single) * 1e6:.0f} microseconds")
    for char in ("中", "a", "😀"):
        megabyte = char * (1_000_000 // len(char.encode()))
        start = time.perf_counter()
        folding.encode([megabyte], truncate="report")
        print(f"1 MB of {char}: {(time.perf_counter() - start) * 1e3:.0f} ms")


def _latency(tokenizer: Tokenizer, text: str) -> float:
    start = time.perf_counter()
    tokenizer.encode([text])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
