"""The training loop: a generator over optimiser steps.

accelerator -> start() -> State -> steps() yields a StepReport for each step. Batches, dropout and learning rate are
functions of the recipe's seed and the step, so the state is the weights, the optimiser's moments and the step number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from jinyi.errors import InputError
from jinyi.train.network import whole
from jinyi.train.recipe import Recipe
from jinyi.train.run.machine import add_up, settle, share_of
from jinyi.train.run.schedule import parameter_groups, rate, total_steps
from jinyi.train.task import Part, Share, Task


class TaskModule(nn.Module):
    """A task as a module, so that data-parallel wrappers see all of its computation as one forward pass.

    Args:
        task: whose loss and dev scores are computed.
        accelerator: gives the precision.
    """

    def __init__(self, task: Task, accelerator: Accelerator) -> None:
        super().__init__()
        self.network = task.network
        self._task = task
        self._accelerator = accelerator

    def forward(self, inputs: Mapping[str, Any] | None) -> Any:
        """`Task.loss` of the inputs, or without inputs `Task.evaluate`."""
        with self._accelerator.autocast():
            return self._task.evaluate() if inputs is None else self._task.loss(inputs)


@dataclass
class State:
    """What changes from step to step.

    Attributes:
        module: the task, wrapped for its processes.
        inner: the task as a module, not wrapped by DDP.
        optimizer: AdamW over the network's weights, rates set by the loop.
        total: steps of the whole run.
        step: steps done.
        save, stop: this process wishes a checkpoint, or the end, after the next step. Processes hear of each other's
            wishes through `StepReport`.
    """

    module: nn.Module
    inner: TaskModule
    optimizer: torch.optim.Optimizer
    total: int
    step: int = 0
    save: bool = False
    stop: bool = False


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes:
        step: steps done, this one included.
        loss: mean over the global batch, by the parts' weights.
        lr: learning rate of the heads (with `layer_decay` lower layers have less).
        norm: of the gradient before clipping.
        tokens: real tokens of the global batch.
        seconds: time the step took.
        numbers: what the task reports besides, mean over this process's parts.
        save, stop: whether any process wishes a checkpoint, or the end.
    """

    step: int
    loss: float
    lr: float
    norm: float
    tokens: int
    seconds: float
    numbers: dict[str, float] = field(default_factory=dict)
    save: bool = False
    stop: bool = False


def start(task: Task, recipe: Recipe, accelerator: Accelerator) -> State:
    """Put the network on its device, wrap it for the processes there are, and make its optimiser.

    `task.network` stays the same object. With several processes all begin with the main process's weights.

    Args:
        task: what is trained.
        recipe: the run.
        accelerator: from `open_machine`.

    Raises:
        InputError: the run has no step, or nothing is trained.
    """
    total = total_steps(recipe.schedule, task.epoch_steps)
    inner = TaskModule(task, accelerator)
    inner.to(accelerator.device)
    module: nn.Module = inner
    sharded = recipe.machine.fsdp and accelerator.num_processes > 1
    if sharded:
        _shard(inner, accelerator)
    else:
        module = accelerator.prepare_model(inner)
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(
        parameter_groups(task.network, settings),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=accelerator.device.type in ("cpu", "cuda") or None,
    )
    return State(module, inner, accelerator.prepare_optimizer(optimizer), total)


def steps(task: Task, recipe: Recipe, accelerator: Accelerator, state: State) -> Iterator[StepReport]:
    """Train, one optimiser step for each report, until `state.step` is `state.total`.

    The gradient is that of sum(weight * loss) / sum(weight) over all parts of all processes. Randomness is seeded for
    each part by (seed, step, place of the part in the global batch): a batch cut over two processes or over two
    accumulated parts sees the same dropout. The next batch is made while an accelerator still computes.

    Args:
        task: batches and loss.
        recipe: the run.
        accelerator: from `open_machine`.
        state: from `start`; changed by each step.

    Raises:
        InputError: a loss or gradient is not a finite number, or a batch has no weight; the weights are as they were
            before the step.
    """
    share = share_of(accelerator)
    if isinstance(state.module, DistributedDataParallel):
        _settle_buckets(task, recipe, accelerator, state, share)
    parts = task.parts(state.step, share) if state.step < state.total else []
    while state.step < state.total:
        begin = time.perf_counter()
        step = state.step
        own = [sum(part.weight for part in parts), sum(part.tokens for part in parts), state.save, state.stop]
        sums = add_up([float(value) for value in own], accelerator)
        task.network.train()
        losses, numbers = [], []
        for k, part in enumerate(parts):
            set_seed(_part_seed(recipe.seed, step, share.rank * len(parts) + k))
            with _last_syncs(state.module, k == len(parts) - 1):
                loss, extra = state.module(send_to_device(part.inputs, accelerator.device, non_blocking=True))
                # Data-parallel wrappers take the mean over the processes; the loss is a sum over them.
                accelerator.backward(loss.float() * (share.world * part.weight / sums[0]))
            losses.append(loss.detach().float())
            numbers.append(extra)
        weights = torch.tensor([part.weight for part in parts], device=accelerator.device)
        own_loss = (torch.stack(losses) * weights).sum() / sums[0]
        norm = accelerator.clip_grad_norm_(task.network.parameters(), recipe.optimizer.clip or math.inf)
        coming = task.parts(step + 1, share) if step + 1 < state.total else []
        if share.world > 1:
            own_loss = accelerator.reduce(own_loss, "sum")
        # The one place where the host waits for the device.
        loss, size, weight, tokens, save, stop = torch.stack((own_loss, whole(norm).float(), *sums)).tolist()
        _check(task, share, parts, losses, step, loss, size, weight)
        lr = recipe.optimizer.lr * rate(recipe.schedule, step, state.total)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        state.optimizer.step()
        state.optimizer.zero_grad()
        settle(accelerator)
        state.step = step + 1
        state.save = state.stop = False
        yield StepReport(
            step=state.step,
            loss=loss,
            lr=lr,
            norm=size,
            tokens=round(tokens),
            seconds=time.perf_counter() - begin,
            numbers=_mean(numbers, parts),
            save=save > 0,
            stop=stop > 0,
        )
        parts = coming


