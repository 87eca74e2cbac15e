"""Writes model folders that transformers, sentence-transformers and TEI open unchanged, old releases too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jinyi import __version__
from jinyi.arguments import whole_number
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder.atomic import MANIFEST, StagedFolder, read_manifest
from jinyi.folder.jsonfile import parse_json
from jinyi.folder.labels import find_similar
from jinyi.folder.layout import config_json, model_card, module_files, to_json, tokenizer_files
from jinyi.folder.model import (
    ARCHITECTURES,
    FORMAT,
    PROBLEM_TYPES,
    RANGES,
    RECORD,
    SEGMENT_IDS,
    TASKS,
    Dense,
    Golden,
)
from jinyi.folder.names import public_names
from jinyi.folder.read import read_folder
from jinyi.folder.tensors import safetensors_chunks
from jinyi.folder.weights import CLASSIFIER, MLM_BIAS, check_shapes
from jinyi.runtime import POOLINGS
from jinyi.runtime.rotary import TABLE, rotary_table
from jinyi.tokens import Tokenizer

# Entries that folders of other writers can be given.
_ANY_FOLDER = frozenset({"calibration", "int8", "similar_label", "segment_ids", "seen_texts"})


class SerializedTokenizer(Protocol):
    """Anything with the text of a `tokenizer.json`, such as `tokenizers.Tokenizer`."""

    def to_str(self) -> str:
        """Return the text of `tokenizer.json`."""
        ...


def write_folder(
    path: str | os.PathLike[str],
    *,
    task: str,
    config: EncoderConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    tokenizer: str | os.PathLike[str] | SerializedTokenizer,
    pooling: str | None = None,
    normalize: bool = False,
    dense: Sequence[Dense] = (),
    labels: Sequence[str] = (),
    similar_label: int | str | None = None,
    segment_ids: str | None = None,
    problem_type: str | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    trained_words: Sequence[str] = (),
    seen_texts: str | None = None,
    max_length: int | None = None,
    dtype: str = "float32",
    name: str | None = None,
    summary: str | None = None,
    licence: str | None = None,
    golden: Golden | Callable[[Path], Golden] | None = None,
    calibration: Mapping[str, Any] | None = None,
    ranges: Mapping[str, npt.NDArray[np.float32]] | None = None,
    int8: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    results: Sequence[Mapping[str, Any]] = (),
    conversion: Callable[[Path], Mapping[str, Any]] | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model folder whole or not at all.

    All files go to a hidden directory beside the target, are synced to the disk, read back and checked, and
    then put in place in one step; see `StagedFolder`. `docs/model-folder.md` lists the files.

    Args:
        path: folder to create.
        task: `"embed"`, `"pair"`, `"classes"`, `"topic"`, `"mlm"` or `"encoder"`; decides the class named in
            config.json: `BertModel`, `BertForSequenceClassification` or `BertForMaskedLM` (or MegatronBert...,
            Albert..., RoFormer...).
        config: shape of the encoder.
        weights: float arrays by Hugging Face name without the leading `bert.`, as `ModelFolder.weights` gives
            them. A classifier needs `classifier.*` and `pooler.dense.*`, a masked language model
            `cls.predictions.*` (decoder tied). Where an encoder has no pooler, an identity matrix is stored
            for it, because readers that build one would otherwise start from random numbers and warn
            (RoFormer's class has none). They are stored under the names of the architecture's own classes.
        tokenizer: a `tokenizer.json`, a folder with tokenizer files, or an object with `to_str()`.
        pooling: how vectors are made; required for `"embed"`, optional for the other encoders, never for a
            classifier. `"first_last"` is known to jinyi alone: other readers refuse such a folder.
        normalize: whether vectors are L2-normalised as the last step.
        dense: linear layers after pooling as (weight [out, in], bias [out] or None); whitening y = (x + b) K
            is (K^T, b K).
        labels: names of a classifier's outputs (one output: what it says, by default `similar`), or the
            default label words of a topic model.
        similar_label: which label of a pair model means similar, if the names do not tell.
        segment_ids: how a pair model wants the two texts marked: `"pair"` (segments 0 and 1; None says the same) or
            `"zeros"` (all of segment 0).
        problem_type: what config.json says of a classifier's outputs, by which transformers chooses softmax, sigmoid or
            neither: one of `PROBLEM_TYPES`; None takes what the number of outputs suggests. One output of a pair model
            is yes or no whatever this says.
        prompts: named prompts.
        default_prompt_name: the prompt used when none is named.
        trained_words: label words that a topic model was trained to say: where others are asked for too, each word's
            score on a text without content is subtracted (see `TopicClassifier`).
        seen_texts: which labelled texts the encoder was trained on, as `jinyi.models.seen.SeenTexts.to_text` says it.
        max_length: longest input in tokens; None takes all positions of the encoder.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`, the stored type. Readers compute in float32 all the same.
        name: name of the model; None takes the folder's.
        summary: one sentence on the model, for the card and for `jinyi models list`.
        licence: SPDX identifier for the card and the record.
        golden: inputs with outputs to check at every load, or a function that computes them from the finished
            folder before it is put in place.
        calibration: calibrator and thresholds, kept as they are.
        ranges: ranges of activations from `jinyi.runtime.int8.measure_ranges`; precision "int8" needs them.
        int8: what 8-bit arithmetic costs: {"loss": points of the metric, "metric": name, "data": ...}.
        training: recipe, data hashes, versions, seed; kept as it is.
        results: scores with their protocol names; kept as they are.
        conversion: a function that compares the finished folder with what it was made from, before it is put in
            place: what it returns is kept, what it raises leaves nothing behind.
        card: text of README.md; None writes a short one.
        overwrite: replace a model folder that is there already.

    Returns:
        The absolute path of the folder.

    Raises:
        FolderError: the target exists, the disk refuses a write, or weights, tokenizer and configuration do
            not belong together. Nothing is left behind.
        InputError: an unknown task, pooling or dtype.
    """
    _check_choice("task", task, TASKS)
    _check_choice("dtype", dtype, ("float32", "float16", "bfloat16"))
    if pooling is not None or task == "embed":
        _check_choice("pooling", pooling, POOLINGS)
    if segment_ids is not None:
        _check_choice("segment_ids", segment_ids, SEGMENT_IDS)
    if problem_type is not None:
        _check_choice("problem_type", problem_type, PROBLEM_TYPES)
    if ARCHITECTURES[task] == "ForSequenceClassification" and (pooling or dense):
        raise InputError(
            where="pooling, dense",
            found=f"steps to make vectors in a folder of task {task!r}",
            expected="them in a folder of an encoder (embed, topic, mlm, encoder)",
            fix="Leave them out; write a second folder of task embed for vectors.",
        )
    if dense and not pooling:
        raise InputError(
            where="dense", found="dense layers without pooling", expected="both", fix="Pass pooling= too."
        )
    if default_prompt_name is not None and default_prompt_name not in (prompts or {}):
        raise InputError(
            where="default_prompt_name",
            found=shorten(default_prompt_name),
            expected=f"one of the prompts {shorten(list(prompts or {}))}",
            fix="Name one of them, or add the prompt.",
        )
    if max_length is not None:
        fix = "[CLS], one more and [SEP]; leave it out for all that the encoder reads."
        max_length = whole_number(max_length, "max_length", least=3, unit="tokens", fix=fix)
    tensors = _complete(dict(weights), config, task)
    outputs = tensors[CLASSIFIER].shape[0] if CLASSIFIER in tensors else 0
    names = _output_names(labels, outputs, task, str(path))
    if task == "pair":
        index = find_similar(names, outputs, similar_label, str(path))
        similar_label = similar_label if similar_label is None or isinstance(similar_label, str) else index
    length = min(max_length or config.max_position_embeddings, config.max_position_embeddings)
    backend = _tokenizer_json(tokenizer)

    with StagedFolder(path, overwrite=overwrite) as stage:
        title = name or stage.target.name
        stage.put("config.json", to_json(config_json(config, task, names, problem_type)))
        public = public_names(config, tensors)
        stage.put(
            "model.safetensors",
            safetensors_chunks({public[key]: array for key, array in tensors.items()}, dtype),
        )
        for file, text in tokenizer_files(backend, length).items():
            stage.put(file, text)
        if pooling is not None:
            files = module_files(
                config,
                pooling=pooling,
                normalize=normalize,
                dense=dense,
                max_length=length,
                prompts=prompts or {},
                default_prompt_name=default_prompt_name,
            )
            for file, data in files.items():
                stage.put(file, data)
        if ranges:
            stage.put(RANGES, safetensors_chunks(ranges))
        count = sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in tensors.values())
        record = {
            "format": FORMAT,
            "jinyi": __version__,
            "name": title,
            "summary": summary,
            "task": task,
            "parameters": count,
            "licence": licence,
            "pooling": pooling,
            "normalize": normalize,
            "labels": list(names),
            "similar_label": similar_label,
            "segment_ids": segment_ids,
            "prompts": dict(prompts or {}),
            "default_prompt_name": default_prompt_name,
            "trained_words": list(trained_words),
            "seen_texts": seen_texts,
            "max_length": length,
            "calibration": calibration,
            "golden": golden.to_dict() if isinstance(golden, Golden) else None,
            "int8": int8,
            "training": training,
            "results": list(results),
            "conversion": None,
        }
        stage.put("README.md", card or model_card(record, config))
        stage.put(RECORD, to_json(record))
        read_folder(stage.path)
        late: dict[str, Any] = {}
        if conversion is not None:
            late["conversion"] = dict(conversion(stage.path))
        if callable(golden):
            late["golden"] = golden(stage.path).to_dict()
        if late:
            stage.replace(RECORD, to_json(record | late))
            read_folder(stage.path)
    return stage.target


