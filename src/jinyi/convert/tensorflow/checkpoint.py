"""A TensorFlow checkpoint with its configuration and vocabulary, as a model under Hugging Face's names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.convert.tensorflow.beside import read_config, read_vocab
from jinyi.convert.tensorflow.bundle import Bundle
from jinyi.convert.tensorflow.layouts import Weight
from jinyi.convert.tensorflow.names import Plan, plan_weights
from jinyi.convert.tensorflow.places import Place, find_checkpoints
from jinyi.convert.tensorflow.table import MAGIC
from jinyi.errors import FolderError, shorten

_ARCHITECTURES = {"bert": "Bert", "albert_zh": "Bert", "albert": "Albert", "roformer": "RoFormer"}
_ERF = (
    "hidden_act gelu is computed by its definition (erf), as in the PyTorch versions of these models; Google's code "
    "since 2019 computes it by tanh (up to 0.0005 apart a value): to have that, say gelu_new in bert_config.json."
)
_TANH = "hidden_act gelu became gelu_new: the code of ALBERT in TensorFlow computes it by tanh."
_EXPANDED = (
    "An ALBERT in albert_zh's first layout, which adds positions after the projection: written as the BERT that it "
    "equals, with {layers} equal layers."
)
_ROTARY = "No table of positions: read as a RoFormer, whose positions are rotary."
_POOLER = "RoFormer has no pooler in transformers: bert/pooler is left out, unless it makes vectors (pooling 'pooler')."


class CheckpointTensors(Mapping[str, np.ndarray]):
    """Tensors of the model by Hugging Face's names, read when asked for.

    Arrays are contiguous, float32 or float16 as stored (bfloat16 and float64 come as float32), and checked
    against their CRC when first read. Read-only use: matrices that are not transposed share the mapped file.
    """

    def __init__(self, bundle: Bundle, weights: Mapping[str, Weight]) -> None:
        self._bundle, self._weights = bundle, weights

    def __getitem__(self, name: str) -> np.ndarray:
        weight = self._weights[name]
        values = [self._bundle[source] for source in weight.sources]
        if weight.how == "transpose":
            return np.ascontiguousarray(values[0].T)
        if weight.how == "product":
            return (values[0].astype(np.float64) @ values[1].astype(np.float64)).astype(np.float32)
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, from the index alone."""
        return self._weights[name].shape


@dataclass(frozen=True)
class Checkpoint:
    """A model read from a TensorFlow checkpoint.

    Attributes:
        where: the checkpoint, for messages: "clue_tiny.zip!tiny/bert_model.ckpt".
        tensors: weights under Hugging Face's names ("bert.encoder.layer.0...", "cls.predictions.bias",
            "classifier.weight"; "albert." and "roformer." for those); the decoder of the masked language model
            is the word embedding and not among them.
        config: config.json, with `model_type` and `architectures`; sizes of tables as the weights have them.
        vocab: lines of vocab.txt; the place of a token is its id.
        renamed: for each tensor, the variables it comes from.
        optimizer: variables of the optimiser, which were left out.
        dropped: variables of heads that no task here uses, left out too.
        notes: what a user should know about the conversion, in sentences.
    """

    where: str
    tensors: CheckpointTensors
    config: dict[str, Any]
    vocab: list[str]
    renamed: dict[str, tuple[str, ...]]
    optimizer: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a path means a TensorFlow checkpoint: a prefix, one of its files, a folder or zip with one.

    Raises:
        FolderError: a .zip that cannot be read.
    """
    return bool(find_checkpoints(path)) or _is_old_format(Path(os.path.expanduser(path)))


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Open a TensorFlow checkpoint of a BERT, ALBERT or RoFormer without TensorFlow.

    Args:
        path: the prefix ("tiny/bert_model.ckpt"), one of its files, a folder or a zip that holds one.
        config: bert_config.json, if it does not lie beside the checkpoint or several do.
        vocab: vocab.txt, likewise.

    Returns:
        The model. Opening takes milliseconds (the index is read and checked whole); numbers are read when
        asked for. Out of a zip the data are first unpacked into a temporary file.

    Raises:
        FolderError: there is no checkpoint or there are several, a file is damaged, cut or missing, the
            configuration belongs to another model, or the model is of a kind that is not known.
    """
    place, prefix = _choose_checkpoint(path)
    where = place.where(prefix)
    raw = read_config(place, config)
    bundle = Bundle(place, prefix)
    numbers = {name: entry.shape for name, entry in bundle.entries.items() if entry.is_number}
    plan = plan_weights(numbers, raw, where)
    settings, notes = _hugging_face_config(raw, plan)
    words = read_vocab(place, vocab, settings["vocab_size"])
    settings["pad_token_id"] = words.index("[PAD]")
    return Checkpoint(
        where=where,
        tensors=CheckpointTensors(bundle, plan.weights),
        config=settings,
        vocab=words,
        renamed={name: weight.sources for name, weight in plan.weights.items()},
        optimizer=plan.optimizer,
        dropped=plan.dropped,
        notes=notes,
    )