def evaluate(state: State) -> dict[str, float]:
    """Dev scores, without dropout and gradients, in the run's precision; every process has to call it."""
    state.inner.network.eval()
    with torch.no_grad():
        scores: dict[str, float] = state.inner(None)
    if isinstance(state.inner, FSDPModule):
        state.inner.reshard()
    state.inner.network.train()
    return {name: float(value) for name, value in scores.items()}


def _shard(inner: TaskModule, accelerator: Accelerator) -> None:
    """FSDP: each layer, and the rest as one, shared among the processes."""
    for weight in inner.parameters():
        torch.distributed.broadcast(weight.data, 0)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for layer in inner.network.encoder.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(inner, mesh=mesh)


def _last_syncs(module: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Gradients travel between processes in the last part of a step only."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    elif isinstance(module, DistributedDataParallel) and not last:
        context: AbstractContextManager[Any] = module.no_sync()
        return context
    return nullcontext()


def _settle_buckets(task: Task, recipe: Recipe, accelerator: Accelerator, state: State, share: Share) -> None:
    """Go through the first part of step 0 once, without a step.

    DDP groups gradients into buckets anew after its first backward pass, and the order inside a bucket decides in what
    order three or more processes add up. A fresh and a resumed run both get their buckets here, from the same pass.
    """
    part = task.parts(0, share)[0]
    task.network.train()
    set_seed(_part_seed(recipe.seed, 0, share.rank))
    loss, _ = state.module(send_to_device(part.inputs, accelerator.device))
    accelerator.backward(loss.float() * 0.0)
    state.optimizer.zero_grad()


def _part_seed(seed: int, step: int, place: int) -> int:
    return int(np.random.SeedSequence((seed, step, place)).generate_state(1)[0])


def _mean(numbers: list[dict[str, float]], parts: list[Part]) -> dict[str, float]:
    """Mean of each number over the parts that report it, by their weights."""
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for extra, part in zip(numbers, parts, strict=True):
        for name, value in extra.items():
            sums[name] = sums.get(name, 0.0) + float(value) * part.weight
            weights[name] = weights.get(name, 0.0) + part.weight
    return {name: sums[name] / weights[name] for name in sums if weights[name]}


def _check(
    task: Task,
    share: Share,
    parts: list[Part],
    losses: list[Tensor],
    step: int,
    loss: float,
    norm: float,
    weight: float,
) -> None:
    where = f"step {step + 1}"
    if not weight > 0:
        raise InputError(
            where=where,
            found=f"a batch of weight {weight:g}",
            expected="rows (or masked tokens) to learn from",
            fix="Look at the rows: " + _rows(task, step, share, range(len(parts))),
        )
    if math.isfinite(loss) and math.isfinite(norm):
        return
    bad = [k for k, value in enumerate(losses) if not math.isfinite(float(value))]
    rows = _rows(task, step, share, bad or range(len(parts)))
    if share.world > 1 and not bad and not math.isfinite(loss):
        rows = "rows of another process, which names them"
    raise InputError(
        where=where,
        found=f"loss {loss:g} and gradient norm {norm:g} ({rows})",
        expected="finite numbers",
        fix="The step was not made. Check these rows, lower optimizer.lr, lengthen the warm-up or set optimizer.clip; "
        "--resume begins at the last checkpoint.",
    )


def _rows(task: Task, step: int, share: Share, places: Any) -> str:
    return "; ".join(task.describe(step, share, k) for k in places)
