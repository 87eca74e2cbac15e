"""From a recipe to the task it describes: data read, weights made, ready for the loop."""

from __future__ import annotations

import os
from importlib import import_module

from jinyi.train import start
from jinyi.train.recipe import Recipe, rules
from jinyi.train.task import Share, Task

CLASSES = {
    "pretrain": "PretrainTask",
    "contrastive": "ContrastiveTask",
    "pair": "PairTask",
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
    network, tokenizer = start.build(recipe)
    kind = getattr(import_module(f"jinyi.train.tasks.{recipe.task}"), CLASSES[recipe.task])
    task: Task = kind(recipe, network, tokenizer, share or share_here())
    return task


def share_here() -> Share:
    """Return which process this is, as torchrun tells its children; alone, without torchrun."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
