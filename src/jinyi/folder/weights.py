"""The weights of a folder: found, named in one way, and held against config.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, shorten
from jinyi.folder.jsonfile import read_json
from jinyi.folder.tensors import TensorInfo, TensorMap, read_header

WORDS = "embeddings.word_embeddings.weight"
CLASSIFIER = "classifier.weight"
MLM_BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "bert_model.ckpt.index", "tf_model.h5")
# Buffers of old transformers and heads that no task here uses; any other unknown name below is refused.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_PARTS = ("embeddings.", "encoder.", "pooler.dense.", "classifier.", "cls.predictions.")
_OTHER_SOURCE = "config.json and weights do not belong together: take both from one source."


def no_weights(root: Path) -> FolderError:
    """Return the error for a folder without safetensors, which names what lies there instead."""
    others = [name for name in _PICKLES if (root / name).exists()]
    if others:
        return FolderError(
            where=str(root),
            found=f"weights only as {', '.join(others)}",
            expected="model.safetensors",
            fix="PyTorch pickles and TensorFlow checkpoints are not supported yet. Take the safetensors "
            "version of the model, or write it once with transformers: "
            "AutoModel.from_pretrained(folder).save_pretrained(folder).",
        )
    return FolderError(
        where=str(root),
        found="no weights",
        expected="model.safetensors",
        fix="Copy the whole folder; with git, fetch large files with git lfs pull.",
    )


def _files(root: Path) -> list[Path]:
    if (root / "model.safetensors").is_file():
        return [root / "model.safetensors"]
    if (root / _INDEX).is_file():
        places = read_json(root / _INDEX, "").get("weight_map")
        names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
        lost = [name for name in names if Path(name).name != name or not (root / name).is_file()]
        if lost or not names:
            raise FolderError(
                where=str(root / _INDEX),
                found=f"{', '.join(lost)} not there" if lost else "no weight_map",
                expected=f"all {len(names)} parts of the weights" if names else "the files of the weights",
                fix="Copy the missing files.",
            )
        return [root / name for name in names]
    found = sorted(root.glob("*.safetensors"))
    if len(found) > 1:
        raise FolderError(
            where=str(root),
            found=f"{', '.join(file.name for file in found[:3])} and no index",
            expected="model.safetensors",
            fix="Rename the right one to model.safetensors.",
        )
    if not found:
        raise no_weights(root)
    return found


def read_weights(root: Path) -> tuple[TensorMap, tuple[str, ...]]:
    """Find the weights of a folder and name them as `ModelFolder.weights` says; no data is read.

    Returns:
        The tensors jinyi uses, and the stored names of all others. A stored MLM decoder is still among the
        tensors; see `drop_decoder`.

    Raises:
        FolderError: there are none, a file is damaged, or they are not of a BERT or MegatronBERT.
    """
    stored: dict[str, TensorInfo] = {}
    for file in _files(root):
        stored.update(read_header(file))
    words = [name for name in stored if name.endswith(WORDS)]
    prefix = words[0].removesuffix(WORDS) if words else ""
    if len(words) != 1 or "roberta" in prefix:
        raise FolderError(
            where=str(root),
            found=f"tensors named {shorten(sorted(stored)[:3], 120)}",
            expected="the weights of one BERT or MegatronBERT",
            fix="jinyi does not run this kind of model. (The Chinese RoBERTa-wwm and CLUE models are BERT "
            "and do run; a true RoBERTa numbers positions differently.)",
        )
    parent = prefix.removesuffix("bert.")
    tensors: dict[str, TensorInfo] = {}
    ignored: list[str] = []
    for name, info in stored.items():
        plain = name.removeprefix(prefix) if name.startswith(prefix) else name.removeprefix(parent)
        plain = re.sub(r"(LayerNorm|\bln)\.gamma$", r"\1.weight", plain)
        plain = re.sub(r"(LayerNorm|\bln)\.beta$", r"\1.bias", plain)
        plain = MLM_BIAS if plain == "cls.predictions.decoder.bias" else plain
        if plain.startswith(_PARTS) and plain not in _BUFFERS:
            tensors[plain] = info
        else:
            ignored.append(name)
    return TensorMap(tensors), tuple(sorted(ignored))


def drop_decoder(tensors: TensorMap, *, check: bool, root: Path) -> TensorMap:
    """Leave out a stored MLM decoder after checking that it is the word embedding.

    Args:
        tensors: the weights.
        check: whether the MLM head will be used; the comparison reads both matrices.
        root: the folder, for messages.

    Raises:
        FolderError: the decoder is a matrix of its own.
    """
    if DECODER not in tensors:
        return tensors
    if check and (
        tensors.shape(DECODER) != tensors.shape(WORDS) or not np.array_equal(tensors[DECODER], tensors[WORDS])
    ):
        raise FolderError(
            where=str(root),
            found=f"{DECODER} that is not the word embedding",
            expected="a masked language model whose decoder is tied to the word embeddings",
            fix="jinyi does not compute untied decoders; train or save the model with tied weights.",
        )
    return tensors.without(DECODER)


def fit_config(raw: Mapping[str, Any], tensors: TensorMap) -> tuple[EncoderConfig, tuple[str, ...]]:
    """Read config.json, with the vocabulary size and the place of the layer norms as the weights have them.

    Returns:
        The configuration and notes on what was corrected.
    """
    rows, said = tensors.shape(WORDS)[0], raw.get("vocab_size")
    config = EncoderConfig.from_dict({**raw, "vocab_size": rows, "pad_token_id": 0})
    note = f"config.json says vocab_size {said}; the weights have {rows} rows, and they count."
    return replace(config, pre_layer_norm="encoder.ln.weight" in tensors), (note,) if said != rows else ()


def encoder_shapes(config: EncoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of an encoder."""
    width, inner = config.hidden_size, config.intermediate_size
    yield WORDS, (config.vocab_size, width)
    yield "embeddings.position_embeddings.weight", (config.max_position_embeddings, width)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, width)
    linear: list[tuple[str, tuple[int, int]]] = []
    norms = ["encoder.ln" if config.pre_layer_norm else "embeddings.LayerNorm"]
    for layer in range(config.num_hidden_layers):
        base = f"encoder.layer.{layer}."
        linear += [(f"{base}attention.self.{part}", (width, width)) for part in ("query", "key", "value")]
        linear.append((f"{base}attention.output.dense", (width, width)))
        linear.append((f"{base}intermediate.dense", (inner, width)))
        linear.append((f"{base}output.dense", (width, inner)))
        if config.pre_layer_norm:
            norms += [f"{base}attention.ln", f"{base}ln"]
        else:
            norms += [f"{base}attention.output.LayerNorm", f"{base}output.LayerNorm"]
    yield from _with_bias(linear, norms, width)