def update_record(
    path: str | os.PathLike[str],
    *,
    target: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    ranges: Mapping[str, npt.NDArray[np.float32]] | None = None,
    **changes: Any,
) -> Path:
    """Change entries of `jinyi.json` (calibration, results...) with the safety of `write_folder`.

    Unchanged files are hard-linked into the new folder, so this is quick for large models too; a folder without
    checksums is read once for them.

    Args:
        path: a folder written by jinyi, or with `target` any model folder.
        target: write a folder with the changes there and leave `path` as it is; None changes `path`.
        overwrite: replace a model folder that is at `target`.
        ranges: new ranges of activations for precision "int8"; None keeps those that are there.
        changes: entries to set.

    Returns:
        The absolute path of the changed folder.

    Raises:
        FolderError: the folder was not written by jinyi, the target exists, or the disk refuses a write.
        InputError: an entry that `jinyi.json` does not have.
    """
    root = Path(os.path.expanduser(path)).resolve()
    folder = read_folder(root)
    record = {"format": FORMAT, "jinyi": __version__, "task": folder.task, **folder.record}
    if target is None and not (folder.record and read_manifest(root)):
        raise FolderError(
            where=str(root),
            found=f"no {RECORD} with {MANIFEST}",
            expected="a folder written by jinyi",
            fix="Write a copy of it: give another folder as target (--output).",
        )
    unknown = sorted(set(changes) - set(record) - _ANY_FOLDER)
    if unknown:
        raise InputError(
            where="update_record",
            found=", ".join(unknown),
            expected=f"entries of {RECORD}: {', '.join(record)}",
            fix="Correct the name.",
        )
    with StagedFolder(root if target is None else target, overwrite=overwrite or target is None) as stage:
        stage.take_over(root, without=(RECORD, RANGES) if ranges else (RECORD,))
        if ranges:
            stage.put(RANGES, safetensors_chunks(ranges))
        stage.put(RECORD, to_json(record | changes))
        read_folder(stage.path)
    return stage.target


