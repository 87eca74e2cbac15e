"""Imitation of the words a teacher expects at masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.nn import functional as F

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer
from jinyi.train.corpus import Shards
from jinyi.train.data.masking import Masking, ordinary_tokens
from jinyi.train.data.packing import LineRows, Rows, RowSource, stack
from jinyi.train.data.rows import read_rows, source_name, source_path
from jinyi.train.data.tensors import Padded
from jinyi.train.distill.rows import TextRows
from jinyi.train.distill.teacher import Teacher, shared_tokens
from jinyi.train.losses import soften
from jinyi.train.network import Network
from jinyi.train.recipe import DistillObjective, Recipe, Source
from jinyi.train.task import Part

_IntArray = npt.NDArray[np.int64]
_MOST_ROWS = 1 << 40  # of one file: numbers of rows of different files do not meet
_DEV_TOKENS = 8192  # of one batch


class WordImitation:
    """Rows, losses and dev scores of `targets` "mlm".

    Lines of shards are masked by whole words, texts of files (which have no word boundaries) by tokens: 15%, 80/10/10.
    The teacher reads the student's tokens one for one (`shared_tokens`), so a student may have a pruned vocabulary;
    both are compared on the tokens that they share.

    Args:
        recipe: the run.
        objective: its objective.
        network: the student.
        tokenizer: the student's.
        teacher: the teacher.
    """

    aligned = True
    together = True
    metrics = ("mlm_accuracy", "teacher_agreement")

    def __init__(
        self,
        recipe: Recipe,
        objective: DistillObjective,
        network: Network,
        tokenizer: Tokenizer,
        teacher: Teacher,
    ) -> None:
        self._recipe, self._objective = recipe, objective
        self._network, self._tokenizer, self._teacher = network, tokenizer, teacher
        if recipe.data.max_length > teacher.tokenizer.max_length:
            raise InputError(
                where="data.max_length",
                found=f"{recipe.data.max_length}",
                expected=f"at most {teacher.tokenizer.max_length}, the positions of the teacher",
                fix="Lower it.",
            )
        theirs = shared_tokens(tokenizer, teacher.tokenizer)
        self._shared = torch.from_numpy(np.flatnonzero(theirs >= 0))
        self._theirs = torch.from_numpy(theirs[theirs >= 0])
        self._table = np.where(theirs >= 0, theirs, teacher.tokenizer.unk_id)
        # In text files every token counts as a word.
        self._masking = Masking(tokenizer.mask_id, ordinary_tokens(tokenizer), units="words")
        data = recipe.data
        self._train = [self._open(source) for source in data.train]
        self._dev = {source_name(source): (self._open(source), source.limit) for source in data.dev}
        self.measured = dict.fromkeys(self._dev, self.metrics)
        self.lengths = [
            rows.lengths[: source.limit] for rows, source in zip(self._train, data.train, strict=True)
        ]

    def part(self, step: int, sources: _IntArray, rows: _IntArray) -> Part:
        """Make the inputs of some rows, masked as this step has them."""
        drawn = [(source, rows[sources == source]) for source in np.unique(sources).tolist()]
        read = stack([self._train[source].read(own, None) for source, own in drawn], self._tokenizer.pad_id)
        numbers = np.concatenate([own + source * _MOST_ROWS for source, own in drawn])
        inputs = self._inputs(read, (self._recipe.seed, step), numbers)
        return Part(inputs, weight=len(inputs["targets"]), tokens=int(read.lengths.sum()))

    def describe(self, sources: _IntArray, rows: _IntArray) -> str:
        """Name the rows of a part by file and number."""
        data = self._recipe.data
        return "; ".join(
            f"{source_path(data.train[source], data)}: rows {', '.join(map(str, rows[sources == source]))}"
            for source in np.unique(sources).tolist()
        )

    def states(self, inputs: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states of student and teacher."""
        batch = inputs["student"]
        theirs = Padded(inputs["teacher"], batch.lengths)
        return self._network(batch.ids, batch.lengths), self._teacher.states(theirs)

    def losses(
        self, inputs: Mapping[str, Any], student: list[Tensor], teacher: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Loss against the teacher, and against the true tokens where they count."""
        logits, theirs = self._logits(inputs, student, teacher)
        shared = self._shared.to(logits.device)
        soft = soften(logits[:, shared], theirs, self._objective.temperature)
        hard = F.cross_entropy(logits, inputs["targets"]) if self._objective.hard else None
        return soft, hard

    def scores(self) -> dict[str, dict[str, float]]:
        """Dev scores of each file; masks are the same in every evaluation."""
        return {name: self._score(*file) for name, file in self._dev.items()}

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`."""
        return {"task": "mlm"}

    def _open(self, source: Source) -> RowSource:
        data = self._recipe.data
        if source.kind != "shards":
            rows = read_rows(source, data, self._tokenizer, "texts")
            return TextRows(rows, data.max_length, self._tokenizer)
        shards = Shards.open(source_path(source, data))
        shards.check_tokenizer(self._tokenizer)
        return LineRows(shards, data.max_length, self._tokenizer)

    def _inputs(self, rows: Rows, key: tuple[int, int], numbers: _IntArray) -> dict[str, Any]:
        masked = self._masking(rows.ids, rows.text, rows.starts, key, numbers)
        full = bool((rows.lengths == rows.ids.shape[1]).all())
        lengths = None if full else torch.from_numpy(rows.lengths)
        return {
            "student": Padded(torch.from_numpy(masked.ids), lengths),
            "teacher": torch.from_numpy(self._table[masked.ids]),
            "places": torch.from_numpy(masked.places),
            "targets": torch.from_numpy(masked.targets),
        }

    def _logits(
        self, inputs: Mapping[str, Any], student: list[Tensor], teacher: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Student's logits at the masks [n, V], and the teacher's of the shared tokens [n, shared]."""
        places = inputs["places"]
        logits = self._network.words(student[-1].flatten(0, 1)[places]).float()
        return logits, self._teacher.words(teacher, places, self._theirs.to(places.device))

    def _score(self, source: RowSource, limit: int | None) -> dict[str, float]:
        device = self._network.encoder.embeddings.word_embeddings.weight.device
        most = min(limit or _MOST_ROWS, self._recipe.evaluation.limit or _MOST_ROWS)
        lengths = source.lengths[:most]
        order = np.argsort(lengths, kind="stable")
        batches = min(len(order), -(-int(lengths.sum()) // _DEV_TOKENS))
        masks = agreed = right = 0
        for rows in np.array_split(order, batches):
            inputs = send_to_device(self._inputs(source.read(rows, None), (0, 0), rows), device)
            ours, theirs = self._logits(inputs, *self.states(inputs))
            shared = self._shared.to(device)
            masks += len(ours)
            agreed += int((ours[:, shared].argmax(1) == theirs.argmax(1)).sum())
            right += int((ours.argmax(1) == inputs["targets"]).sum())
        return {"teacher_agreement": agreed / masks, "mlm_accuracy": right / masks}
