"""A student that imitates a teacher: its vectors, its similarities, its decisions on pairs, its words at masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jinyi.errors import InputError
from jinyi.runtime.torch_encoder import initialize
from jinyi.tokens import Tokenizer
from jinyi.train.data.rows import source_name
from jinyi.train.data.sampler import Sampler
from jinyi.train.distill.teacher import Teacher, normalised
from jinyi.train.distill.texts import TextImitation
from jinyi.train.distill.words import WordImitation
from jinyi.train.losses import hidden_loss
from jinyi.train.network import Network
from jinyi.train.recipe import DistillObjective, Recipe
from jinyi.train.recipe.rules import KINDS
from jinyi.train.task import Part, Share, Task
from jinyi.train.tasks.scoring import check_compared, choose_metric, scoring, summarise


class DistillTask(Task):
    """Distillation from a model folder (Hinton et al. 2015; for hidden states Jiao et al. 2020, TinyBERT).

    loss = imitation of the targets + `hard` * loss against the rows' own labels + `hidden` * error of hidden states.

    | targets | imitation | own labels | dev scores |
    |---|---|---|---|
    | vectors | 1 - cosine of student's (mapped) and teacher's vector | CoSENT | teacher_cosine; spearman |
    | similarities | squared difference of the cosines between texts | CoSENT | teacher_pearson; spearman |
    | pair | KL divergence of softened classes | cross-entropy | teacher_agreement; accuracy |
    | mlm | KL divergence of softened words at masks | cross-entropy | teacher_agreement; mlm_accuracy |

    The second dev score is there where dev rows have labels (always for mlm), and decides then. Losses and labels are
    means over the texts (pairs, masks) of a part; `similarities`, CoSENT and `hidden` look at a part as a whole, so for
    them a batch cut into more parts is not quite the same batch.

    Where `vectors` are mapped to the teacher's width, the map is a part of the finished model (its dense layer):
    without it, the student's vectors would not be those that were trained.

    Args:
        recipe: with a `DistillObjective`.
        network: with the heads of `jinyi.train.start`; gets its maps in `extras`.
        tokenizer: the student's.
        share: this process among all.

    Raises:
        InputError: rows that cannot be used; or `hidden` with a teacher that reads other tokens.
        FolderError, ModelNotFoundError: the teacher is missing or has not the head that is needed.

    Memory: the teacher's weights beside everything else. It answers every batch anew.
    """

    def __init__(self, recipe: Recipe, network: Network, tokenizer: Tokenizer, share: Share) -> None:
        objective = recipe.objective
        assert isinstance(objective, DistillObjective)
        self.recipe, self.network, self.tokenizer, self.objective = recipe, network, tokenizer, objective
        self.teacher = Teacher(objective.teacher, objective.targets, bf16=recipe.machine.precision == "bf16")
        _check_names([source_name(source) for source in recipe.data.dev])
        kind = WordImitation if objective.targets == "mlm" else TextImitation
        self._imitation = kind(recipe, objective, network, tokenizer, self.teacher)
        if objective.hidden and not self._imitation.aligned:
            raise InputError(
                where="objective.hidden",
                found=f"{objective.hidden:g} with a teacher that reads other tokens than the student",
                expected="0, or the same tokenizer: hidden states are compared token by token",
                fix="Start with the teacher's tokenizer, or leave out objective.hidden.",
            )
        if "vectors" in network.extras and recipe.machine.fsdp:
            raise InputError(
                where="objective.targets",
                found="vectors of another width than the teacher's, with machine.fsdp",
                expected="one of the two: their map would be spread over processes when the folder is written",
                fix="Train without fsdp, or imitate similarities.",
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self._add_map()
        data = recipe.data
        self._sampler = Sampler(
            self._imitation.lengths,
            batch=recipe.batch,
            weights=[source.weight for source in data.train],
            mix=data.mix,
            temperature=data.temperature,
            seed=recipe.seed,
            together=self._imitation.together,
        )
        fewest = self._sampler.check(share)
        if objective.targets == "similarities":
            for source, rows in zip(data.train, fewest, strict=True):
                sides = 1 if (source.kind or KINDS["distill"][0]) in ("texts", "topics") else 2
                check_compared(rows * sides, "similarities", source.file)
        self.metric = choose_metric(recipe, self._imitation.measured, self._imitation.metrics)
        self.epoch_steps = self._sampler.epoch_steps
        self.rows = sum(map(len, self._imitation.lengths))

    def parts(self, step: int, share: Share) -> list[Part]:
        """See `Task.parts`."""
        return [
            self._imitation.part(step, sources, rows) for sources, rows in self._sampler.parts(step, share)
        ]

    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """See `Task.loss`."""
        student, teacher = self._imitation.states(inputs)
        soft, hard = self._imitation.losses(inputs, student, teacher)
        loss, numbers = soft, {}
        if hard is not None:
            loss = loss + self.objective.hard * hard
            numbers = {"imitation_loss": soft.detach(), "hard_loss": hard.detach()}
        if self.objective.hidden:
            hidden = self._hidden(student, teacher, inputs["student"].lengths)
            loss = loss + self.objective.hidden * hidden
            numbers |= {"imitation_loss": soft.detach(), "hidden_loss": hidden.detach()}
        return loss, numbers

    def describe(self, step: int, share: Share, part: int) -> str:
        """See `Task.describe`."""
        return self._imitation.describe(*self._sampler.parts(step, share)[part])

    def evaluate(self) -> dict[str, float]:
        """See `Task.evaluate`."""
        with scoring(self.network):
            return summarise(self._imitation.scores())

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`."""
        return self._imitation.folder()

    def _add_map(self) -> None:
        """The map of hidden states from the student's width to the teacher's; the identity where they are equal."""
        if not self.objective.hidden:
            return
        width = self.network.config.hidden_size
        hidden = nn.Linear(width, self.teacher.width)
        initialize(hidden)
        if width == self.teacher.width:
            with torch.no_grad():
                hidden.weight.copy_(torch.eye(width))
        self.network.extras["hidden"] = hidden

    def _hidden(self, student: list[Tensor], teacher: list[Tensor], lengths: Tensor | None) -> Tensor:
        """Mean over the student's layers of the error against the teacher's layer at the same height."""
        real = None
        if lengths is not None:
            real = torch.arange(student[0].shape[1], device=lengths.device) < lengths[:, None]
        count, depth = len(student) - 1, len(teacher) - 1
        errors = []
        for layer in range(1, count + 1):
            target = teacher[round(layer * depth / count)]
            target = normalised(target) if self.teacher.pre_layer_norm else target
            errors.append(hidden_loss(self.network.extras["hidden"](student[layer]), target, real))
        return torch.stack(errors).mean()


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                where="data.dev",
                found=f"two dev files called {name}",
                expected="a name of its own for each",
                fix="Give one of them `name`.",
            )
