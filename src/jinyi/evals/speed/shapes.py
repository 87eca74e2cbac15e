"""Model shapes to be measured, as folders of random weights: speed does not depend on what a model has learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.errors import InputError, shorten
from jinyi.evals.speed.texts import CHARACTERS
from jinyi.folder import write_folder
from jinyi.folder.weights import encoder_shapes
from jinyi.tokens import CONTROL_TOKENS, build_tokenizer

GOOGLE, CLUE = 21128, 8021
"""Entries of Google's Chinese vocabulary and of CLUE's pruned one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of an encoder.

    Args:
        name: what tables call it.
        layers, width, heads, inner: of the transformer.
        vocabulary: entries.
    """

    name: str
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def config(self) -> EncoderConfig:
        """The encoder's configuration."""
        return EncoderConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
        )

    @property
    def parameters(self) -> int:
        """Weights of the encoder, embeddings among them, without heads."""
        return sum(int(np.prod(sizes)) for _, sizes in encoder_shapes(self.config))


SHAPES: Final = {
    shape.name: shape
    for shape in (
        Shape("base-21k", 12, 768, 12, 3072, GOOGLE),
        Shape("base-8k", 12, 768, 12, 3072, CLUE),
        Shape("tiny-21k", 4, 312, 12, 1248, GOOGLE),
        Shape("tiny-8k", 4, 312, 12, 1248, CLUE),
        Shape("tiny3l768-8k", 3, 768, 12, 3072, CLUE),
        Shape("tiny3l312-8k", 3, 312, 12, 1248, CLUE),
        Shape("large-8k", 24, 1024, 16, 4096, CLUE),
    )
}
"""BERT-base and CLUE's shapes (CLUECorpus2020, arXiv 2003.01355; CLUEPretrainedModels), with either vocabulary."""
DEFAULT: Final = ("base-21k", "base-8k", "tiny-21k", "tiny-8k")


def make_shapes(names: Sequence[str]) -> list[Shape]:
    """Return shapes by name.

    Raises:
        InputError: an unknown name, or one twice.
    """
    for place, name in enumerate(names):
        if name not in SHAPES or name in names[:place]:
            near = get_close_matches(name, SHAPES, 1, 0.0)[0]
            raise InputError(
                found=f"{shorten(name)} twice" if name in SHAPES else shorten(name),
                expected=f"shapes from {', '.join(SHAPES)}",
                fix="Name it once." if name in SHAPES else f"Did you mean {near}?",
                where="shapes",
            )
    return [SHAPES[name] for name in names]


def write_shape(path: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write a sentence encoder of this shape, random weights and [CLS] vectors, 4 bytes a parameter.

    Weights are large enough for every sublayer to matter, so that two runtimes agree only if they compute the same.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, sizes in encoder_shapes(shape.config):
        spread = 1.0 if name.startswith("embeddings") else 1 / np.sqrt(sizes[-1])
        values = rng.standard_normal(sizes, np.float32) * np.float32(spread)
        weights[name] = values + 1 if name.endswith("LayerNorm.weight") else values
    tokenizer = build_tokenizer(list(_entries(shape.vocabulary)))
    return write_folder(
        path, task="embed", config=shape.config, weights=weights, tokenizer=tokenizer, pooling="cls"
    )


def _entries(count: int) -> Iterator[str]:
    """The entries of a vocabulary: control tokens, marks, letters, digits, then characters, frequent ones first."""
    known = [*CONTROL_TOKENS, *"，。？！：；abcdefghijklmnopqrstuvwxyz0123456789", *CHARACTERS]
    seen: set[str] = set()
    for entry in chain(known, map(chr, range(0x4E00, 0x9FA6)), map(chr, range(0x3400, 0x4DB6))):
        if len(seen) == count:
            return
        if entry not in seen:
            seen.add(entry)
            yield entry
