"""The weights of a folder: found, named in one way, and held against config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, shorten
from jinyi.folder.jsonfile import read_json
from jinyi.folder.names import CLASSIFIER as CLASSIFIER
from jinyi.folder.names import DECODER, POSITIONS, canonical_names
from jinyi.folder.names import MLM_BIAS as MLM_BIAS
from jinyi.folder.names import WORDS as WORDS
from jinyi.folder.tensors import TensorInfo, TensorMap, read_header
from jinyi.runtime.rotary import TABLE

_INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "bert_model.ckpt.index", "tf_model.h5")
_GRAPHS = ("onnx", "openvino")  # folders that `jinyi export` writes
PROJECTION = "embeddings_project.weight"
# Their classes count positions from pad_token_id + 1 on, so the rows up to it are never trained.
_ROBERTAS = ("roberta", "xlm-roberta", "camembert")
_OTHER_SOURCE = "config.json and weights do not belong together: take both from one source."


def no_weights(root: Path) -> FolderError:
    """Return the error for a folder without safetensors, which names what lies there instead."""
    others = [name for name in _PICKLES if (root / name).exists()]
    if others:
        model = root.parent if (root.parent / "modules.json").is_file() else root  # not one module alone
        return FolderError(
            where=str(root),
            found=f"weights only as {', '.join(others)}",
            expected="model.safetensors",
            fix=f"Convert the model once: jinyi convert {model} NEW_FOLDER (it needs neither PyTorch nor "
            "TensorFlow and executes nothing from the file). Or take its safetensors version."
            if others != ["tf_model.h5"]
            else "Take the safetensors, PyTorch or checkpoint version of the model: Keras files are not read.",
        )
    if graphs := [name for name in _GRAPHS if (root / name).is_dir()]:
        return FolderError(
            where=str(root),
            found=f"a graph for other runtimes alone ({', '.join(graphs)}/), no weights",
            expected="model.safetensors",
            fix="Open the model that it was exported from: jinyi computes from weights.",
        )
    return FolderError(
        where=str(root),
        found="no weights",
        expected="model.safetensors",
        fix="Copy the whole folder; with git, fetch large files with git lfs pull.",
    )


def indexed_files(index: Path) -> list[Path]:
    """Return the files that the index of sharded weights names.

    Raises:
        FolderError: one is not there, lies outside the folder, or the index names none.
    """
    places = read_json(index, "").get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    lost = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if lost or not names:
        raise FolderError(
            where=str(index),
            found=f"{', '.join(lost)} not there" if lost else "no weight_map",
            expected=f"all {len(names)} parts of the weights" if names else "the files of the weights",
            fix="Copy the missing files.",
        )
    return [index.parent / name for name in names]


def weight_files(root: Path) -> list[Path]:
    """Return the safetensors files of a folder.

    Raises:
        FolderError: there are none, or it is not clear which count.
    """
    if (root / "model.safetensors").is_file():
        return [root / "model.safetensors"]
    if (root / _INDEX).is_file():
        return indexed_files(root / _INDEX)
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
        FolderError: there are none, a file is damaged, or they are not of an architecture of the family.
    """
    stored: dict[str, TensorInfo] = {}
    for file in weight_files(root):
        stored.update(read_header(file))
    words = [name for name in stored if name.endswith(WORDS)]
    prefix = words[0].removesuffix(WORDS) if words else ""
    if len(words) != 1 or "roberta" in prefix:
        raise FolderError(
            where=str(root),
            found=f"tensors named {shorten(sorted(stored)[:3], 120)}",
            expected="the weights of one BERT, MegatronBERT, ALBERT or RoFormer",
            fix="jinyi does not run this kind of model. (The Chinese RoBERTa-wwm and CLUE models are BERT "
            "and do run; a true RoBERTa numbers positions differently.)",
        )
    names = canonical_names(stored, prefix)
    tensors = {names[name]: info for name, info in stored.items() if name in names}
    return TensorMap(tensors), tuple(sorted(name for name in stored if name not in names))


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
    """Read config.json, with the vocabulary size and the architecture as the weights have them.

    Returns:
        The configuration and notes on what was corrected.
    """
    rows, said = tensors.shape(WORDS)[0], raw.get("vocab_size")
    groups = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    albert = PROJECTION in tensors and POSITIONS in tensors
    seen = {
        "vocab_size": rows,
        "pad_token_id": 0,
        "pre_layer_norm": "encoder.ln.weight" in tensors,
        "rotary": POSITIONS not in tensors and (TABLE in tensors or raw.get("model_type") == "roformer"),
        "embedding_size": tensors.shape(WORDS)[1] if PROJECTION in tensors else None,
        "num_hidden_groups": len(groups) if albert else None,
    }
    config = EncoderConfig.from_dict({**raw, **seen})
    note = f"config.json says vocab_size {said}; the weights have {rows} rows, and they count."
    return config, (note,) if said != rows else ()


