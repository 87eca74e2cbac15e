"""One model folder with the mean weights of several that a common beginning keeps near each other."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi import __version__
from jinyi.convert.carried import carried
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder import ModelFolder, StagedFolder, read_folder, write_folder
from jinyi.folder.layout import model_card
from jinyi.hashes import file_sha256
from jinyi.models.golden import make_golden
from jinyi.models.seen import SeenTexts, seen_texts
from jinyi.registry import find_model
from jinyi.tokens import Tokenizer

# What models must share for the mean of their weights to be a model of the same kind.
_SHARED = ("task", "pooling", "labels", "similar_label", "segment_ids", "problem_type")
_UNSPOKEN = ("vocabulary", "dense layers", "set of weights")  # too long for a message
_GOLDEN_TASKS = ("embed", "pair", "topic", "mlm")


def average(
    models: Sequence[tuple[str | os.PathLike[str], float]],
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    summary: str | None = None,
    licence: str | None = None,
    dtype: str | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a folder whose weights are the weighted mean of those of several models, added up in float64.

    Runs that went on from the same weights (other seeds, other data, later steps) mostly lie in one basin, where the
    mean is as good as the best of them or better, at the cost of one model (model soups, Wortsman et al. 2022, arXiv
    2203.05482). Models that began from different random weights have a useless mean. What was measured on the weights
    of one (calibration, 8-bit ranges, results) is left out; golden sentences are computed anew. The folder's training
    record keeps that of each model.

    Args:
        models: names or folders, each with its weight, 0 or more; weights are divided by their sum. The first one
            gives normalisation, prompts, summary, longest input and stored type.
        path: folder to write, whole or not at all.
        name: of the new model; None takes the folder's.
        summary: one sentence on it; None takes that of the first.
        licence: SPDX identifier; None takes that of the models, if it is the same.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`; None: as the first one is stored.
        card: text put at the end of README.md.
        overwrite: replace a model folder that is there.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: fewer than two models, one of them twice, a weight that is none, or licences that differ.
        FolderError: models that differ in what has to be the same, fitted topic models, or a folder that cannot be
            read or written.
    """
    StagedFolder(path, overwrite=overwrite).check_target()
    weights = _shares([weight for _, weight in models])
    folders = [read_folder(find_model(os.fspath(model))) for model, _ in models]
    _check_together(folders)
    first = folders[0]
    arguments = carried(first) | {
        "weights": _Mean(folders, weights),
        "tokenizer": Tokenizer.from_folder(first.tokenizer_file.parent),
        "name": name or Path(path).name,
        "summary": summary or first.record.get("summary"),
        "licence": licence or _licence(folders),
        "dtype": dtype or first.stored_type,
        "trained_words": sorted(
            {word for folder in folders for word in folder.record.get("trained_words") or ()}
        ),
        "seen_texts": _seen(folders),
        "calibration": None,
        "ranges": None,
        "int8": None,
        "results": (),
        "golden": make_golden if first.task in _GOLDEN_TASKS else None,
        "training": {
            "average_of": [_part(folder, weight) for folder, weight in zip(folders, weights, strict=True)],
            "versions": {"jinyi": __version__, "numpy": np.__version__},
        },
    }
    return write_folder(path, **arguments, card=_card(arguments, first, card), overwrite=overwrite)


class _Mean(Mapping[str, npt.NDArray[Any]]):
    """Mean weights by name; a tensor is added up when it is asked for."""

    def __init__(self, folders: Sequence[ModelFolder], weights: Sequence[float]) -> None:
        self._parts = [(folder.weights(), weight) for folder, weight in zip(folders, weights, strict=True)]

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        total = sum(np.asarray(tensors[key], np.float64) * weight for tensors, weight in self._parts)
        return np.asarray(total, np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[0][0])

    def __len__(self) -> int:
        return len(self._parts[0][0])


def _shares(weights: Sequence[float]) -> list[float]:
    """The weights divided by their sum."""
    if len(weights) < 2:
        raise InputError(
            where="models",
            found=f"{len(weights)} of them",
            expected="at least two, whose weights are averaged",
            fix="Name another run that went on from the same weights.",
        )
    for weight in weights:
        if not math.isfinite(weight) or weight < 0:
            raise InputError(
                where="weight", found=str(weight), expected="a number from 0 on", fix="Write FOLDER=0.5, say."
            )
    total = math.fsum(weights)
    if not total:
        raise InputError(
            where="weights",
            found="all of them 0",
            expected="one above 0",
            fix="Give the models their weights.",
        )
    return [weight / total for weight in weights]


