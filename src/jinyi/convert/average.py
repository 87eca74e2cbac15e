"""One model folder with the mean weights of several that a common beginning keeps near each other."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
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
from jinyi.models.golden import golden_for
from jinyi.models.seen import SeenTexts, seen_texts
from jinyi.registry import find_entry, locate
from jinyi.tokens import Tokenizer

# What models must share for the mean of their weights to be a model of the same kind.
_SHARED = ("task", "pooling", "labels", "similar_label", "segment_ids", "problem_type")
_UNSPOKEN = ("vocabulary", "dense layers", "set of weights")  # too long for a message


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
    mean is about as good as the best of them, at the cost of one model (model soups, Wortsman et al. 2022, arXiv
    2203.05482). Models that began from different random weights have a useless mean. What was measured on the weights
    of one (calibration, 8-bit ranges, results) is left out; golden sentences are computed anew. The folder's training
    record keeps that of each model.

    Args:
        models: names or folders, each with its weight, above 0; weights are divided by their sum. The first one
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
    stage = StagedFolder(path, overwrite=overwrite)
    stage.check_target()
    weights = _shares([weight for _, weight in models])
    folders = [_opened(model) for model, _ in models]
    _check_together(folders, stage.target)
    first = folders[0]
    arguments = carried(first) | {
        "weights": _Mean(folders, weights),
        "tokenizer": Tokenizer.from_folder(first.tokenizer_file.parent),
        "name": name or stage.target.name,
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
        "golden": golden_for(first.task),
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


def _opened(model: str | os.PathLike[str]) -> ModelFolder:
    """The folder of a name or path; a published one for the task that it is published for."""
    found = locate(model)
    entry = find_entry(found.name) if found.name else None
    return read_folder(found.path, task=entry.task if entry else None, facts=found.facts)


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
        if not _above_zero(weight):
            raise InputError(
                where="weight",
                found=shorten(weight),
                expected="a number above 0",
                fix="Write FOLDER=0.5, say.",
            )
    numbers = [float(weight) for weight in weights]
    relative = [number / max(numbers) for number in numbers]
    return [share / math.fsum(relative) for share in relative]


def _above_zero(weight: Any) -> bool:
    try:
        return not isinstance(weight, (bool, str)) and 0 < float(weight) < math.inf
    except (TypeError, ValueError, OverflowError):
        return False


def _check_together(folders: Sequence[ModelFolder], target: Path) -> None:
    """Refuse models whose mean weights would mean nothing, and those that the new folder would take the place of."""
    for one, other in combinations(folders, 2):
        if one.path.samefile(other.path):
            raise InputError(
                where=str(other.path),
                found="the same model twice",
                expected="it once",
                fix="Add up its weights.",
            )
    for folder in folders:
        if target in folder.path.resolve().parents:
            raise FolderError(
                where=str(folder.path),
                found=f"a model inside {target}, which is to be replaced",
                expected="a folder without the models that are averaged",
                fix="Write the mean elsewhere.",
            )
        if folder.record.get("topic"):
            raise FolderError(
                where=str(folder.path),
                found="a fitted or saved TopicClassifier",
                expected="the encoder that it was fitted on",
                fix="Average the encoders, then fit on the mean.",
            )
    first, kind = folders[0], _kind(folders[0])
    for folder in folders[1:]:
        own = _kind(folder)
        if key := next((key for key in kind if own[key] != kind[key]), None):
            told = "" if key in _UNSPOKEN else f": {shorten(own[key])}; {shorten(kind[key])} in {first.path}"
            raise FolderError(
                where=str(folder.path),
                found=f"its own {key}{told}",
                expected="models of one kind, that went on from the same weights",
                fix=f"Leave it out, or train it from the weights that {first.path.name} began from.",
            )


def _kind(folder: ModelFolder) -> dict[str, Any]:
    """What must be equal, by the name that a message calls it."""
    shared = {key.replace("_", " "): getattr(folder, key) for key in _SHARED}
    tokenizer = json.loads(Tokenizer.from_folder(folder.tokenizer_file.parent).to_str())
    return {
        **shared,
        **{key: value for key, value in asdict(folder.config).items() if not key.endswith("_dropout_prob")},
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
    """The labelled texts that any of them was trained on, as far as they tell."""
    told = [sketch for sketch in map(seen_texts, folders) if sketch is not None]
    return reduce(SeenTexts.merged, told).to_text() if told else None


def _part(folder: ModelFolder, weight: float) -> dict[str, Any]:
    """What the training record says of one model, less its card and the settings that it left open."""
    training = folder.record.get("training")
    if isinstance(training, Mapping) and isinstance(training.get("recipe"), Mapping):
        recipe = training["recipe"].items()
        recipe = {key: value for key, value in recipe if value is not None and key != "output.card"}
        training = {**training, "recipe": recipe}
    files = sorted(folder.path.glob("model*.safetensors"))
    return {
        "name": str(folder.record.get("name") or folder.path.name),
        "weight": weight,
        "sha256": {file.name: file_sha256(file) for file in files},
        "training": training,
    }


def _card(arguments: Mapping[str, Any], first: ModelFolder, more: str | None) -> str:
    """The folder's short card with the models that it is the mean of."""
    record = {**arguments, "parameters": first.parameters}
    lines = [model_card(record, first.config), "## Training\n", "The weights are a mean (`jinyi average`):\n"]
    lines += ["| weight | model | recipe | seed | steps |", "|---:|---|---|---:|---:|"]
    files: dict[tuple[str, str], None] = {}  # in their order
    for share, depth, name, run in _runs(arguments["training"]["average_of"]):
        told = (run.get("recipe") or {}).get("name", ""), run.get("seed", ""), run.get("step", "")
        inner = "of this: " * depth
        lines.append(
            "| " + " | ".join(_cell(value) for value in (f"{share:.3g}", inner + name, *told)) + " |"
        )
        files |= dict.fromkeys(_data(run))
    if files:
        lines += ["", "| training file | SHA-256 |", "|---|---|"]
        lines += [f"| {_cell(file)} | {digest} |" for file, digest in files]
    return "\n".join([*lines, *(["", more.strip()] if more else [])]) + "\n"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


def _runs(parts: Sequence[Any], depth: int = 0) -> Iterator[tuple[float, int, str, Mapping[str, Any]]]:
    """Weight, depth, name and training record of each part, those of a mean within the mean below it."""
    for part in parts:
        training = part["training"] if isinstance(part["training"], Mapping) else {}
        recipe = training.get("recipe")
        yield part["weight"], depth, part["name"], training if isinstance(recipe, Mapping) else {}
        if isinstance(inner := training.get("average_of"), list):
            yield from _runs(inner, depth + 1)


def _data(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The training files of a run with their hashes, as its record has them."""
    recipe, sums = run.get("recipe") or {}, run.get("data") or {}
    for key, file in recipe.items():
        if key.startswith("data.train.") and key.endswith(".file"):
            yield recipe.get(key.removesuffix("file") + "name") or file, sums.get(file, "not kept")