def encoder_shapes(config: EncoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of an encoder."""
    width, inner, narrow = config.hidden_size, config.intermediate_size, config.embedding_width
    yield WORDS, (config.vocab_size, narrow)
    if not config.rotary:
        yield POSITIONS, (config.max_position_embeddings, narrow)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, narrow)
    if not config.pre_layer_norm:
        yield from _with_bias([], ["embeddings.LayerNorm"], narrow)
    linear: list[tuple[str, tuple[int, int]]] = []
    if config.projects_embeddings:
        linear.append(("embeddings_project", (width, narrow)))
    norms = ["encoder.ln"] if config.pre_layer_norm else []
    for layer in range(config.stored_layers):
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
    """Yield name and shape of every tensor of the heads of which a part is among `tensors`.

    RoFormer's table of positions counts as one: it can be computed where it is not stored.
    """
    width, narrow = config.hidden_size, config.embedding_width
    if config.rotary and TABLE in tensors:
        yield TABLE, (config.max_position_embeddings, config.head_size)
    pooled = any(name.startswith("pooler.dense.") for name in tensors)
    if pooled or (config.rotary and CLASSIFIER in tensors):
        yield from _with_bias([("pooler.dense", (width, width))], [], width)
    if CLASSIFIER in tensors:
        yield from _with_bias([("classifier", (tensors[CLASSIFIER].shape[0], width))], [], width)
    if any(name.startswith("cls.predictions.") for name in tensors):
        transform = "cls.predictions.transform."
        yield from _with_bias([(f"{transform}dense", (narrow, width))], [f"{transform}LayerNorm"], narrow)
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


def _why_missing(config: EncoderConfig, missing: list[str]) -> str:
    if POSITIONS in missing and len(missing) == 1:
        return (
            "Relative positions (NEZHA) are not computed; a RoFormer is known by encoder.embed_positions.weight "
            "or by model_type in config.json."
        )
    if config.rotary and "embeddings.LayerNorm.weight" in missing:
        return "RoFormer v2, which has no biases and layer norms, is not computed; take a RoFormer of the first kind."
    return _OTHER_SOURCE


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
            expected=f"all of {config.architecture} with {config.num_hidden_layers} layers, as config.json says",
            fix=_why_missing(config, missing),
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
            expected=f"{config.architecture} with the {config.num_hidden_layers} layers that config.json says",
            fix=_OTHER_SOURCE,
        )


def refuse_roberta(raw: Mapping[str, Any], config: EncoderConfig, tensors: TensorMap, where: str) -> None:
    """Refuse a true RoBERTa whose tensors have BERT's names, as `RobertaModel` alone is saved.

    A BERT under a config that says roberta has two segments, and no position without a vector.

    Args:
        raw: config.json.
        config: what was made of it.
        tensors: the weights; their shapes are checked. One row of them is read.
        where: the folder, for messages.

    Raises:
        FolderError: it is one.
    """
    if raw.get("model_type") not in _ROBERTAS or POSITIONS not in tensors:
        return
    padding = raw.get("pad_token_id", 1)
    known = isinstance(padding, int) and 0 <= padding < config.max_position_embeddings
    if config.type_vocab_size > 1 and not (known and not tensors[POSITIONS][padding].any()):
        return
    raise FolderError(
        where=where,
        found=f"a true RoBERTa (model_type {raw['model_type']}, {config.type_vocab_size} segment embeddings, "
        f"{config.max_position_embeddings} positions)",
        expected="a BERT, MegatronBERT, ALBERT or RoFormer",
        fix="jinyi does not run this kind of model: it numbers positions differently. If its weights are those of a "
        "BERT, write bert as model_type into config.json.",
    )
