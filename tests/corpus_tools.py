"""Segmenters, a tokenizer and files for tests of the corpus."""

from __future__ import annotations

from pathlib import Path

from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.corpus.words import WordEncoder
from small_models import VOCAB

TOKENIZER = Tokenizer(build_tokenizer(VOCAB))


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


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
