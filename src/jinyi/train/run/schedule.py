"""How long a run is, its learning rate at every step, and which weights are decayed.

Everything here is a function of the recipe and the step, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

from torch import nn

from jinyi.errors import InputError
from jinyi.train.recipe import Optimizer, Schedule

_LAYER = re.compile(r"(?:^|\.)encoder\.layer\.(\d+)\.")
_EMBEDDINGS = re.compile(r"(?:^|\.)embeddings(?:_project)?\.")


def total_steps(schedule: Schedule, epoch_steps: int) -> int:
    """Optimiser steps of the whole run.

    Args:
        schedule: with `steps` or `epochs`.
        epoch_steps: steps of one pass over the training rows.

    Raises:
        InputError: no step would be made.

    Warns:
        UserWarning: the warm-up is as long as the run, or longer.
    """
    total = schedule.steps
    if total is None:
        total = round((schedule.epochs or 0.0) * epoch_steps)
    if total < 1:
        raise InputError(
            where="schedule",
            found=f"steps {schedule.steps}, epochs {schedule.epochs} of {epoch_steps} steps each",
            expected="at least one step",
            fix="Make the run longer, or the batches smaller.",
        )
    if schedule.warmup >= max(total, 1):
        warnings.warn(
            f"schedule.warmup is {schedule.warmup:g} steps of a run of {total}: the rate never reaches its peak",
            stacklevel=2,
        )
    return total


def interval(every: float, total: int) -> int:
    """Steps between two evaluations or checkpoints: `every` itself, or below 1 that share of `total`; at least 1."""
    return max(1, round(every * total if every < 1 else every))


def rate(schedule: Schedule, step: int, total: int) -> float:
    """Learning rate of a step as a share of the peak.

    The warm-up rises by equal amounts and reaches the peak at its end; no step has a rate of 0. A decay falls from the
    peak towards `minimum`, which the step after the last one would have, as in the published code of BERT.

    Args:
        schedule: shape of the curve.
        step: number of the step, from 0.
        total: steps of the whole run.

    Returns:
        A number in (0, 1]; in [0, 1] from step `total` on.
    """
    warmup = round(schedule.warmup * total) if schedule.warmup < 1 else round(schedule.warmup)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.shape == "constant":
        return 1.0
    begin = warmup
    if schedule.shape == "wsd":
        begin = max(warmup, total - round(schedule.decay * total))
    done = min(max(step - begin, 0) / max(total - begin, 1), 1.0)
    left = (1 + math.cos(math.pi * done)) / 2 if schedule.shape == "cosine" else 1 - done
    return schedule.minimum + (1 - schedule.minimum) * left


def first_difference(old: Schedule, old_total: int, new: Schedule, new_total: int, steps: int) -> int | None:
    """The first of the steps 0..`steps` - 1 at which two schedules differ; None if they agree in all of them."""
    for step in range(steps):
        if rate(old, step, old_total) != rate(new, step, new_total):
            return step
    return None


def parameter_groups(network: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Trained weights in groups for AdamW.

    Vectors (biases, layer norms) and embeddings are not decayed. With `layer_decay` d, layer i of n learns with
    d ** (n - 1 - i) of the rate, the embeddings with d ** n, heads with the whole.

    Args:
        network: the module; `encoder.layer.N.` in a name tells a layer, `embeddings` (`embeddings_project`) an
            embedding.
        optimizer: section of the recipe.

    Returns:
        Groups with "params", "weight_decay" and "scale" (of the learning rate), in a fixed order.

    Raises:
        InputError: nothing is trained.
    """
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    layers = 1 + max((_layer(name) for name, _ in named), default=-1)
    tables = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, weight in named:
        below = (
            layers if _EMBEDDINGS.search(name) else layers - 1 - _layer(name) if _LAYER.search(name) else 0
        )
        scale = optimizer.layer_decay**below
        decay = 0.0 if weight.ndim < 2 or id(weight) in tables else optimizer.weight_decay
        group = groups.setdefault((scale, decay), {"params": [], "weight_decay": decay, "scale": scale})
        group["params"].append(weight)
    if not groups:
        raise InputError(
            found="no weight that is trained", expected="one at least", fix="Let some weights have gradients."
        )
    return list(groups.values())


def _layer(name: str) -> int:
    """Number of the layer a weight belongs to; -1 outside the layers."""
    match = _LAYER.search(name)
    return int(match.group(1)) if match else -1
