"""Vocabularies for Chinese text: build a small one from raw text, prune a large one, look into it."""

from __future__ import annotations

from jinyi.vocab.build import PUNCTUATION, SPARE_TOKENS, SPECIAL_TOKENS, SYMBOLS, build, is_han
from jinyi.vocab.inspect import Coverage, inspect
from jinyi.vocab.model import Carried, prune_model
from jinyi.vocab.prune import RULES, Pruned, prune, prune_unseen

__all__ = [
    "PUNCTUATION",
    "RULES",
    "SPARE_TOKENS",
    "SPECIAL_TOKENS",
    "SYMBOLS",
    "Carried",
    "Coverage",
    "Pruned",
    "build",
    "inspect",
    "is_han",
    "prune",
    "prune_model",
    "prune_unseen",
]
