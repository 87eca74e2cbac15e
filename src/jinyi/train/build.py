"""From a recipe to the task it describes: data read, weights made, ready for the loop."""

from __future__ import annotations

import os
from importlib import import_module

from jinyi.errors import InputError
from jinyi.train import start
from jinyi.train.data.rows import source_path
from jinyi.train.recipe import Recipe, rules
from jinyi.train.task import Share, Task

CLASSES = {
    "pretrain": "PretrainTask",
    "contrastive": "ContrastiveTask",
    "pair": "PairTask",
    "classes": "ClassesTask",
    "topic": "TopicTask",
    "distill": "DistillTask",
}
"""The class of each task, in the module `jinyi.train.tasks.NAME`."""


def build_task(recipe: Recipe, share: Share | None = None) -> Task:
    """Make weights, tokenizer and rows of a recipe.

    Args:
        recipe: checked once more, because it may not come from a file.
        share: which process this is; None asks the environment that torchrun sets.

    Returns:
        The task, its network on the CPU.

    Raises:
        InputError: the recipe contradicts itself, or a row cannot be used (file and line are named).
        FolderError, ModelNotFoundError: a model or shard folder is missing, damaged or of another vocabulary.
    """
    rules.check(recipe)
    _check_files(recipe)
    network, tokenizer = start.build(recipe)
    kind = getattr(import_module(f"jinyi.train.tasks.{recipe.task}"), CLASSES[recipe.task])
    task: Task = kind(recipe, network, tokenizer, share or share_here())
    return task


def _check_files(recipe: Recipe) -> None:
    """Refuse names of files that are not there, before the first of them is read."""
    sources = (*recipe.data.train, *recipe.data.dev)
    missing = [source.file for source in sources if not source_path(source, recipe.data).exists()]
    if missing:
        more = f" and {len(missing) - 5} more" if missing[5:] else ""
        raise InputError(
            where=f"data.folder = {recipe.data.folder or os.curdir}",
            found=f"no such file: {', '.join(missing[:5])}{more}",
            expected=f"the {len(sources)} files that the recipe names",
            fix="Say with --data (data.folder) where they lie; text becomes shards by `jinyi corpus shard`.",
        )


def share_here() -> Share:
    """Return which process this is, as torchrun tells its children; alone, without torchrun."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
