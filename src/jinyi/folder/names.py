"""Names of weights: what Hugging Face's classes call them in files, and the one name each has in jinyi.

Everything in jinyi uses the names of BERT's classes without the leading `bert.`. The other architectures get names of
the same kind:

| in the file | in jinyi |
|---|---|
| ALBERT `encoder.albert_layer_groups.G.albert_layers.0.*` | `encoder.layer.G.*`, with BERT's names of the parts |
| ALBERT `encoder.embedding_hidden_mapping_in` | `embeddings_project`, as in RoFormer |
| ALBERT `pooler`, `predictions.*` | `pooler.dense`, `cls.predictions.*` |
| RoFormer `classifier.dense`, `classifier.out_proj` | `pooler.dense`, `classifier` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinyi.config import EncoderConfig

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
CLASSIFIER = "classifier.weight"
MLM_BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
# Buffers of old transformers and heads that no task here uses; any other unknown name below is refused.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_PARTS = (
    *("embeddings.", "embeddings_project.", "encoder.", "pooler.dense.", "classifier.", "cls.predictions."),
)
_PREFIXES = {"bert": "bert.", "megatron-bert": "bert.", "albert": "albert.", "roformer": "roformer."}

_LAYER = re.compile(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.0\.(.+)\.(weight|bias)")
_ALBERT_PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.dense": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "ffn": "intermediate.dense",
    "ffn_output": "output.dense",
    "full_layer_layer_norm": "output.LayerNorm",
}
_ALBERT_MODULES = {
    "encoder.embedding_hidden_mapping_in": "embeddings_project",
    "pooler": "pooler.dense",
    "predictions.dense": "cls.predictions.transform.dense",
    "predictions.LayerNorm": "cls.predictions.transform.LayerNorm",
    "predictions.decoder": "cls.predictions.decoder",
    "predictions": "cls.predictions",
}
_ROFORMER_MODULES = {"classifier.dense": "pooler.dense", "classifier.out_proj": "classifier"}


def canonical_names(stored: Iterable[str], prefix: str) -> dict[str, str]:
    """Return jinyi's name of every stored tensor that jinyi uses; those it does not use are left out.

    Args:
        stored: names in the file or state dict.
        prefix: what stands before the encoder's names, with its dot: `bert.`, `model.roformer.` or nothing.
    """
    names = list(stored)
    parent = re.sub(r"(^|\.)(bert|albert|roformer)\.$", r"\1", prefix)
    plain = {name: name.removeprefix(prefix if name.startswith(prefix) else parent) for name in names}
    albert = any(_LAYER.fullmatch(name) for name in plain.values())
    rotary = not albert and POSITIONS not in plain.values()
    found = {}
    for name, short in plain.items():
        short = re.sub(r"(LayerNorm|\bln|layer_norm)\.gamma$", r"\1.weight", short)
        short = re.sub(r"(LayerNorm|\bln|layer_norm)\.beta$", r"\1.bias", short)
        if albert:
            short = _of_albert(short)
        elif rotary and short.startswith("pooler."):
            continue  # of the encoder itself, as in RoFormer-Sim; Hugging Face's classes do not use it
        elif rotary:
            short = _renamed(short, _ROFORMER_MODULES)
        short = MLM_BIAS if short == "cls.predictions.decoder.bias" else short
        if short.startswith(_PARTS) and short not in _BUFFERS:
            found[name] = short
    return found


def public_names(config: EncoderConfig, names: Iterable[str]) -> dict[str, str]:
    """Return the name in the file of each of jinyi's names, as the architecture's classes have it."""
    found = {}
    for name in names:
        public = name
        if config.model_type == "albert":
            public = _to_albert(name)
        elif config.model_type == "roformer":
            public = _renamed(name, {new: old for old, new in _ROFORMER_MODULES.items()})
        head = public.startswith(("cls.", "classifier.", "predictions."))
        found[name] = public if head else _PREFIXES[config.model_type] + public
    return found


def _renamed(name: str, modules: dict[str, str]) -> str:
    module, _, kind = name.rpartition(".")
    return f"{modules.get(module, module)}.{kind}"


def _of_albert(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    if layer and layer[2] in _ALBERT_PARTS:
        return f"encoder.layer.{layer[1]}.{_ALBERT_PARTS[layer[2]]}.{layer[3]}"
    return _renamed(name, _ALBERT_MODULES)


def _to_albert(name: str) -> str:
    if layer := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name):
        parts = {new: old for old, new in _ALBERT_PARTS.items()}
        return f"encoder.albert_layer_groups.{layer[1]}.albert_layers.0.{parts[layer[2]]}.{layer[3]}"
    return _renamed(name, {new: old for old, new in _ALBERT_MODULES.items()})