def _choose_checkpoint(path: str | os.PathLike[str]) -> tuple[Place, str]:
    found = find_checkpoints(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise FolderError(
            where=str(path),
            found=f"{len(found)} checkpoints: {', '.join(place.where(prefix) for place, prefix in found[:5])}",
            expected="one",
            fix="Give the one you want by its name, as above (of several in a zip, unpack it first).",
        )
    given = Path(os.path.expanduser(path))
    if _is_old_format(given):
        raise FolderError(
            where=str(path),
            found="a checkpoint in TensorFlow's format before 0.12 (one file)",
            expected="format V2: an .index file beside .data files",
            fix="Load it with TensorFlow and save it again with tf.train.Saver.",
        )
    here = [place for place in (given.parent / f"{given.name}{end}" for end in _ENDS) if place.exists()]
    raise FolderError(
        where=str(path),
        found=", ".join(file.name for file in here) + " without an .index file" if here else "no checkpoint",
        expected="bert_model.ckpt with bert_model.ckpt.index and bert_model.ckpt.data-00000-of-00001",
        fix="Copy all files of the checkpoint, or give the zip they came in.",
    )


_ENDS = (".meta", ".data-00000-of-00001")


def _is_old_format(path: Path) -> bool:
    """Whether a file is a table by itself: a checkpoint of format V1."""
    if not path.is_file() or path.suffix == ".index" or path.stat().st_size < 48:
        return False
    with open(path, "rb") as stream:
        stream.seek(-8, os.SEEK_END)
        return int.from_bytes(stream.read(), "little") == MAGIC


def _hugging_face_config(raw: Mapping[str, Any], plan: Plan) -> tuple[dict[str, Any], tuple[str, ...]]:
    kind = _ARCHITECTURES[plan.layout]
    base = kind.lower()
    head = (
        "ForSequenceClassification"
        if "classifier.weight" in plan.weights
        else "ForMaskedLM"
        if any("predictions." in name for name in plan.weights)
        else "Model"
    )
    config = dict(raw)
    notes = []
    if plan.layout in ("albert", "albert_zh") and config.get("hidden_act", "gelu") == "gelu":
        config["hidden_act"] = "gelu_new"
        notes.append(_TANH)
    elif config.setdefault("hidden_act", "gelu") == "gelu" and plan.layout == "bert":
        notes.append(_ERF)
    if plan.layout == "albert_zh":
        for key in ("embedding_size", "ln_type"):
            config.pop(key, None)
        notes.append(_EXPANDED.format(layers=config["num_hidden_layers"]))
    if plan.layout == "roformer":
        config.setdefault("embedding_size", config["hidden_size"])
        config.setdefault("max_position_embeddings", 512)
        config["rotary_value"] = False
        notes.append(_ROTARY)
        if any(name.startswith("roformer.pooler.") for name in plan.weights):
            notes.append(_POOLER)
    sizes = {
        "vocab_size": "word_embeddings",
        "max_position_embeddings": "position_embeddings",
        "type_vocab_size": "token_type_embeddings",
    }
    for key, table in sizes.items():
        weight = plan.weights.get(f"{base}.embeddings.{table}.weight")
        if weight is None:
            continue
        said = config.get(key, weight.shape[0])
        if said != weight.shape[0]:
            notes.append(
                f"The configuration says {key} {shorten(said)}; the weights have {weight.shape[0]} rows, and "
                "they count."
            )
        config[key] = weight.shape[0]
    config["layer_norm_eps"] = raw.get("layer_norm_eps", 1e-12)
    config["model_type"] = base
    config["architectures"] = [f"{kind}{head}"]
    return config, tuple(notes)
