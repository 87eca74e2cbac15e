"""How each task is trained: the published hyper-parameters, a grid for small models, and the recipe made of them.

The numbers are those of CLUEPretrainedModels' run_classifier_clue.sh, its script for all tasks; what it lacks is filled
in as `PUBLISHED` says. As there: warm-up over a tenth of the steps, weight decay 0.01, gradients clipped to 1, the best
dev checkpoint is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from jinyi.clue.tasks import ClueTask, tasks
from jinyi.errors import InputError, shorten
from jinyi.train.recipe import Recipe, reading, rules

Grid = Literal["none", "small"]
GRIDS: Final[tuple[Grid, ...]] = ("none", "small")
SMALL: Final = 40_000_000
"""Parameters below which a model is called small here."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set for a task; all else is the same for every task.

    Args:
        max_length: tokens of an input, control tokens included.
        rows: of a batch.
        lr: peak learning rate.
        epochs: passes over the training rows.
    """

    max_length: int
    rows: int
    lr: float
    epochs: float


PUBLISHED: Final = {
    "afqmc": Settings(128, 16, 2e-5, 3),
    "tnews": Settings(128, 16, 2e-5, 3),
    "iflytek": Settings(128, 32, 2e-5, 3),
    "cmnli": Settings(128, 64, 3e-5, 2),
    "ocnli": Settings(128, 64, 3e-5, 2),  # not in the script: as CMNLI
    "csl": Settings(128, 16, 1e-5, 5),
    "wsc": Settings(128, 16, 1e-5, 10),
    "qbqtc": Settings(52, 64, 2e-5, 7),  # of QBQTC's own baselines
}
"""By task; FewCLUE's tasks all have `FEW`."""
FEW: Final = Settings(128, 32, 2e-5, 3)
"""FewCLUE's plain fine-tuning."""

SMALL_RATES: Final = (5e-5, 1e-4, 2e-4)
"""Small models need larger steps: 1e-4 is what CLUEPretrainedModels and MiniRBT advise for theirs."""
_BY_OPTIONS: Final = {
    "start.model": "--model",
    "data.folder": "--data",
    "data.train.0.file": "--data",
    "data.dev.0.file": "--data",
}
"""Keys of a recipe that `--set` may not change."""
_SMALL_EPOCHS: Final = {"iflytek": 10, "cmnli": 3, "ocnli": 5, "wsc": 30, "qbqtc": 5}
_SMALL_EPOCHS_ELSE: Final = 8
_SMALL_EPOCHS_FEW: Final = 20


def published(task: ClueTask) -> Settings:
    """Return the published settings of a task."""
    return FEW if task.benchmark == "fewclue" else PUBLISHED[task.name]


def points(task: ClueTask, grid: Grid) -> tuple[Settings, ...]:
    """Return what is tried for a task, the published settings first.

    Args:
        task: the task.
        grid: "none": the published settings alone; "small": also `SMALL_RATES` with more epochs.
    """
    own = published(task)
    if grid == "none":
        return (own,)
    few = task.benchmark == "fewclue"
    epochs = _SMALL_EPOCHS_FEW if few else _SMALL_EPOCHS.get(task.name, _SMALL_EPOCHS_ELSE)
    return (own, *(replace(own, lr=lr, epochs=epochs) for lr in SMALL_RATES))


def check_grid(grid: str) -> Grid:
    """Return the grid, or raise InputError."""
    for known in GRIDS:
        if grid == known:
            return known
    raise InputError(
        found=f"grid {shorten(grid)}", expected=" or ".join(GRIDS), fix="Choose one.", where="--grid"
    )


def make_recipe(
    task: ClueTask,
    settings: Settings,
    *,
    model: str,
    data: Path,
    seed: int,
    name: str | None = None,
    sets: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of one run.

    Pairs are read in the order given, [CLS] a [SEP] b [SEP] with segments 0 and 1, single texts as [CLS] text [SEP];
    in both cases BERT's pooler and a linear layer, as many outputs as labels. Cross-entropy, dev rows scored ten times.

    Args:
        task: the task.
        settings: its hyper-parameters.
        model: folder or name of the model to begin from.
        data: folder with train.jsonl and dev.jsonl, as `write_rows` makes them.
        seed: of the run.
        name: of the run.
        sets: changes, `optimizer.lr=1e-4`; `tnews.optimizer.lr=1e-4` is for one task.

    Raises:
        InputError: a change that recipes do not have; names it.
    """
    objective: dict[str, Any] = {"labels": list(task.labels)}
    if task.paired:
        objective |= {"outputs": len(task.labels), "both_orders": False}
    raw: dict[str, Any] = {
        "name": name or task.name,
        "task": "pair" if task.paired else "classes",
        "seed": seed,
        "start": {"model": model},
        "data": {
            "folder": str(data),
            "train": [{"file": "train.jsonl", "name": task.name}],
            "dev": [{"file": "dev.jsonl", "name": task.name}],
            "max_length": settings.max_length,
        },
        "batch": {"rows": settings.rows},
        "schedule": {"epochs": settings.epochs, "warmup": 0.1, "shape": "linear"},
        "optimizer": {"lr": settings.lr, "weight_decay": 0.01, "clip": 1.0},
        "objective": objective,
        "evaluation": {"every": 0.1, "metric": task.metric},
        "output": {"summary": f"Classifier for {task.title}."},
    }
    own = reading.flatten(reading.from_plain(raw))
    changes = sets_for(task, sets)
    for change in changes:
        raw = reading.override(raw, change)

    def place(key: str) -> str:
        return next((f"--set {change}" for change in reversed(changes) if change.startswith(key)), key)

    recipe = reading.from_plain(raw, place=place)
    rules.check(recipe, place)
    if recipe.task != ("pair" if task.paired else "classes"):
        raise InputError(
            found=f"task {recipe.task}",
            expected="the kind of training that the task needs",
            fix="Leave task out of --set.",
            where="--set",
        )
    told = reading.flatten(recipe)
    for key, option in _BY_OPTIONS.items():
        if told.get(key) != own[key]:
            raise InputError(
                found=f"{shorten(told.get(key))} for {key}",
                expected=f"it to be told by {option}: a run is known by the model and the data that are given there",
                fix=f"Use {option}.",
                where=place(key),
            )
    if recipe.output.max_length is None:
        recipe = replace(recipe, output=replace(recipe.output, max_length=recipe.data.max_length))
    return recipe


def sets_for(task: ClueTask, sets: Sequence[str]) -> list[str]:
    """Return the changes that are for a task, without its name before them; those for it alone come last."""
    everywhere, alone = [], []
    for change in sets:
        first, dot, rest = change.partition(".")
        if dot and first in tasks():
            alone += [rest] if first == task.name else []
        else:
            everywhere.append(change)
    return everywhere + alone


def label_of(recipe: Recipe) -> str:
    """Return the settings of a recipe in a few words, for tables and names of folders."""
    long = (
        f"{recipe.schedule.epochs:g} epochs" if recipe.schedule.epochs else f"{recipe.schedule.steps} steps"
    )
    batch = f"batch {recipe.batch.rows}" if recipe.batch.rows else f"{recipe.batch.tokens} tokens a batch"
    return f"lr {recipe.optimizer.lr:g}, {batch}, {long}, {recipe.data.max_length} tokens"
