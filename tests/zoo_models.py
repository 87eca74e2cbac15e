"""Small random models of every architecture, saved by transformers as its own classes save them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from jinyi.folder.layout import tokenizer_files
from jinyi.tokens import build_tokenizer
from small_models import VOCAB

MLM, CLASSES, ENCODER = "ForMaskedLM", "ForSequenceClassification", "Model"
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "megatron": ("MegatronBert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "albert": ("Albert", {"embedding_size": 16}),
    "albert, 2 groups": ("Albert", {"embedding_size": 32, "num_hidden_groups": 2, "hidden_act": "relu"}),
    "roformer": ("RoFormer", {"embedding_size": 32}),
    "roformer, values": ("RoFormer", {"rotary_value": True, "hidden_act": "gelu_new"}),
    "roformer, narrow": ("RoFormer", {"embedding_size": 16}),
}


@cache
def build(name: str, kind: str) -> PreTrainedModel:
    """A model of an architecture and class, float32, whose every weight matters."""
    family, options = ARCHITECTURES[name]
    config = getattr(transformers, f"{family}Config")(
        **{
            **{"vocab_size": len(VOCAB), "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
            **{"intermediate_size": 48, "max_position_embeddings": 40, "initializer_range": 0.15},
            **{"num_labels": 3, "pad_token_id": 0, **options},
        }
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        model: PreTrainedModel = getattr(transformers, family + kind)(config)
        for weight in model.parameters():
            if weight.requires_grad and weight.dim() == 1:  # biases and layer norms would begin as 0 and 1
                weight.add_(0.2 * torch.randn(weight.shape))
    return model.eval()


def save(path: Path, name: str, kind: str, *, dtype: torch.dtype = torch.float32) -> Path:
    """Save a model natively, with the tokenizer files of BERT beside it."""
    model = build(name, kind)
    if dtype != torch.float32:
        model = type(model).from_pretrained(
            save(path.with_name(f"{path.name} whole"), name, kind), dtype=dtype
        )
    model.save_pretrained(path)
    for file, text in tokenizer_files(json.loads(build_tokenizer(VOCAB).to_str()), 40).items():
        (path / file).write_text(text, encoding="utf-8")
    return path
