"""One process of several that share the batches of a contrastive task: python contrastive_process.py RANK WORLD FOLDER.

Reads the task's rows in FOLDER, computes its parts of the first steps and leaves losses and gradients in RANK.pt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from jinyi.train.recipe import Batch, ContrastiveObjective, Source
from jinyi.train.task import Share
from jinyi.train.tasks.contrastive import ContrastiveTask
from train_toys import gradients, network, recipe, tokenizer

STEPS = 3
OBJECTIVE = ContrastiveObjective(loss="both", infonce=0.5, hard_negative_weight=0.3, mlm=0.2, cache=5)


def task(folder: Path, share: Share) -> ContrastiveTask:
    kinds: Any = ("pairs", "triplets", "texts")
    sources = [Source(str(folder / f"{kind}.jsonl"), kind=kind) for kind in kinds]
    made = recipe("contrastive", OBJECTIVE, sources, batch=Batch(rows=8))
    return ContrastiveTask(made, network(mlm=True), tokenizer(), share)


def results(made: ContrastiveTask, share: Share) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Of each step this process's share of the loss, and its gradients."""
    out = []
    for step in range(STEPS):
        sources, _ = made._sampler.rows(step)
        (part,) = made.parts(step, share)
        loss = made.loss(part.inputs)[0] * (part.weight / len(sources))
        out.append((loss.item(), gradients(made, loss)))
    return out


if __name__ == "__main__":
    rank, world, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = torch.distributed.FileStore(str(place / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    here = Share(rank, world)
    torch.save(results(task(place, here), here), place / f"{rank}.pt")
    torch.distributed.destroy_process_group()
