"""A vocabulary, texts that decide something, and what the library `tokenizers` makes of them."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from jinyi.tokens import CONTROL_TOKENS, Encoded, Tokenizer

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


def write_vocab(folder: Path, entries: list[str] = VOCAB, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_bytes(("\n".join(entries) + "\n").encode())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
