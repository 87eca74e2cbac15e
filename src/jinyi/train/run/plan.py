"""What a run will take, before it begins: steps, tokens, memory and time, from a few measured steps."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from accelerate import Accelerator

from jinyi.errors import InputError
from jinyi.scratch import Scratch
from jinyi.train.recipe import Recipe
from jinyi.train.run.loop import State, evaluate, start, steps
from jinyi.train.run.machine import describe, from_main, open_machine
from jinyi.train.run.outcome import write_model
from jinyi.train.run.schedule import interval
from jinyi.train.task import Share, Task

SAMPLED = 32  # steps whose tokens are counted
MEASURED = 5  # steps that are made, the largest of the sampled among them
MOMENTS = 16  # bytes of a trained weight: itself, its gradient and AdamW's two moments, float32


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        name, task: of the recipe.
        device, precision: what computes.
        processes: how many.
        rows: training rows.
        epoch_steps: optimiser steps of one pass over them.
        steps: optimiser steps of the run.
        step_tokens: real tokens of a step, mean.
        tokens: real tokens of the run.
        parameters: trained weights.
        state_bytes: weights, gradients and moments of one process.
        peak_bytes: memory of one process at its highest in the measured steps, the largest batches among them.
        memory_bytes: memory there is.
        measured_steps: how many steps were measured.
        step_seconds: of a step of mean size.
        tokens_per_second: real tokens, in training.
        evaluations: how many times dev files are scored.
        evaluation_seconds: each time.
        model_bytes: size of the model folder.
        seconds: of the whole run; checkpoints and the start not counted.
        scores: dev scores before training, by name.
    """

    name: str
    task: str
    device: str
    precision: str
    processes: int
    rows: int
    epoch_steps: int
    steps: int
    step_tokens: float
    tokens: int
    parameters: int
    state_bytes: int
    peak_bytes: int
    memory_bytes: int
    measured_steps: int
    step_seconds: float
    tokens_per_second: float
    evaluations: int
    evaluation_seconds: float
    model_bytes: int
    seconds: float
    scores: dict[str, float]


def measure(
    recipe: Recipe, task: Task, *, budget: float = 60.0, folder: str | os.PathLike[str] | None = None
) -> Plan:
    """Make a few steps of a run and work out what the whole takes. The task is of no further use: its weights change.

    A model folder is written and removed again, so that what would keep it from being written shows now.

    Args:
        recipe: the run.
        task: from `build_task`.
        budget: seconds after which no further step is begun; two are always made, and dev files are scored once.
        folder: of the run to be: the model is tried on the same disk. None tries it among temporary files.

    Raises:
        InputError: the device is not there, the run has no step, a loss is not finite, or there is no such dev metric.
        FolderError: the model folder cannot be written.
    """
    with open_machine(recipe.machine) as accelerator:
        trained = [weight for weight in task.network.parameters() if weight.requires_grad]
        parameters = sum(weight.numel() for weight in trained)
        frozen = sum(weight.numel() for weight in task.network.parameters()) - parameters
        state = start(task, recipe, accelerator)
        sizes = _sizes(task, state.total)
        tokens, seconds = _run(task, recipe, accelerator, state, sizes, budget)
        rate = sum(tokens) / sum(seconds)
        step_tokens = float(np.mean(list(sizes.values())))
        scores, evaluation_seconds = _score(recipe, state)
        size = _write(recipe, task, accelerator, folder)
        times = _evaluations(recipe, state.total)
        machine = describe(accelerator)
        return Plan(
            name=recipe.name,
            task=recipe.task,
            device=machine["device"],
            precision=machine["precision"],
            processes=machine["processes"],
            rows=task.rows,
            epoch_steps=task.epoch_steps,
            steps=state.total,
            step_tokens=step_tokens,
            tokens=round(step_tokens * state.total),
            parameters=parameters,
            state_bytes=(MOMENTS * parameters + 4 * frozen)
            // (machine["processes"] if recipe.machine.fsdp else 1),
            peak_bytes=_peak(accelerator.device),
            memory_bytes=_there_is(accelerator.device),
            measured_steps=len(seconds),
            step_seconds=step_tokens / rate,
            tokens_per_second=rate,
            evaluations=times,
            evaluation_seconds=evaluation_seconds,
            model_bytes=size,
            seconds=step_tokens / rate * state.total + times * evaluation_seconds,
            scores=scores,
        )


def _sizes(task: Task, total: int) -> dict[int, int]:
    """Real tokens of steps spread over the run."""
    chosen = np.unique(np.linspace(0, total - 1, SAMPLED).round().astype(int)).tolist()
    return {step: sum(part.tokens for part in task.parts(step, Share())) for step in chosen}


def _run(
    task: Task, recipe: Recipe, accelerator: Accelerator, state: State, sizes: dict[int, int], budget: float
) -> tuple[list[int], list[float]]:
    """Tokens and seconds of measured steps: the largest first (which also warms up), then steps from small to large."""
    order = sorted(sizes, key=lambda step: (sizes[step], step))
    spread = np.linspace(0, len(order) - 1, MEASURED).round().astype(int)
    chosen = [order[-1], *(order[place] for place in spread)]
    tokens, seconds = [], []
    begin = time.perf_counter()
    for number, step in enumerate(chosen):
        # All processes go on or stop together.
        if number > 1 and from_main(time.perf_counter() - begin > budget, accelerator):
            break
        state.step = step
        report = next(steps(task, recipe, accelerator, state))
        if number:
            tokens.append(report.tokens)
            seconds.append(report.seconds)
    return tokens, seconds


def _score(recipe: Recipe, state: State) -> tuple[dict[str, float], float]:
    begin = time.perf_counter()
    scores = evaluate(state)
    metric = recipe.evaluation.metric
    if metric is not None and metric not in scores:
        raise InputError(
            where="evaluation.metric",
            found=metric,
            expected=f"one of {', '.join(scores)}",
            fix="Name one of them, or leave it out.",
        )
    return scores, time.perf_counter() - begin if scores else 0.0


def _write(
    recipe: Recipe, task: Task, accelerator: Accelerator, folder: str | os.PathLike[str] | None
) -> int:
    """Write the model folder as the run would; gives its size in bytes."""
    weights = task.network.weights()  # with FSDP all processes give their shares
    size = 0
    if accelerator.is_main_process:
        with Scratch(_existing(Path(folder)) if folder else None, prefix=".check-") as place:
            path = write_model(place / "model", task, recipe, weights, step=0, scores={}, record={})
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return int(from_main(size, accelerator))


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.expanduser().resolve()
    return next(place for place in (path, *path.parents) if place.is_dir())


def _evaluations(recipe: Recipe, total: int) -> int:
    """Before the first step, every so many steps, and at the end."""
    return 1 - (-total // interval(recipe.evaluation.every, total)) if recipe.data.dev else 0


def _peak(device: torch.device) -> int:
    """Highest memory of this process so far, in bytes: that of the accelerator, or of the process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _there_is(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)
