"""How fast an encoder of some shape trains on this machine: the real loop, on made-up rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jinyi.errors import InputError
from jinyi.scratch import Scratch
from jinyi.tokens import Tokenizer
from jinyi.train.build import build_task
from jinyi.train.corpus.shards import write_shards
from jinyi.train.recipe import Batch, Data, Machine, PretrainObjective, Recipe, Schedule, Source, Start
from jinyi.train.run import loop
from jinyi.train.run.machine import open_machine

LENGTH = 128


def training_speed(
    sizes: Mapping[str, Any],
    tokenizer: Path,
    *,
    texts: Sequence[str],
    rows: int = 16,
    accumulate: int = 1,
    steps: int = 4,
    precision: Literal["float32", "bf16"] = "float32",
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda", "xla"] = "cpu",
) -> list[float]:
    """Train an encoder from random weights by masked language model on rows of 128 tokens; see what it manages.

    Two steps that do not count come first. Memory: 16 bytes a parameter, and the activations of rows / accumulate rows.

    Args:
        sizes: of the encoder, as in its config.json, without the vocabulary's.
        tokenizer: tokenizer.json; its vocabulary is the model's.
        texts: sentences the rows are made of.
        rows: of an optimiser step.
        accumulate: parts a step is computed in.
        steps: measured.
        precision, threads, device: as in a recipe's section `machine`.

    Returns:
        real tokens a second of each step.

    Raises:
        InputError: `steps` below 1, or as a recipe with these numbers.
    """
    if steps < 1:
        raise InputError(found=str(steps), expected="at least 1", fix="4 show a trend.", where="steps")
    with Scratch() as folder:
        write_shards([[text] for text in texts], Tokenizer.from_file(tokenizer), folder / "shards")
        recipe = Recipe(
            name="speed",
            task="pretrain",
            data=Data(train=(Source(file="shards"),), folder=str(folder), max_length=LENGTH),
            start=Start(config=dict(sizes), tokenizer=str(tokenizer)),
            batch=Batch(rows=rows, accumulate=accumulate),
            schedule=Schedule(steps=1000, warmup=0),
            objective=PretrainObjective(units="tokens"),
            machine=Machine(precision=precision, threads=threads, device=device),
        )
        with open_machine(recipe.machine) as accelerator:
            task = build_task(recipe)
            reports = loop.steps(task, recipe, accelerator, loop.start(task, recipe, accelerator))
            measured = [next(reports) for _ in range(steps + 2)][2:]
        return [report.tokens / report.seconds for report in measured]
