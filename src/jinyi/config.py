"""Shape of a BERT-like encoder, as far as computing it needs to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinyi.errors import FolderError, shorten

ACTIVATIONS = ("gelu", "gelu_new", "relu")
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_COUNTS = (*_REQUIRED, "max_position_embeddings", "type_vocab_size")
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and constants of one encoder; the field names are those of a Hugging Face `config.json`.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: width of the residual stream.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: heads per layer; divides `hidden_size`.
        intermediate_size: width of the feed-forward layer.
        max_position_embeddings: longest sequence in tokens, [CLS] and [SEP] included.
        type_vocab_size: number of segment embeddings.
        layer_norm_eps: added to the variance in every layer normalisation.
        hidden_act: "gelu" (by erf), "gelu_new" (by tanh) or "relu".
        pad_token_id: id that fills up short rows of a batch.
        hidden_dropout_prob: dropout of hidden states, used in training only.
        attention_probs_dropout_prob: dropout of attention weights, used in training only.
        pre_layer_norm: False for BERT (Devlin et al. 2019: normalise after adding the residual), True for
            MegatronBERT (Shoeybi et al. 2019: normalise the input of each sublayer and the last output).

    Raises:
        FolderError: a size is not a positive whole number, heads do not divide the width, or the activation
            is not one of `ACTIVATIONS`.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    pad_token_id: int = 0
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    pre_layer_norm: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _config_error(
                    f"{name} = {shorten(value)}", f"{name} to be a whole number of at least 1"
                )
        if self.hidden_size % self.num_attention_heads:
            raise _config_error(
                f"hidden_size {self.hidden_size} with num_attention_heads {self.num_attention_heads}",
                "the number of heads to divide the hidden size",
            )
        if self.hidden_act not in ACTIVATIONS:
            raise _config_error(
                f"hidden_act = {shorten(self.hidden_act)}", f"one of {', '.join(ACTIVATIONS)}"
            )
        if not isinstance(self.pad_token_id, int) or not 0 <= self.pad_token_id < self.vocab_size:
            raise _config_error(
                f"pad_token_id = {shorten(self.pad_token_id)}", f"an id from 0 to {self.vocab_size - 1}"
            )
        for name, limit in (("layer_norm_eps", math.inf), *((name, 1.0) for name in _DROPOUTS)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < limit:
                raise _config_error(f"{name} = {shorten(value)}", f"a number from 0 to below {limit}")

    @classmethod
    def from_dict(cls, config_json: Mapping[str, Any]) -> EncoderConfig:
        """Read the fields out of a parsed `config.json`; unknown keys are ignored.

        `pre_layer_norm` is taken from the key of that name or else from `model_type` ("megatron-bert");
        whoever holds the weights knows better and overrides it with `dataclasses.replace`.

        Raises:
            FolderError: a required size is missing or unusable, or the positions are not absolute.
        """
        missing = [name for name in _REQUIRED if name not in config_json]
        if missing:
            raise _config_error(f"no {', '.join(missing)}", f"the keys {', '.join(_REQUIRED)}")
        positions = config_json.get("position_embedding_type", "absolute")
        if positions != "absolute":
            raise _config_error(f"position_embedding_type = {shorten(positions)}", '"absolute"')
        known = {name: config_json[name] for name in cls.__dataclass_fields__ if name in config_json}
        if known.get("pad_token_id", 0) is None:
            known["pad_token_id"] = 0
        known.setdefault("pre_layer_norm", config_json.get("model_type") == "megatron-bert")
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as Hugging Face names them in `config.json`, `model_type` included."""
        fields: dict[str, Any] = {"model_type": "megatron-bert" if self.pre_layer_norm else "bert"}
        fields.update(
            {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "pre_layer_norm"}
        )
        return fields

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


def _config_error(found: str, expected: str) -> FolderError:
    return FolderError(
        found=found,
        expected=expected,
        fix="Correct the file or take the one published with these weights.",
        where="config.json",
    )
