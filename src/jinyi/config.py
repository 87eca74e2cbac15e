"""Shape of a BERT-like encoder, as far as computing it needs to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinyi.errors import FolderError, shorten

ACTIVATIONS = ("gelu", "gelu_new", "relu")
# What Hugging Face's classes take where a config.json is silent, as far as it is not BERT's.
_SILENT: dict[str, dict[str, Any]] = {
    "megatron-bert": {"pre_layer_norm": True},
    "albert": {
        **{"num_hidden_groups": 1, "embedding_size": 128, "hidden_act": "gelu_new"},
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    },
    "roformer": {"rotary": True, "max_position_embeddings": 1536},
}
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_COUNTS = (*_REQUIRED, "max_position_embeddings", "type_vocab_size")
_MOST_LAYERS = 1000
_OPTIONAL = ("embedding_size", "num_hidden_groups")
_SWITCHES = ("pre_layer_norm", "rotary", "rotary_value")
_OF_ARCHITECTURE = (*_SWITCHES, *_OPTIONAL)
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
        rotary: True for RoFormer (Su et al. 2021): no position embeddings; queries and keys are turned by angles
            that grow with the position.
        rotary_value: RoFormer that turns the values too.
        embedding_size: width of the embeddings where a linear map takes them to `hidden_size` (ALBERT, small
            RoFormers); None where they have that width.
        num_hidden_groups: ALBERT (Lan et al. 2020): so many layers have weights, each of them used for several
            neighbouring layers; None where each layer has its own.

    Raises:
        FolderError: a size is not a positive whole number, heads do not divide the width, the activation is not
            one of `ACTIVATIONS`, or the fields are of two architectures at once.
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
    rotary: bool = False
    rotary_value: bool = False
    embedding_size: int | None = None
    num_hidden_groups: int | None = None

    def __post_init__(self) -> None:
        for name in (*_COUNTS, *(name for name in _OPTIONAL if getattr(self, name) is not None)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _config_error(
                    f"{name} = {shorten(value)}", f"{name} to be a whole number of at least 1"
                )
        if self.num_hidden_layers > _MOST_LAYERS:  # a damaged file is not to fill the memory with names
            raise _config_error(f"num_hidden_layers = {self.num_hidden_layers}", f"at most {_MOST_LAYERS}")
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
        self._check_architecture()

    def _check_architecture(self) -> None:
        """Check that the fields are those of one architecture that can be computed."""
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise _config_error(f"{name} = {shorten(getattr(self, name))}", "true or false")
        if self.embedding_size == self.hidden_size:
            object.__setattr__(self, "embedding_size", None)  # one form for one shape
        kinds = {
            "pre_layer_norm": self.pre_layer_norm,
            "rotary": self.rotary,
            "num_hidden_groups": self.num_hidden_groups is not None,
        }
        stated = [name for name, value in kinds.items() if value]
        if len(stated) > 1:
            raise _config_error(" with ".join(stated), "one of MegatronBERT, RoFormer and ALBERT")
        if self.rotary_value and not self.rotary:
            raise _config_error("rotary_value without rotary", "it in a RoFormer")
        if self.rotary and self.head_size % 2:
            raise _config_error(
                f"heads of {self.head_size} with rotary positions",
                "hidden_size / num_attention_heads to be even",
            )
        if self.embedding_width != self.hidden_size and not (self.rotary or self.num_hidden_groups):
            raise _config_error(
                f"embedding_size {self.embedding_size} with hidden_size {self.hidden_size}",
                "embeddings as wide as the layers, but for an ALBERT or RoFormer",
            )
        if (self.num_hidden_groups or 1) > self.num_hidden_layers:
            raise _config_error(
                f"num_hidden_groups {self.num_hidden_groups} with {self.num_hidden_layers} layers",
                "no more groups than layers",
            )

    @classmethod
    def from_dict(cls, config_json: Mapping[str, Any]) -> EncoderConfig:
        """Read the fields out of a parsed `config.json`; unknown keys are ignored.

        What makes an architecture (`pre_layer_norm`, `rotary`, `num_hidden_groups`, `embedding_size`) is taken from
        keys of these names or else from `model_type`; whoever holds the weights knows better and sets them.

        Raises:
            FolderError: a required size is missing or unusable, the positions are neither absolute nor rotary, or
                an ALBERT has groups of several layers.
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
        known = {**_SILENT.get(str(config_json.get("model_type")), {}), **known}
        if not known.get("rotary"):
            known.pop("rotary_value", None)
        inner = config_json.get("inner_group_num", 1)
        if known.get("num_hidden_groups") is not None and inner != 1:
            raise _config_error(f"inner_group_num = {shorten(inner)}", "1, as in every published ALBERT")
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as Hugging Face names them in `config.json`, `model_type` included."""
        fields: dict[str, Any] = {"model_type": self.model_type}
        fields.update(
            {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _OF_ARCHITECTURE}
        )
        if self.model_type in ("albert", "roformer"):
            fields["embedding_size"] = self.embedding_width
        if self.rotary:
            fields["rotary_value"] = self.rotary_value
        if self.num_hidden_groups is not None:
            fields |= {"num_hidden_groups": self.num_hidden_groups, "inner_group_num": 1}
        return fields

    @property
    def model_type(self) -> str:
        """Hugging Face's name of the architecture: "bert", "megatron-bert", "albert" or "roformer"."""
        if self.num_hidden_groups is not None:
            return "albert"
        return "roformer" if self.rotary else "megatron-bert" if self.pre_layer_norm else "bert"

    @property
    def architecture(self) -> str:
        """Name of the architecture for people: BERT, MegatronBERT, ALBERT or RoFormer."""
        names = {"megatron-bert": "MegatronBERT", "roformer": "RoFormer"}
        return names.get(self.model_type, self.model_type.upper())

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def projects_embeddings(self) -> bool:
        """Whether a linear map stands between embeddings and layers; an ALBERT always has one."""
        return self.num_hidden_groups is not None or self.embedding_width != self.hidden_size

    @property
    def pooler_activation(self) -> str:
        """What follows the dense layer under a classifier: "tanh", in RoFormer the activation of its layers."""
        return self.hidden_act if self.rotary else "tanh"

    @property
    def stored_layers(self) -> int:
        """Number of layers that have weights of their own."""
        return self.num_hidden_layers if self.num_hidden_groups is None else self.num_hidden_groups

    def weights_of(self, layer: int) -> int:
        """Return the number of the stored layer whose weights a layer uses; both count from 0."""
        return int(layer / (self.num_hidden_layers / self.stored_layers))

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
