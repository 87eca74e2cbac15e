"""What a run leaves: model folders with their training record, card and golden sentences."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jinyi import __version__
from jinyi.errors import FolderError, ModelNotFoundError
from jinyi.folder import write_folder
from jinyi.folder.layout import model_card
from jinyi.hashes import file_sha256
from jinyi.models.golden import golden_for
from jinyi.registry import find_model
from jinyi.train.recipe import PairObjective, Recipe, reading
from jinyi.train.task import Task

_TOKENIZER = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
_WEIGHTS = ("*.safetensors", "config.json", "modules.json")


def data_hashes(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every file (or folder of shards) the recipe names that is there, by the name in the recipe.

    Also of the teacher's weights, settings and tokenizer, and of the tokenizer the run begins with: what is learned
    depends on them in every step, where weights to begin from have done their part before the first.

    Cost: data and teacher are read once, about a second for each gigabyte.
    """
    root = Path(os.path.expanduser(recipe.data.folder or "."))
    sums = {}
    for source in (*recipe.data.train, *recipe.data.dev):
        path = root / os.path.expanduser(source.file)
        if path.exists():
            sums[source.file] = _hash(path)
    teacher, begin = getattr(recipe.objective, "teacher", None), recipe.start.tokenizer or recipe.start.model
    for key, named, patterns in (
        ("teacher", teacher, _WEIGHTS + _TOKENIZER),
        ("tokenizer of", begin, _TOKENIZER),
    ):
        place = None if named is None else _place(named)
        if place is not None:
            sums[f"{key} {named}"] = _digests(place, patterns)
    return sums


def _place(named: str) -> Path | None:
    """A file, or the folder of a model; None for one that is not there, which whoever needs it says."""
    path = Path(named).expanduser()
    try:
        return path if path.is_file() else find_model(named)
    except ModelNotFoundError:
        return None


def _digests(place: Path, patterns: Sequence[str]) -> str:
    """Hash of a file, or of the files of a model folder whose names match, with their hashes."""
    if place.is_file():
        return _hash(place)
    files = sorted({file for pattern in patterns for file in place.rglob(pattern)})
    told = "".join(f"{_hash(file)}  {file.relative_to(place).as_posix()}\n" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()


def write_model(
    path: Path,
    task: Task,
    recipe: Recipe,
    weights: Mapping[str, Any],
    *,
    step: int,
    scores: Mapping[str, float],
    record: Mapping[str, Any],
) -> Path:
    """Write the network as a model folder, whole or not at all; one that is there is replaced.

    Args:
        path: folder to write.
        task: what was trained; `Task.folder` says what kind of model it is.
        recipe: the run.
        weights: of the network, by the folder's names.
        step: optimiser steps done.
        scores: dev scores of these weights; may be empty.
        record: what else the training record says: machine, data hashes, rows, tokens, seconds.

    Raises:
        FolderError: the disk refuses a write, or weights and task do not belong together.
    """
    output = recipe.output
    training = {
        "recipe": reading.flatten(recipe),
        "fingerprint": reading.fingerprint(recipe),
        "seed": recipe.seed,
        "step": step,
        **record,
        "versions": versions(),
    }
    dev = {name: float(value) for name, value in scores.items() if np.isfinite(value)}
    task_says = task.folder()
    arguments: dict[str, Any] = {
        "config": task.network.config,
        "weights": task.finished(weights),
        "tokenizer": task.tokenizer,
        "name": output.name or recipe.name,
        "summary": output.summary,
        "licence": output.licence,
        "max_length": output.max_length,
        "dtype": output.dtype,
        "golden": golden_for(task_says["task"]),
        "training": training,
        "results": [{"protocol": "dev files of the recipe", "step": step, **dev}] if dev else [],
        **task_says,
    }
    card = _card(arguments, recipe, training, dev)
    return write_folder(path, **arguments, card=card, overwrite=True)


def versions() -> dict[str, str]:
    """Versions of what computed a run."""
    found = {"jinyi": __version__, "python": platform.python_version()}
    for name in ("torch", "accelerate", "numpy", "tokenizers"):
        found[name] = importlib.metadata.version(name)
    return found


def _card(
    arguments: Mapping[str, Any], recipe: Recipe, training: Mapping[str, Any], dev: Mapping[str, float]
) -> str:
    """The folder's short card, and what is known of the training."""
    config = arguments["config"]
    record = {
        "pooling": None,
        "normalize": False,
        **arguments,
        "parameters": sum(array.size for array in arguments["weights"].values()),
        "max_length": arguments["max_length"] or config.max_position_embeddings,
    }
    machine = training.get("machine", {})
    minutes = training.get("seconds", 0.0) / 60
    lines = [
        model_card(record, config),
        "## Training\n",
        f"Made by `jinyi train` with the recipe `{recipe.name}` (task `{recipe.task}`), fingerprint "
        f"`{training['fingerprint'][:16]}`, seed {recipe.seed}: {training['step']} steps, "
        f"{training.get('tokens', 0):,} tokens, {minutes:,.1f} minutes on {machine.get('processes', 1)} x "
        f"{machine.get('device', 'cpu')} in {machine.get('precision', 'float32')}.\n",
        "| training file | SHA-256 |",
        "|---|---|",
    ]
    sums = training.get("data", {})
    for source in recipe.data.train:
        lines.append(f"| {source.name or source.file} | {sums.get(source.file, 'not kept')} |")
    if dev:
        files = ", ".join(source.name or source.file for source in recipe.data.dev)
        lines += ["", "## Dev scores\n", f"On {files or 'the dev files'}, after step {training['step']}.\n"]
        lines += ["| score | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4f} |" for name, value in dev.items()]
    if isinstance(recipe.objective, PairObjective) and not recipe.objective.both_orders:
        lines += ["", "Pairs were read in the order given; so does `predict(pairs, symmetric=False)`."]
    if recipe.output.card:
        lines += ["", recipe.output.card]
    return "\n".join(lines) + "\n"


def _hash(path: Path) -> str:
    """Hash of a file, or of the hashes of a folder's files in the order of their names."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            digest.update(f"{_hash(file)}  {file.relative_to(path).as_posix()}\n".encode())
        return digest.hexdigest()
    try:
        return file_sha256(path)
    except OSError as error:
        raise FolderError(
            where=str(path),
            found=f"a file that cannot be read: {error}",
            expected="readable training data",
            fix="Check the disk and the permissions.",
        ) from error