def _check_choice(name: str, value: str | None, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(
            where=name, found=shorten(value), expected=f"one of {', '.join(known)}", fix="Choose one of them."
        )


def _complete(
    weights: dict[str, npt.NDArray[Any]], config: EncoderConfig, task: str
) -> dict[str, npt.NDArray[Any]]:
    """Keep what the architecture has, add an identity pooler where it needs one, check the shapes."""
    architecture = ARCHITECTURES[task]
    dropped = {
        "Model": ("classifier.", "cls.", *(["pooler."] if config.rotary else [])),
        "ForSequenceClassification": ("cls.",),
        "ForMaskedLM": ("classifier.", "pooler."),
    }[architecture]
    tensors = {key: value for key, value in weights.items() if not key.startswith(dropped)}
    needed = {"ForSequenceClassification": [CLASSIFIER, "pooler.dense.weight"], "ForMaskedLM": [MLM_BIAS]}
    missing = [key for key in needed.get(architecture, []) if key not in tensors]
    if missing:
        raise FolderError(
            where="weights",
            found=f"no {', '.join(missing)}",
            expected=f"the head of a model for the task {task!r}",
            fix="Pass the head's weights too, or write the folder for another task.",
        )
    if config.rotary and TABLE not in tensors:
        tensors[TABLE] = rotary_table(config)
    if architecture == "Model" and not config.rotary and "pooler.dense.weight" not in tensors:
        tensors["pooler.dense.weight"] = np.eye(config.hidden_size, dtype=np.float32)
        tensors["pooler.dense.bias"] = np.zeros(config.hidden_size, dtype=np.float32)
    check_shapes(config, tensors, "weights")
    return tensors


def _output_names(labels: Sequence[str], outputs: int, task: str, where: str) -> tuple[str, ...]:
    names = tuple(str(label) for label in labels)
    if task not in ("pair", "classes"):
        return names
    if not names and task == "pair":
        names = ("similar",) if outputs == 1 else ("not similar", "similar")
    if len(names) != outputs or len(set(names)) != outputs:
        raise FolderError(
            where=where,
            found=f"{len(set(names))} different labels {shorten(list(names), 80)}",
            expected=f"{outputs}, one for each output of {CLASSIFIER}",
            fix="Pass labels= with one name per output, in their order.",
        )
    return names


def _tokenizer_json(tokenizer: str | os.PathLike[str] | SerializedTokenizer) -> dict[str, Any]:
    if isinstance(tokenizer, (str, os.PathLike)):
        file = Path(os.path.expanduser(tokenizer))
        if file.is_dir():
            return _tokenizer_json(Tokenizer.from_folder(file))
        if not file.is_file():
            raise FolderError(
                where=str(file),
                found="no such file",
                expected="a tokenizer.json",
                fix="Make one from a vocab.txt with jinyi.tokens.build_tokenizer.",
            )
        body: dict[str, Any] = parse_json(file)
    else:
        body = json.loads(tokenizer.to_str())
    return body
