"""Small random models, and what transformers computes with them in float64."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    MegatronBertConfig,
    MegatronBertForMaskedLM,
    MegatronBertForSequenceClassification,
)

from jinyi.batches import make_batches
from jinyi.config import EncoderConfig
from jinyi.runtime import Engine, Head, open_engine
from jinyi.runtime.torch_engine import TorchEngine

MODELS = {
    "bert": (BertConfig, BertForMaskedLM, BertForSequenceClassification, {}),
    "bert, 1 layer, relu": (
        BertConfig,
        BertForMaskedLM,
        BertForSequenceClassification,
        {"num_hidden_layers": 1, "hidden_act": "relu"},
    ),
    "megatron": (MegatronBertConfig, MegatronBertForMaskedLM, MegatronBertForSequenceClassification, {}),
    "megatron, gelu_new": (
        MegatronBertConfig,
        MegatronBertForMaskedLM,
        MegatronBertForSequenceClassification,
        {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    ),
}

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]

CLS, SEP, MASK, FIRST = 1, 2, 3, 4

MASKS = (2, 3)

LABELS = np.array([40, 7, 291])


def texts(count: int = 200) -> list[str]:
    """Sentences of 2 to 40 characters."""
    rng = np.random.default_rng(5)
    return ["".join(rng.choice(CHARACTERS, rng.integers(2, 41))) for _ in range(count)]


def encode(rows: list[str]) -> SimpleNamespace:
    """[CLS] first two characters [MASK] [MASK] rest [SEP]; the second half is segment 1."""
    place = {character: FIRST + number for number, character in enumerate(CHARACTERS)}
    ids = [
        [CLS, place[row[0]], MASK, MASK, *(place[character] for character in row[1:]), SEP] for row in rows
    ]
    return SimpleNamespace(ids=ids, splits=[len(row) // 2 for row in ids], masks=[MASKS] * len(ids))


@dataclass
class Oracle:
    """What transformers computes in float64."""

    config: EncoderConfig
    weights: dict[str, Any]
    hidden: list[np.ndarray]
    first: list[np.ndarray]
    words: np.ndarray
    classes: np.ndarray


@lru_cache
def oracle(name: str) -> Oracle:
    """Save a small random model with transformers, read its weights, run it in float64."""
    make_config, masked, classifier, options = MODELS[name]
    torch.manual_seed(3)
    config = make_config(
        **{
            "vocab_size": FIRST + len(CHARACTERS),
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 96,
            "max_position_embeddings": 64,
            "initializer_range": 0.1,
            "num_labels": 3,
            **options,
        }
    )
    weights: dict[str, Any] = {}
    models = [masked(config), classifier(config)]
    models[0].get_submodule("bert").load_state_dict(
        models[1].get_submodule("bert").state_dict(), strict=False
    )
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    shared = models[1].get_submodule("bert").state_dict()
    models[0].get_submodule("bert").load_state_dict(shared, strict=False)
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            arrays = load_file(Path(folder) / "model.safetensors")
        weights |= {key.removeprefix("bert."): value for key, value in arrays.items()}
    rows = encode(texts())
    lengths = torch.tensor([len(ids) for ids in rows.ids])
    columns = torch.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    batch = {
        "input_ids": torch.tensor([ids + [0] * (len(columns) - len(ids)) for ids in rows.ids]),
        "token_type_ids": ((columns >= torch.tensor(rows.splits)[:, None]) & real).long(),
        "attention_mask": real.long(),
    }
    with torch.no_grad():
        out = models[0].double().eval()(**batch, output_hidden_states=True)
        classes = models[1].double().eval()(**batch).logits.numpy()
    hidden, first = (
        [states[:length].numpy() for states, length in zip(layer, lengths, strict=True)]
        for layer in (out.hidden_states[-1], out.hidden_states[1])
    )
    ours = EncoderConfig.from_dict(config.to_dict())
    return Oracle(ours, weights, hidden, first, out.logits[:, list(MASKS)].numpy(), classes)


def results(engine: Engine, rows: Any, **options: Any) -> np.ndarray:
    """Run rows and put the outputs back in their order."""
    output: np.ndarray | None = None
    for batch, part in engine.run(make_batches(rows, pad_id=0, **options)):
        assert isinstance(part, np.ndarray) and part.dtype == np.float32
        if output is None:
            output = np.empty((len(rows.ids), *part.shape[1:]), np.float32)
        output[batch.rows] = part
    assert output is not None
    return output


def softmax(scores: np.ndarray) -> np.ndarray:
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    return mass / mass.sum(-1, keepdims=True)


def openvino_engine(found: Oracle, head: Head) -> Engine:
    return open_engine(found.config, found.weights, head)


def torch_engine(found: Oracle, head: Head) -> Engine:
    return TorchEngine(found.config, found.weights, head, device="cpu")


Opens = Callable[[Oracle, Head], Engine]
both_engines = pytest.mark.parametrize("opened", [openvino_engine, torch_engine], ids=["openvino", "torch"])
