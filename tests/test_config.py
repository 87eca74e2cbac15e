from __future__ import annotations

from dataclasses import replace

import pytest

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError

SIZES = {
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
}


def test_reads_what_it_needs_and_ignores_the_rest() -> None:
    config = EncoderConfig.from_dict(
        {**SIZES, "model_type": "bert", "layer_norm_eps": 1e-5, "id2label": {"0": "a"}}
    )
    assert (config.head_size, config.layer_norm_eps, config.max_position_embeddings) == (8, 1e-5, 512)
    assert not config.pre_layer_norm
    assert EncoderConfig.from_dict({**SIZES, "model_type": "megatron-bert"}).pre_layer_norm
    assert EncoderConfig.from_dict({**SIZES, "pad_token_id": None}).pad_token_id == 0


@pytest.mark.parametrize("pre_layer_norm", [False, True])
def test_written_form_is_read_back(pre_layer_norm: bool) -> None:
    config = replace(
        EncoderConfig(**SIZES), pre_layer_norm=pre_layer_norm, hidden_act="gelu_new", pad_token_id=3
    )
    written = config.to_dict()
    assert written["model_type"] == ("megatron-bert" if pre_layer_norm else "bert")
    assert EncoderConfig.from_dict(written) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 25}, "num_attention_heads"),
        ({"hidden_size": "24"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": True}, "vocab_size"),
        ({"hidden_act": "silu"}, "silu"),
        ({"pad_token_id": 100}, "pad_token_id"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"embedding_size": 12}, "embedding_size 12"),
        ({"rotary": True, "num_hidden_groups": 1}, "rotary with num_hidden_groups"),
        ({"rotary": 1}, "rotary = 1"),
        ({"rotary": True, "num_attention_heads": 8}, "even"),
        ({"num_hidden_groups": 3}, "num_hidden_groups 3"),
        ({"num_hidden_groups": 0}, "num_hidden_groups"),
        ({"model_type": "albert", "inner_group_num": 2}, "inner_group_num"),
    ],
)
def test_unusable_values_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(FolderError, match=named) as caught:
        EncoderConfig.from_dict({**SIZES, **change})
    assert caught.value.where == "config.json"


def test_silent_files_are_read_as_their_own_classes_do() -> None:
    albert = EncoderConfig.from_dict({**SIZES, "model_type": "albert"})
    assert (albert.num_hidden_groups, albert.embedding_width, albert.hidden_act) == (1, 128, "gelu_new")
    assert albert.hidden_dropout_prob == 0.0
    roformer = EncoderConfig.from_dict({**SIZES, "model_type": "roformer"})
    assert (roformer.rotary, roformer.rotary_value, roformer.max_position_embeddings) == (True, False, 1536)
    assert (
        EncoderConfig.from_dict({**SIZES, "model_type": "bert", "rotary_value": True}).rotary_value is False
    )


@pytest.mark.parametrize(
    ("options", "model_type", "projected", "stored"),
    [
        ({}, "bert", False, 4),
        ({"embedding_size": 24}, "bert", False, 4),
        ({"rotary": True}, "roformer", False, 4),
        ({"rotary": True, "rotary_value": True, "embedding_size": 12}, "roformer", True, 4),
        ({"num_hidden_groups": 1}, "albert", True, 1),
        ({"num_hidden_groups": 3, "embedding_size": 12}, "albert", True, 3),
    ],
)
def test_architectures(options: dict[str, object], model_type: str, projected: bool, stored: int) -> None:
    config = EncoderConfig.from_dict({**SIZES, "num_hidden_layers": 4, **options})
    assert (config.model_type, config.projects_embeddings, config.stored_layers) == (
        model_type,
        projected,
        stored,
    )
    written = config.to_dict()
    assert written["model_type"] == model_type
    assert ("inner_group_num" in written) == (model_type == "albert")
    assert EncoderConfig.from_dict(written) == config


def test_layers_of_a_group_are_neighbours() -> None:
    config = EncoderConfig(**SIZES | {"num_hidden_layers": 5}, num_hidden_groups=2)  # type: ignore[arg-type]
    assert [config.weights_of(layer) for layer in range(5)] == [0, 0, 0, 1, 1]
    plain = EncoderConfig(**SIZES)  # type: ignore[arg-type]
    assert [plain.weights_of(layer) for layer in range(2)] == [0, 1]


def test_missing_sizes_are_named() -> None:
    with pytest.raises(FolderError, match="vocab_size, hidden_size"):
        EncoderConfig.from_dict({"model_type": "bert"})
