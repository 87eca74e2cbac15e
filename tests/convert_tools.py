"""Folders as users have them, for tests of `convert`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    MegatronBertConfig,
    MegatronBertForSequenceClassification,
    RoFormerConfig,
    RoFormerForSequenceClassification,
)

import jinyi
from jinyi.convert.parity import TEXT_PAIRS
from small_models import VOCAB

SHAPE: dict[str, Any] = dict(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=128,
    initializer_range=0.3,
)
OTHERS: dict[str, Any] = {
    "megatron-bert": (MegatronBertConfig, MegatronBertForSequenceClassification),
    "albert": (AlbertConfig, AlbertForSequenceClassification),
    "roformer": (RoFormerConfig, RoFormerForSequenceClassification),
}

LABELS = {0: "not similarity", 1: "similarity"}
TF = Path(__file__).parent / "fixtures" / "tf"


def original(kind: str = "pair", **changes: Any) -> Any:
    torch.manual_seed(0)
    classes = {"pair": BertForSequenceClassification, "mlm": BertForMaskedLM, "encoder": BertModel}
    if kind in OTHERS:
        config, model = OTHERS[kind]
        return model(config(**SHAPE, id2label=LABELS)).eval()
    return classes[kind](BertConfig(**SHAPE, id2label=LABELS, **changes)).eval()


def lay_out(folder: Path, model: Any, rename: Any = None, dtype: torch.dtype | None = None) -> Path:
    """A folder as users have them: config.json, vocab.txt, and the weights as PyTorch saved them."""
    folder.mkdir(parents=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in VOCAB), encoding="utf-8")
    state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in model.state_dict().items()}
    torch.save({rename(name) if rename else name: tensor for name, tensor in state.items()}, folder / BIN)
    return folder


BIN = "pytorch_model.bin"


def probabilities(model: Any, folder: Path) -> np.ndarray:
    tokenizer = BertTokenizer.from_pretrained(folder)
    pairs = [list(side) for side in zip(*TEXT_PAIRS, strict=True)]
    batch = tokenizer(*pairs, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        logits = model.float()(**batch).logits
    values = logits.sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(1)[:, 1]
    return values.numpy()


def scores(path: Path, **options: Any) -> np.ndarray:
    return jinyi.PairScorer.load(path).predict(list(TEXT_PAIRS), symmetric=False, **options)


def left_behind(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root) if name.startswith("."))


# Every form of source


def shards(folder: Path) -> None:
    state = torch.load(folder / BIN, weights_only=True)
    names = sorted(state)
    parts = {f"pytorch_model-{k:05d}-of-00002.bin": names[k - 1 :: 2] for k in (1, 2)}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    (folder / f"{BIN}.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    (folder / BIN).unlink()