def _check_together(folders: Sequence[ModelFolder]) -> None:
    """Refuse models whose mean weights would mean nothing."""
    for one, other in combinations(folders, 2):
        if one.path.samefile(other.path):
            raise InputError(
                where=str(other.path),
                found="the same model twice",
                expected="it once",
                fix="Add up its weights.",
            )
    for folder in folders:
        if folder.record.get("topic"):
            raise FolderError(
                where=str(folder.path),
                found="a fitted or saved TopicClassifier",
                expected="the encoder that it was fitted on",
                fix="Average the encoders, then fit on the mean.",
            )
    first, kinds = folders[0], [_kind(folder) for folder in folders]
    for folder, kind in zip(folders[1:], kinds[1:], strict=True):
        for key, value in kind.items():
            if value != kinds[0][key]:
                short = key not in _UNSPOKEN
                told = f": {shorten(value)}; {shorten(kinds[0][key])} in {first.path}" if short else ""
                raise FolderError(
                    where=str(folder.path),
                    found=f"another {key} than in the first model{told}",
                    expected="models of one kind, that went on from the same weights",
                    fix=f"Leave it out, or train it from the weights that {first.path.name} began from.",
                )


def _kind(folder: ModelFolder) -> dict[str, Any]:
    """What must be equal, by the name that a message calls it."""
    shared = {key.replace("_", " "): getattr(folder, key) for key in _SHARED}
    tokenizer = json.loads(Tokenizer.from_folder(folder.tokenizer_file.parent).to_str())
    return {
        **shared,
        "shape": replace(folder.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        "vocabulary": {key: part for key, part in tokenizer.items() if key not in ("truncation", "padding")},
        "dense layers": [
            [None if part is None else part.tobytes() for part in layer] for layer in folder.dense
        ],
        "set of weights": sorted(folder.weights()),
    }


def _licence(folders: Sequence[ModelFolder]) -> str | None:
    """The licence of all of them."""
    licences: set[str | None] = {carried(folder)["licence"] for folder in folders}
    if len(licences) > 1:
        raise InputError(
            where="licence",
            found=", ".join(sorted(str(licence) for licence in licences)),
            expected="the same one of all models",
            fix="Say which one holds for the mean: --licence, or licence=.",
        )
    return licences.pop()


def _seen(folders: Sequence[ModelFolder]) -> str | None:
    """The labelled texts that any of them was trained on; None where one does not tell."""
    sketches = [seen_texts(folder) for folder in folders]
    told = [sketch for sketch in sketches if sketch is not None]
    return reduce(SeenTexts.merged, told).to_text() if len(told) == len(sketches) else None


def _part(folder: ModelFolder, weight: float) -> dict[str, Any]:
    """What the training record says of one model."""
    files = sorted(folder.path.glob("*.safetensors"))
    return {
        "name": _name(folder),
        "weight": weight,
        "sha256": {file.name: file_sha256(file) for file in files if file.name.startswith("model")},
        "training": folder.record.get("training"),
    }


def _name(folder: ModelFolder) -> str:
    return str(folder.record.get("name") or folder.path.name)


def _card(arguments: Mapping[str, Any], first: ModelFolder, more: str | None) -> str:
    """The folder's short card with the models that it is the mean of."""
    record = {**arguments, "parameters": first.parameters}
    lines = [model_card(record, first.config), "## Training\n", "The weights are a mean (`jinyi average`):\n"]
    lines += ["| weight | model | recipe | seed | steps |", "|---:|---|---|---:|---:|"]
    sums: dict[str, str] = {}
    for part in arguments["training"]["average_of"]:
        run = part["training"] or {}
        recipe, seed, steps = run.get("recipe", {}).get("name", ""), run.get("seed", ""), run.get("step", "")
        lines.append(f"| {part['weight']:.3g} | {part['name']} | {recipe} | {seed} | {steps} |")
        sums |= {file: digest for file, digest in _data(run) if sums.get(file, digest) == digest}
    if sums:
        lines += ["", "| training file | SHA-256 |", "|---|---|"]
        lines += [f"| {file} | {digest} |" for file, digest in sums.items()]
    return "\n".join([*lines, *(["", more.strip()] if more else [])]) + "\n"


def _data(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The training files of a run with their hashes, as its record has them."""
    trained = {
        value
        for key, value in run.get("recipe", {}).items()
        if key.startswith("data.train.") and key.endswith(".file")
    }
    yield from ((file, digest) for file, digest in run.get("data", {}).items() if file in trained)
