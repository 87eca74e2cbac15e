"""The layouts of TensorFlow's BERT family, weight by weight: TensorFlow's name, Hugging Face's name, shape.

Kernels are stored [in, out] and are transposed; tables are stored as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jinyi.errors import FolderError, shorten

WORDS = "embeddings/word_embeddings"
Layout = Literal["bert", "albert", "albert_zh", "roformer"]


@dataclass(frozen=True)
class Weight:
    """One tensor under its Hugging Face name: the variables it comes from, what is done to them, its shape."""

    name: str
    sources: tuple[str, ...]
    how: Literal["copy", "transpose", "product"]
    shape: tuple[int, ...]


def layout_weights(
    layout: Layout,
    scope: str,
    variables: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
    where: str,
) -> list[Weight]:
    """Return the weights that a model of a layout has.

    Args:
        layout: which one.
        scope: what stands before the names of the encoder: "bert/".
        variables: shapes of the variables there are; they tell the rows of tables and which heads there are.
        config: bert_config.json.
        where: the checkpoint, for messages.

    Raises:
        FolderError: a size in the configuration is missing or no whole number.
    """
    build = _Builder(scope, variables, config, where)
    _BUILDERS[layout](build)
    return build.weights


@dataclass
class _Builder:
    """Collects the weights of a layout."""

    scope: str
    variables: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]
    where: str
    weights: list[Weight] = field(default_factory=list)

    def table(self, source: str, name: str, *shape: int) -> None:
        """Add a table or vector, stored as it is."""
        self.weights.append(Weight(name, (source,), "copy", shape))

    def dense(self, source: str, name: str, width: int, out: int) -> None:
        """Add a linear layer: kernel [in, out] and bias [out]."""
        self.weights.append(Weight(f"{name}.weight", (f"{source}/kernel",), "transpose", (out, width)))
        self.table(f"{source}/bias", f"{name}.bias", out)

    def norm(self, source: str, name: str, width: int) -> None:
        """Add a layer normalisation."""
        self.table(f"{source}/gamma", f"{name}.weight", width)
        self.table(f"{source}/beta", f"{name}.bias", width)

    def has(self, start: str) -> bool:
        """Whether a variable begins so."""
        return any(name.startswith(start) for name in self.variables)

    def rows(self, source: str, default: int) -> int:
        """Return the rows of a table as stored: vocabulary, positions, segments."""
        shape = self.variables.get(source, (default,))
        return shape[0] if shape else 0

    def number(self, key: str, default: int | None = None) -> int:
        """Return a whole number of the configuration."""
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FolderError(
                where=self.where,
                found=f"a configuration with {key} = {shorten(value)}",
                expected="a whole number of at least 1",
                fix="Take bert_config.json of this very checkpoint.",
            )
        return value


def _bert(build: _Builder) -> None:
    width = build.number("hidden_size")
    words = f"{build.scope}{WORDS}"
    build.table(words, "bert.embeddings.word_embeddings.weight", build.rows(words, 0), width)
    _positions(build, "bert.embeddings.", width)
    build.norm(f"{build.scope}embeddings/LayerNorm", "bert.embeddings.LayerNorm", width)
    _layers(build, "bert.")
    _pooler(build, "bert.pooler.dense", width)
    _heads(build, "cls.predictions.transform.", "cls.predictions.bias", width, width)


def _albert_zh(build: _Builder) -> None:
    width = build.number("hidden_size")
    words = f"{build.scope}{WORDS}"
    name = "bert.embeddings.word_embeddings.weight"
    build.weights.append(Weight(name, (words, f"{words}_2"), "product", (build.rows(words, 0), width)))
    _positions(build, "bert.embeddings.", width)
    build.norm(f"{build.scope}embeddings/LayerNorm", "bert.embeddings.LayerNorm", width)
    _layers(build, "bert.", shared=True)
    _pooler(build, "bert.pooler.dense", width)
    _heads(build, "cls.predictions.transform.", "cls.predictions.bias", width, width)


def _roformer(build: _Builder) -> None:
    width = build.number("hidden_size")
    narrow = build.number("embedding_size", width)
    scope, words = build.scope, f"{build.scope}{WORDS}"
    build.table(words, "roformer.embeddings.word_embeddings.weight", build.rows(words, 0), narrow)
    _segments(build, "roformer.embeddings.", narrow)
    build.norm(f"{scope}embeddings/LayerNorm", "roformer.embeddings.LayerNorm", narrow)
    if narrow != width:
        build.dense(
            f"{scope}encoder/embedding_hidden_mapping_in", "roformer.embeddings_project", narrow, width
        )
    _layers(build, "roformer.")
    _pooler(build, "roformer.pooler.dense", width)
    _heads(build, "cls.predictions.transform.", "cls.predictions.bias", width, narrow)


def _albert(build: _Builder) -> None:
    width, inner = build.number("hidden_size"), build.number("intermediate_size")
    narrow = build.number("embedding_size")
    scope, words = build.scope, f"{build.scope}{WORDS}"
    build.table(words, "albert.embeddings.word_embeddings.weight", build.rows(words, 0), narrow)
    _positions(build, "albert.embeddings.", narrow)
    build.norm(f"{scope}embeddings/LayerNorm", "albert.embeddings.LayerNorm", narrow)
    mapping = "embedding_hidden_mapping_in"
    build.dense(f"{scope}encoder/{mapping}", f"albert.encoder.{mapping}", narrow, width)
    for group in range(build.number("num_hidden_groups", 1)):
        for part in range(build.number("inner_group_num", 1)):
            source = f"{scope}encoder/transformer/group_{group}/inner_group_{part}/"
            name = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{part}."
            for role in ("query", "key", "value"):
                build.dense(f"{source}attention_1/self/{role}", f"{name}attention.{role}", width, width)
            build.dense(f"{source}attention_1/output/dense", f"{name}attention.dense", width, width)
            build.norm(f"{source}LayerNorm", f"{name}attention.LayerNorm", width)
            build.dense(f"{source}ffn_1/intermediate/dense", f"{name}ffn", width, inner)
            build.dense(f"{source}ffn_1/intermediate/output/dense", f"{name}ffn_output", inner, width)
            build.norm(f"{source}LayerNorm_1", f"{name}full_layer_layer_norm", width)
    _pooler(build, "albert.pooler", width)
    _heads(build, "predictions.", "predictions.bias", width, narrow)


_BUILDERS = {"bert": _bert, "albert": _albert, "albert_zh": _albert_zh, "roformer": _roformer}


def _positions(build: _Builder, name: str, width: int) -> None:
    source = f"{build.scope}embeddings/position_embeddings"
    build.table(source, f"{name}position_embeddings.weight", build.rows(source, 0), width)
    _segments(build, name, width)


def _segments(build: _Builder, name: str, width: int) -> None:
    source = f"{build.scope}embeddings/token_type_embeddings"
    build.table(source, f"{name}token_type_embeddings.weight", build.rows(source, 0), width)


def _layers(build: _Builder, name: str, *, shared: bool = False) -> None:
    width, inner = build.number("hidden_size"), build.number("intermediate_size")
    for layer in range(build.number("num_hidden_layers")):
        source = f"{build.scope}encoder/layer_{'shared' if shared else layer}/"
        target = f"{name}encoder.layer.{layer}."
        for role in ("query", "key", "value"):
            build.dense(f"{source}attention/self/{role}", f"{target}attention.self.{role}", width, width)
        build.dense(f"{source}attention/output/dense", f"{target}attention.output.dense", width, width)
        build.norm(f"{source}attention/output/LayerNorm", f"{target}attention.output.LayerNorm", width)
        build.dense(f"{source}intermediate/dense", f"{target}intermediate.dense", width, inner)
        build.dense(f"{source}output/dense", f"{target}output.dense", inner, width)
        build.norm(f"{source}output/LayerNorm", f"{target}output.LayerNorm", width)


def _pooler(build: _Builder, name: str, width: int) -> None:
    if build.has(f"{build.scope}pooler/"):
        build.dense(f"{build.scope}pooler/dense", name, width, width)


def _heads(build: _Builder, transform: str, bias: str, width: int, narrow: int) -> None:
    """Add the masked language model and the classifier (run_classifier.py's), where they are stored."""
    around = build.scope.removesuffix("bert/")
    head = f"{around}cls/predictions/"
    if build.has(head):
        build.dense(f"{head}transform/dense", f"{transform}dense", width, narrow)
        build.norm(f"{head}transform/LayerNorm", f"{transform}LayerNorm", narrow)
        build.table(f"{head}output_bias", bias, build.rows(f"{build.scope}{WORDS}", 0))
    labels = f"{around}output_weights"
    if labels in build.variables:
        build.table(labels, "classifier.weight", build.rows(labels, 0), width)
        build.table(f"{around}output_bias", "classifier.bias", build.rows(labels, 0))
