"""The one interface between the loop and what is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from jinyi.tokens import Tokenizer
from jinyi.train.network import Network
from jinyi.train.recipe import Recipe


class Share(NamedTuple):
    """Which part of every global batch this process computes.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, eq=False)
class Part:
    """What one process computes in one forward and backward pass.

    Args:
        inputs: what `Task.loss` reads; tensors on the CPU, moved by the loop.
        weight: how much the part's loss counts, known before it is computed: rows, or masked tokens. The loop divides
            by the sum over all parts of all processes, so the step does not depend on how it was cut. The loss of a
            part of weight 0 must be finite too.
        tokens: real tokens, for the rate that is shown.
    """

    inputs: Mapping[str, Any]
    weight: float
    tokens: int


class Task(ABC):
    """Batches, loss and dev scores of one kind of training.

    Attributes:
        recipe: the run.
        tokenizer: text to ids.
        network: all that is trained, on its device.
        metric: name of the dev metric that decides, larger is better.
        epoch_steps: optimiser steps of one pass over the training rows.
        rows: training rows.
    """

    recipe: Recipe
    tokenizer: Tokenizer
    network: Network
    metric: str
    epoch_steps: int
    rows: int

    @abstractmethod
    def parts(self, step: int, share: Share) -> list[Part]:
        """This process's parts of optimiser step `step` (from 0): `recipe.batch.accumulate` of them.

        A function of the recipe's seed, `step` and `share` alone: a resumed run sees what the straight run saw, and
        the shares of all processes are the batch that one process would see.
        """

    @abstractmethod
    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Mean loss over one part (a scalar tensor with gradient), and named numbers for the log.

        Numbers may be tensors of one element, which the loop reads after the step: nothing waits for the device.
        """

    def describe(self, step: int, share: Share, part: int) -> str:
        """Which rows part `part` of a step holds, for error messages: files and lines where they are known."""
        return f"part {part} of step {step + 1} on process {share.rank}"

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Dev scores by name, `metric` among them; empty without dev files. Leaves no trace in random numbers."""

    def finished(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """Weights of the model folder from those of the network, float32 arrays by name: as a rule the same."""
        return weights

    @abstractmethod
    def folder(self) -> dict[str, Any]:
        """Arguments of `jinyi.folder.write_folder` that say what the trained model is: task, pooling, labels…"""
