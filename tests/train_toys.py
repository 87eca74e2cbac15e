"""What the tests of training share: small files of texts, a small network, a plain optimiser loop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.network import Network
from jinyi.train.recipe import Batch, Data, Recipe, Schedule, Source, Start
from jinyi.train.task import Share, Task
from small_models import CONFIG, VOCAB

ALONE = Share()
SENTENCES = (
    "怎么改密码",
    "如何修改密码",
    "今天天气很好",
    "天气不好",
    "体育新闻",
    "财经新闻",
    "今天心情好",
    "登录不下",
)


def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=48)


def network(seed: int = 0, *, dropout: float = 0.0, **heads: Any) -> Network:
    torch.manual_seed(seed)
    config = replace(CONFIG, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    made = Network(config, **heads)
    with torch.no_grad():  # BERT's start is so small that 32 channels learn slowly
        for name, weight in made.named_parameters():
            if weight.ndim > 1:
                weight.mul_(5.0 if "embeddings" in name else 3.0)
    return made


def jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(task: str, objective: Any, train: Iterable[Source], **sections: Any) -> Recipe:
    dev, folder = tuple(sections.pop("dev", ())), sections.pop("folder", None)
    data = Data(
        tuple(train),
        dev,
        folder=folder,
        max_length=sections.pop("max_length", 24),
        **sections.pop("mixing", {}),
    )
    sections = {"batch": Batch(rows=8), "schedule": Schedule(steps=10), "start": Start(), **sections}
    return Recipe(name="toy", task=task, data=data, objective=objective, **sections)  # type: ignore[arg-type]


def train(task: Task, steps: int, lr: float = 2e-3) -> list[float]:
    """Adam over the parts as the loop weighs them; the loss of each step."""
    optimizer = torch.optim.Adam(task.network.parameters(), lr=lr)
    losses = []
    task.network.train()
    for step in range(steps):
        torch.manual_seed(step)
        loss = total(task, step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def total(task: Task, step: int, worlds: int = 1) -> torch.Tensor:
    """Loss of a step over the parts of all processes, by their weights."""
    parts = [part for rank in range(worlds) for part in task.parts(step, Share(rank, worlds))]
    weight = sum(part.weight for part in parts)
    return torch.stack([task.loss(part.inputs)[0] * (part.weight / weight) for part in parts]).sum()


def gradients(task: Task, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    task.network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in task.network.named_parameters() if p.grad is not None}


def gradient(task: Task, step: int, shares: tuple[Share, ...]) -> tuple[float, torch.Tensor]:
    """Loss and gradient of a step as the loop defines them, over all parts of all processes."""
    parts = [part for share in shares for part in task.parts(step, share)]
    total = sum(part.weight for part in parts)
    task.network.zero_grad()
    value = 0.0
    for part in parts:
        loss, _ = task.loss(part.inputs)
        (loss * (part.weight / total)).backward()
        value += float(loss.detach()) * part.weight / total
    weights = [weight for weight in task.network.parameters() if weight.grad is not None]
    return value, torch.cat([weight.grad.flatten() for weight in weights])


def shares_of_steps(task: Any, share: Share, steps: int = 3) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Of each of the first steps this process's share of the loss, and its gradients."""
    out = []
    for step in range(steps):
        rows, _ = task._sampler.rows(step)
        (part,) = task.parts(step, share)
        loss = task.loss(part.inputs)[0] * (part.weight / len(rows))
        out.append((loss.item(), gradients(task, loss)))
    return out


def as_one_of_several(task: Callable[[Path, Share], Task]) -> None:
    """What a script does with its arguments RANK WORLD FOLDER: its shares of the steps go to FOLDER/RANK.pt."""
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    here = Share(rank, world)
    torch.save(shares_of_steps(task(folder, here), here), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
