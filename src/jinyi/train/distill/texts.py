"""Imitation of what a teacher says on whole texts: vectors, similarities, classes of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jinyi import metrics
from jinyi.runtime.torch_encoder import initialize
from jinyi.tokens import Tokenizer
from jinyi.train.data.rows import source_name
from jinyi.train.data.tensors import Padded, pad, runs
from jinyi.train.distill.rows import Framed, labels_of, read_for_both, same_ids
from jinyi.train.distill.teacher import Teacher
from jinyi.train.losses import cosent, pair_loss, similarity_loss, soften, vector_loss
from jinyi.train.network import Network, pool
from jinyi.train.recipe import DistillObjective, Recipe, Source
from jinyi.train.task import Part
from jinyi.train.tasks.scoring import describe_rows

_IntArray = npt.NDArray[np.int64]
_MOST_COMPARED = 1000  # texts of a dev file whose similarities are compared, each with each


class _File:
    """One file: inputs of both, and labels where it has them and they are wanted."""

    def __init__(self, student: Framed, teacher: Framed, labels: npt.NDArray[Any] | None) -> None:
        self.student, self.teacher, self.labels = student, teacher, labels


class TextImitation:
    """Rows, losses and dev scores of `targets` "vectors", "similarities" and "pair".

    Args:
        recipe: the run.
        objective: its objective.
        network: the student; where vectors have to be mapped, `extras["vectors"]` is added.
        tokenizer: the student's.
        teacher: the teacher.
    """

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
        self._pairs = objective.targets == "pair"
        self._classes = teacher.folder.labels if self._pairs else None
        self.aligned = same_ids(tokenizer, teacher)
        """Whether both read the same tokens at the same places."""
        self._train = [self._read(source, objective.hard > 0) for source in recipe.data.train]
        limit = recipe.evaluation.limit
        self._dev = {source_name(source): self._read(source, True, limit) for source in recipe.data.dev}
        if objective.targets == "vectors" and network.config.hidden_size != teacher.folder.vector_size:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                network.extras["vectors"] = nn.Linear(
                    network.config.hidden_size, teacher.folder.vector_size, bias=False
                )
                initialize(network.extras["vectors"])
        self.lengths = [file.student.lengths() for file in self._train]
        # Texts are compared with each other: those of one file, whose labels mean the same.
        self.together = self._pairs or (objective.targets == "vectors" and not objective.hard)
        own = {"vectors": "teacher_cosine", "similarities": "teacher_pearson", "pair": "teacher_agreement"}
        self.metrics = ("accuracy" if self._pairs else "spearman", own[objective.targets])
        """Dev scores, the one that decides first; that one needs labels."""
        self.measured = {name: self.metrics[file.labels is None :] for name, file in self._dev.items()}

    def part(self, step: int, sources: _IntArray, rows: _IntArray) -> Part:
        """Make the inputs of some rows; `step` does not matter."""
        student: list[_IntArray] = []
        theirs: list[_IntArray] = []
        splits: list[int] = []
        their_splits: list[int] = []
        labelled, labels, count = [], [], 0
        for source in np.unique(sources).tolist():
            file, numbers = self._train[source], rows[sources == source]
            for framed, ids, places in (
                (file.student, student, splits),
                (file.teacher, theirs, their_splits),
            ):
                new_ids, new_splits = framed.inputs(numbers)
                ids += new_ids
                places += new_splits
            each = file.student.inputs_per_row
            if file.labels is not None:
                labelled.append(count + each * np.arange(len(numbers)))
                labels.append(file.labels[numbers])
            count += each * len(numbers)
        aligned = all(file.student is file.teacher for file in self._train)
        inputs = {
            "student": pad(student, self._tokenizer.pad_id, splits),
            "teacher": None if aligned else pad(theirs, self._teacher.tokenizer.pad_id, their_splits),
            "labelled": torch.from_numpy(np.concatenate(labelled)) if labelled else None,
            "labels": torch.from_numpy(np.concatenate(labels)) if labels else None,
        }
        return Part(inputs, weight=count, tokens=sum(map(len, student)))

    def describe(self, sources: _IntArray, rows: _IntArray) -> str:
        """Name the rows of a part by file and line."""
        return describe_rows([file.student.rows for file in self._train], (sources, rows))

    def states(self, inputs: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states of student and teacher."""
        batch = inputs["student"]
        return self._student_states(batch), self._teacher.states(inputs["teacher"] or batch)

    def losses(
        self, inputs: Mapping[str, Any], student: list[Tensor], teacher: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Loss against the teacher, and against the rows' own labels where they count."""
        own, theirs = inputs["student"], inputs["teacher"] or inputs["student"]
        labelled, labels = inputs["labelled"], inputs["labels"]
        if self._pairs:
            logits = self._network.classify(student[-1][:, 0])
            soft = soften(logits, self._teacher.logits(teacher), self._objective.temperature)
            if labelled is None:
                return soft, None
            return soft, pair_loss(logits[labelled], labels) * (len(labelled) / len(logits))
        vectors = self._vectors(student, own.lengths)
        compare = vector_loss if self._objective.targets == "vectors" else similarity_loss
        soft = compare(vectors, self._teacher.vectors(teacher, theirs.lengths))
        if labelled is None:
            return soft, None
        cosines = F.cosine_similarity(vectors[labelled].float(), vectors[labelled + 1].float(), dim=-1)
        return soft, cosent(cosines, labels)

    def scores(self) -> dict[str, dict[str, float]]:
        """Dev scores of each file."""
        return {
            name: (self._pair_scores if self._pairs else self._vector_scores)(file)
            for name, file in self._dev.items()
        }

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`."""
        folder = self._teacher.folder
        if self._pairs:
            task = "pair" if folder.task == "pair" else "classes"
            labels: dict[str, Any] = {"labels": list(folder.labels)}
            return {"task": task, **labels, "similar_label": folder.similar if task == "pair" else None}
        dense = []
        if "vectors" in self._network.extras:
            weight: Any = self._network.extras["vectors"].weight
            dense = [(weight.detach().float().cpu().numpy(), None)]
        return {"task": "embed", "pooling": self._objective.pooling, "normalize": True, "dense": dense}

    def _read(self, source: Source, labels: bool, limit: int | None = None) -> _File:
        student, teacher = read_for_both(
            source, self._recipe.data, self._tokenizer, self._teacher, pairs=self._pairs, limit=limit
        )
        graded = labels and len(student.rows.texts) == 2
        return _File(student, teacher, labels_of(student.rows, self._classes) if graded else None)

    def _student_states(self, batch: Padded) -> list[Tensor]:
        # Of [CLS] alone, nothing else of the last layer has to be computed.
        first = (self._pairs or self._objective.pooling == "cls") and not self._objective.hidden
        states: list[Tensor] = self._network(batch.ids, batch.lengths, batch.segments, first=first)
        return states

    def _vectors(self, states: list[Tensor], lengths: Tensor | None) -> Tensor:
        vectors = pool(states, lengths, self._objective.pooling)
        if "vectors" in self._network.extras:
            vectors = self._network.extras["vectors"](vectors)
        return vectors

    def _answers(self, framed: Framed, *, teacher: bool) -> npt.NDArray[np.float32]:
        """What student or teacher says on each input of a file: vectors [n, d] of length 1, or logits [n, classes]."""
        ids, splits = framed.inputs(np.arange(len(framed.rows)))
        device = self._network.encoder.embeddings.word_embeddings.weight.device
        pad_id = (self._teacher.tokenizer if teacher else self._tokenizer).pad_id
        answers: npt.NDArray[np.float32] | None = None
        for rows, batch in runs(ids, pad_id, splits, device=device):
            states = self._teacher.states(batch) if teacher else self._student_states(batch)
            if self._pairs:
                part = self._teacher.logits(states) if teacher else self._network.classify(states[-1][:, 0])
            else:
                vectors = self._teacher.vectors if teacher else self._vectors
                part = F.normalize(vectors(states, batch.lengths).float(), dim=-1)
            if answers is None:
                answers = np.empty((len(ids), part.shape[1]), np.float32)
            answers[rows] = part.float().cpu().numpy()
        assert answers is not None  # read_rows gives one row at least
        return answers

    def _pair_scores(self, file: _File) -> dict[str, float]:
        ours = _decide(self._answers(file.student, teacher=False))
        theirs = _decide(self._answers(file.teacher, teacher=True))
        scores = {"teacher_agreement": metrics.accuracy(theirs, ours)}
        if file.labels is not None:
            truth = file.labels > 0.5 if file.labels.dtype == np.float32 else file.labels
            scores["accuracy"] = metrics.accuracy(truth.astype(np.int64), ours)
        return scores

    def _vector_scores(self, file: _File) -> dict[str, float]:
        ours, theirs = self._answers(file.student, teacher=False), self._answers(file.teacher, teacher=True)
        scores = {}
        if self._objective.targets == "vectors":
            scores["teacher_cosine"] = float((ours * theirs).sum(1).mean())
        else:
            some = np.triu_indices(min(len(ours), _MOST_COMPARED), 1)
            scores["teacher_pearson"] = metrics.pearson((theirs @ theirs.T)[some], (ours @ ours.T)[some])
        if file.labels is not None:
            scores["spearman"] = metrics.spearman(file.labels, (ours[::2] * ours[1::2]).sum(1))
        return scores


def _decide(logits: npt.NDArray[np.float32]) -> _IntArray:
    """Class of each row; of one logit, whether it is above 0."""
    chosen: _IntArray = (logits[:, 0] > 0).astype(np.int64) if logits.shape[1] == 1 else logits.argmax(1)
    return chosen
