"""A small task for tests of the training loop, and a script that runs it: `python toy_training.py '[{"folder": ...}]'`.

The task learns which of three marks a row of random tokens holds. Rows, masks and numbers are functions of the step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.network import Network
from jinyi.train.recipe import Recipe
from jinyi.train.recipe.reading import parse
from jinyi.train.run import RunResult, curves, train
from jinyi.train.task import Part, Share, Task
from small_models import CONFIG, VOCAB

LENGTH, EPOCH = 8, 7
RECIPE = """
name: toy
task: pair
seed: 3
data: {train: [toy.tsv]}
start: {model: toy}
batch: {rows: 8, accumulate: 1}
schedule: {steps: 12, warmup: 3}
objective: {outputs: 3, labels: [a, b, c], both_orders: false}
optimizer: {lr: 0.002}
checkpoint: {every: 4}
evaluation: {every: 4}
machine: {device: cpu, threads: 1}
"""


class ToyTask(Task):
    """Marks 0..2 stand at a random place of the row; the label is the mark."""

    def __init__(self, recipe: Recipe, share: Share | None = None, *, dropout: float = 0.1) -> None:
        torch.manual_seed(recipe.seed)
        config = replace(CONFIG, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        self.recipe = recipe
        self.network = Network(config, outputs=3, mlm=True, dropout=dropout)  # the MLM head stays unused
        self.tokenizer = Tokenizer(build_tokenizer(VOCAB), max_length=config.max_position_embeddings)
        self.metric = "accuracy"
        self.epoch_steps = EPOCH
        self.rows = EPOCH * (recipe.batch.rows or 8)
        self.broken: dict[int, float] = {}
        self.scores: list[float] | None = None
        self.evaluations = 0

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(step, EPOCH)
        rows = self.recipe.batch.rows or 8
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(EPOCH * rows)
        chosen = order[place * rows : (place + 1) * rows]
        ids = np.stack([np.random.default_rng((7, row)).integers(10, 40, LENGTH) for row in chosen])
        labels = chosen % 3
        ids[np.arange(rows), 1 + chosen % (LENGTH - 1)] = 5 + labels
        return ids, labels

    def parts(self, step: int, share: Share) -> list[Part]:
        ids, labels = self.batch(step)
        accumulate = self.recipe.batch.accumulate
        cut = np.array_split(np.arange(len(ids)), share.world * accumulate)
        return [
            Part(
                {
                    "ids": torch.from_numpy(ids[rows]),
                    "labels": torch.from_numpy(labels[rows]),
                    "factor": self.broken.get(step, 1.0),
                },
                weight=float(len(rows)),
                tokens=len(rows) * LENGTH,
            )
            for rows in cut[share.rank * accumulate : (share.rank + 1) * accumulate]
        ]

    def loss(self, inputs: Any) -> tuple[torch.Tensor, dict[str, float]]:
        logits = self.network.classify(self.network(inputs["ids"])[-1][:, 0])
        right = (logits.argmax(1) == inputs["labels"]).float().mean()
        return F.cross_entropy(logits.float(), inputs["labels"]) * inputs["factor"], {"right": float(right)}

    def describe(self, step: int, share: Share, part: int) -> str:
        return f"toy.tsv, batch {step}, part {part} of process {share.rank}"

    def evaluate(self) -> dict[str, float]:
        assert not self.network.training
        self.evaluations += 1
        if self.scores is not None:
            return {"accuracy": self.scores[min(self.evaluations, len(self.scores)) - 1], "zeros": 0.0}
        ids, labels = self.batch(1000)
        logits = self.network.classify(self.network(torch.from_numpy(ids))[-1][:, 0])
        return {"accuracy": float((logits.argmax(1).numpy() == labels).mean()), "zeros": 0.0}

    def folder(self) -> dict[str, Any]:
        return {"task": "classes", "labels": ["a", "b", "c"]}


def recipe(*sets: str) -> Recipe:
    return parse(RECIPE, sets=sets)


def run(folder: Path, *sets: str, dropout: float = 0.1, **options: Any) -> tuple[RunResult, ToyTask]:
    made = recipe(*sets)
    task = ToyTask(made, dropout=dropout)
    return train(made, task, folder=folder, progress=False, **options), task


class Killed(BaseException):
    """Ends a run where no code expects it, as a kill does; nothing catches it."""


def dies(task: ToyTask, at: int | None, how: Any) -> ToyTask:
    """The same task, but `how` is called when batch `at` is asked for."""
    plain = task.parts

    def parts(step: int, share: Share) -> list[Part]:
        if step == at:
            how()
        return plain(step, share)

    task.parts = parts  # type: ignore[method-assign]
    return task


def leave() -> None:
    raise Killed


def main() -> None:
    """Run as one process of several, one run after the other.

    A run is {"folder", "sets", "resume", "dropout"}; {"kill": step} ends this process by SIGKILL at that batch,
    {"leave": step} the run alone. No curves: drawing takes longer than these runs.
    """
    curves.draw = lambda *arguments: None
    for options in json.loads(sys.argv[1]):
        made = recipe(*options.get("sets", ()))
        task = ToyTask(made, dropout=options.get("dropout", 0.1))
        dies(task, options.get("kill"), lambda: os.kill(os.getpid(), signal.SIGKILL))
        dies(task, options.get("leave"), leave)
        try:
            train(made, task, folder=options["folder"], resume=options.get("resume", False), progress=False)
        except Killed:
            assert "leave" in options


if __name__ == "__main__":
    main()
