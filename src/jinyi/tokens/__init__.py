"""From texts, pairs and prompts to token ids: `Tokenizer` and what goes in and out of it."""

from __future__ import annotations

from jinyi.tokens.build import CONTROL_TOKENS, build_tokenizer
from jinyi.tokens.cut import TruncateMode, TruncationReport
from jinyi.tokens.frame import Encoded
from jinyi.tokens.inputs import split_pair
from jinyi.tokens.tokenizer import DEFAULT_MAX_LENGTH, Tokenizer

__all__ = [
    "CONTROL_TOKENS",
    "DEFAULT_MAX_LENGTH",
    "Encoded",
    "Tokenizer",
    "TruncateMode",
    "TruncationReport",
    "build_tokenizer",
    "split_pair",
]
