"""One process of several that share the batches of a contrastive task: python contrastive_process.py RANK WORLD FOLDER.

Reads the task's rows in FOLDER, computes its parts of the first steps and leaves losses and gradients in RANK.pt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinyi.train.recipe import Batch, ContrastiveObjective, Source
from jinyi.train.task import Share
from jinyi.train.tasks.contrastive import ContrastiveTask
from train_toys import as_one_of_several, network, recipe, tokenizer

OBJECTIVE = ContrastiveObjective(loss="both", infonce=0.5, hard_negative_weight=0.3, mlm=0.2, cache=5)


def task(folder: Path, share: Share) -> ContrastiveTask:
    kinds: Any = ("pairs", "triplets", "texts")
    sources = [Source(str(folder / f"{kind}.jsonl"), kind=kind) for kind in kinds]
    made = recipe("contrastive", OBJECTIVE, sources, batch=Batch(rows=8))
    return ContrastiveTask(made, network(mlm=True), tokenizer(), share)


if __name__ == "__main__":
    as_one_of_several(task)
