"""Small random models for tests: a vocabulary, weights of any shape, and folders of every task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.folder import write_folder
from jinyi.folder.weights import encoder_shapes
from jinyi.tokens import build_tokenizer

VOCAB = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"怎么改密码如何修登录今天气很好不心情体育财经新闻的一则关于是下面，。？！：0123456789abcdefg",
    *("##a", "##b", "##1", "##2"),
]
CONFIG = EncoderConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=48,
)
MEGATRON = replace(CONFIG, pre_layer_norm=True)


def random_weights(
    config: EncoderConfig = CONFIG, *, head: str = "", labels: int = 1, seed: int = 0
) -> dict[str, Any]:
    """Weights large enough that every sublayer matters; `head` is "", "classifier" or "mlm"."""
    width = config.hidden_size
    shapes = dict(encoder_shapes(config))
    if head == "classifier":
        shapes |= {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
        shapes |= {"classifier.weight": (labels, width), "classifier.bias": (labels,)}
    if head == "mlm":
        transform = "cls.predictions.transform."
        shapes |= {f"{transform}dense.weight": (width, width), f"{transform}dense.bias": (width,)}
        shapes |= {f"{transform}LayerNorm.weight": (width,), f"{transform}LayerNorm.bias": (width,)}
        shapes |= {"cls.predictions.bias": (config.vocab_size,)}
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        weights[name] = values + 1 if name.endswith(("LayerNorm.weight", "ln.weight")) else values
    return weights


def whitening(width: int = 32, size: int = 12, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A linear layer as whitening makes one: weight [size, width] and bias [size]."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.3, (size, width)).astype(np.float32), rng.normal(0, 0.3, size).astype(np.float32)


def write_small(path: Path, task: str = "embed", **options: Any) -> Path:
    """Write a small folder of a task; options go to `write_folder`."""
    config = options.pop("config", CONFIG)
    heads = {"pair": "classifier", "classes": "classifier", "topic": "mlm", "mlm": "mlm"}
    outputs = options.pop("outputs", 1)
    options.setdefault("weights", random_weights(config, head=heads.get(task, ""), labels=outputs))
    options.setdefault("tokenizer", build_tokenizer(VOCAB))
    if task == "embed":
        options.setdefault("pooling", "mean")
    return write_folder(path, task=task, config=config, **options)


def random_texts(count: int, seed: int = 0, longest: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    alphabet = list("怎么改密码如何修登录今天气很好不心情，。？abc12 囧")
    return ["".join(rng.choice(alphabet, rng.integers(1, longest))) + "好" for _ in range(count)]