def head_shapes(config: EncoderConfig, tensors: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of the heads of which a part is among `tensors`."""
    width = config.hidden_size
    if any(name.startswith("pooler.dense.") for name in tensors):
        yield from _with_bias([("pooler.dense", (width, width))], [], width)
    if CLASSIFIER in tensors:
        yield from _with_bias([("classifier", (tensors[CLASSIFIER].shape[0], width))], [], width)
    if any(name.startswith("cls.predictions.") for name in tensors):
        transform = "cls.predictions.transform."
        yield from _with_bias([(f"{transform}dense", (width, width))], [f"{transform}LayerNorm"], width)
        yield MLM_BIAS, (config.vocab_size,)


def _with_bias(
    linear: list[tuple[str, tuple[int, int]]], norms: list[str], width: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in linear:
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]
    for name in norms:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)


def check_shapes(config: EncoderConfig, tensors: Mapping[str, Any], where: str) -> None:
    """Check that the tensors are exactly those of the encoder and of whole heads, in their shapes.

    Args:
        config: the encoder.
        tensors: anything with a shape, by canonical name.
        where: the folder, for messages.

    Raises:
        FolderError: a tensor is missing, of another shape, or belongs to no part jinyi computes.
    """
    expected = dict(encoder_shapes(config))
    expected.update(head_shapes(config, tensors))
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise FolderError(
            where=where,
            found=f"weights without {shorten(missing[:3], 160)} ({len(missing)} missing)",
            expected=f"all of an encoder with {config.num_hidden_layers} layers, as config.json says",
            fix=_OTHER_SOURCE,
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise FolderError(
                where=where,
                found=f"{name} of shape {list(tensors[name].shape)}",
                expected=f"shape {list(shape)} by config.json",
                fix=_OTHER_SOURCE,
            )
    extra = [name for name in tensors if name not in expected and name != DECODER]
    if extra:
        raise FolderError(
            where=where,
            found=f"weights with {shorten(extra[:3], 160)} ({len(extra)} too many)",
            expected=f"a plain BERT with the {config.num_hidden_layers} layers that config.json says",
            fix=_OTHER_SOURCE,
        )
