"""One process of several that share the batches of a topic task: python topic_process.py RANK WORLD FOLDER.

Reads FOLDER/train.jsonl, computes its parts of the first steps and leaves losses and gradients in RANK.pt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from jinyi.train.recipe import Batch, Source, TopicObjective
from jinyi.train.task import Share
from jinyi.train.tasks.topic import TopicTask
from train_toys import gradients, network, recipe, tokenizer

STEPS = 2
OBJECTIVE = TopicObjective(mlm=0.5, labels=1.0, contrastive=0.5, views=2, random_mlm=0.3)
WORDS = {"sport": "体育", "money": "财", "mood": "好心情"}


def task(folder: Path) -> TopicTask:
    source = Source(str(folder / "train.jsonl"), prompts=("是{}的：", "关于{}，"), words=WORDS)
    made = recipe("topic", OBJECTIVE, [source], batch=Batch(rows=9))
    return TopicTask(made, network(mlm=True), tokenizer(), Share())


def results(made: TopicTask, share: Share) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Of each step this process's share of the loss, and its gradients."""
    out = []
    for step in range(STEPS):
        (part,) = made.parts(step, share)
        loss = made.loss(part.inputs)[0] * (part.weight / len(made._sampler.rows(step)[0]))
        out.append((loss.item(), gradients(made, loss)))
    return out


if __name__ == "__main__":
    rank, world, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = torch.distributed.FileStore(str(place / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.save(results(task(place), Share(rank, world)), place / f"{rank}.pt")
    torch.distributed.destroy_process_group()
