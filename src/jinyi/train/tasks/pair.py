"""Cross-encoder over pairs: [CLS] a [SEP] b [SEP], BERT's pooler, a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jinyi import metrics
from jinyi.errors import FolderError, InputError
from jinyi.folder.labels import find_similar
from jinyi.tokens import Tokenizer
from jinyi.tokens.cut import longest_first
from jinyi.train.data.chance import uniform
from jinyi.train.data.rows import Rows, read_rows
from jinyi.train.data.sampler import Sampler
from jinyi.train.data.tensors import pad, runs
from jinyi.train.losses import class_shares, pair_loss
from jinyi.train.network import Network
from jinyi.train.recipe import PairObjective, Recipe
from jinyi.train.task import Part, Share, Task
from jinyi.train.tasks.scoring import choose_metric, describe_rows, different_names, scoring, summarise

_TURN = 1  # what random numbers of a step are for
_BINARY: dict[str, Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]] = {
    "accuracy": lambda similar, margin: metrics.accuracy(similar, margin > 0),
    "f1": lambda similar, margin: metrics.f1(similar, margin > 0),
    "macro_f1": lambda similar, margin: metrics.macro_f1(similar, margin > 0, classes=(0, 1)),
    "auc": metrics.roc_auc,
    "average_precision": metrics.average_precision,
    "spearman": metrics.spearman,
}


class PairTask(Task):
    """Pairs with labels, rows of all files mixed in each batch; a triplet is two pairs.

    One output: its sigmoid is P(similar), labels are numbers from 0 to 1. Several outputs: labels are names of
    `objective.labels` or numbers of classes. With `both_orders` half of the pairs of a step are turned round, chosen
    anew for each step, and dev pairs are scored in both orders, as `PairScorer` does.

    Dev metrics: of labels 0 and 1 accuracy, f1 (of "similar"), auc and average_precision; of graded labels spearman; of
    classes accuracy and macro_f1 (of two classes all of these). Where the recipe names none, accuracy decides.

    Args:
        recipe: of task "pair".
        network: with `outputs` classes.
        tokenizer: text to ids.
        share: this process; every batch has to have a row for each process.

    Attributes:
        kind: of the rows: "pairs"; `jinyi.train.tasks.classes` has "texts".

    Raises:
        InputError: a file, row or label cannot be used; file and line are named.
    """

    kind = "pairs"

    def __init__(self, recipe: Recipe, network: Network, tokenizer: Tokenizer, share: Share) -> None:
        self.recipe, self.network, self.tokenizer = recipe, network, tokenizer
        self.objective = self._as_pairs(recipe)
        self.max_length = recipe.data.max_length
        self._similar = similar_class(self.objective)
        two = self.objective.outputs == 1 and len(self.objective.labels) == 2
        self._named = similar_class(replace(self.objective, outputs=2)) if two else None
        data, batch = recipe.data, recipe.batch
        self._train = [
            read_rows(source, data, tokenizer, self.kind, together=True, halved=True) for source in data.train
        ]
        self._targets = [self._read_targets(rows) for rows in self._train]
        self._sampler = Sampler(
            [self._lengths(rows) for rows in self._train],
            weights=[source.weight for source in data.train],
            batch=batch,
            mix=data.mix,
            temperature=data.temperature,
            seed=recipe.seed,
        )
        self._sampler.check(share)
        self.epoch_steps = self._sampler.epoch_steps
        self.rows = sum(map(len, self._train))
        classes = max(2, self.objective.outputs)
        self._shares = class_shares(torch.from_numpy(np.concatenate(self._targets)), classes)
        limit = recipe.evaluation.limit
        self._dev = [
            read_rows(source, data, tokenizer, self.kind, limit=limit, together=True, halved=True)
            for source in data.dev
        ]
        self._dev_targets = [self._read_targets(rows) for rows in self._dev]
        names = zip(different_names(self._dev), self._dev_targets, strict=True)
        self._metrics = {name: self._measured(targets) for name, targets in names}
        for rows in self._dev:
            if not self._metrics[rows.name]:
                raise InputError(
                    found=f"grades that are all equal in {len(rows)} rows",
                    expected="different ones: a rank correlation is measured",
                    fix="Take another dev file, or more of its rows (evaluation.limit).",
                    where=str(rows.path),
                )
        self.metric = choose_metric(recipe, self._metrics, ("accuracy", "spearman"))

    def parts(self, step: int, share: Share) -> list[Part]:
        """See `Task.parts`."""
        sources, rows = self._sampler.rows(step)
        turned = np.zeros(len(rows), bool)
        if self.objective.both_orders:
            turned = uniform((self.recipe.seed, step, _TURN), np.arange(len(rows))) < 0.5
        parts = []
        for piece in self._sampler.slices(len(rows), share):
            drawn = list(zip(sources[piece].tolist(), rows[piece].tolist(), strict=True))
            ids, splits = self._join(
                [
                    self._sides(self._train[k], row, turn)
                    for (k, row), turn in zip(drawn, turned[piece], strict=True)
                ]
            )
            padded = pad(ids, self.tokenizer.pad_id, splits)
            targets = torch.from_numpy(np.array([self._targets[k][row] for k, row in drawn]))
            inputs = {**padded._asdict(), "targets": targets}
            parts.append(Part(inputs, float(len(ids)), sum(map(len, ids))))
        return parts

    def describe(self, step: int, share: Share, part: int) -> str:
        """See `Task.describe`."""
        return describe_rows(self._train, self._sampler.parts(step, share)[part])

    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """See `Task.loss`; the number for the log is the share of rows classified rightly."""
        own = self.objective
        logits = self._logits(inputs["ids"], inputs["lengths"], inputs["segments"])
        targets = inputs["targets"]
        loss = pair_loss(
            logits,
            targets,
            kind=own.loss,
            smoothing=own.smoothing,
            gamma=own.gamma,
            prior=own.prior,
            order_weight=own.order_weight,
            propensity=own.propensity,
            shares=self._shares.to(logits.device),
        )
        said = logits[:, 0] > 0 if own.outputs == 1 else logits.argmax(1)
        right = said == (targets > 0.5 if own.outputs == 1 else targets)
        return loss, {"accuracy": right.float().mean().detach()}

    def evaluate(self) -> dict[str, float]:
        """See `Task.evaluate`."""
        scores = {}
        for rows, targets in zip(self._dev, self._dev_targets, strict=True):
            logits = self.logits(rows)
            scores[rows.name] = {
                metric: self._score(metric, targets, logits) for metric in self._measured(targets)
            }
        return summarise(scores)

    def logits(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Return the logits of pairs, without dropout, float64 [n, outputs]; means of both orders where trained so."""
        orders = (False, True) if self.objective.both_orders else (False,)
        total = np.zeros((len(rows), self.objective.outputs))
        with scoring(self.network) as device:
            for turned in orders:
                ids, splits = self._join([self._sides(rows, row, turned) for row in range(len(rows))])
                for numbers, batch in runs(ids, self.tokenizer.pad_id, splits, device=device):
                    logits = self._logits(batch.ids, batch.lengths, batch.segments)
                    total[numbers] += logits.double().cpu().numpy()
        return total / len(orders)

    def finished(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Task.finished`. With `segments: zeros` both segments get the embedding of the first, the only one that
        was trained: readers give the second text segment 1.
        """
        name = "embeddings.token_type_embeddings.weight"
        if self.objective.segments == "pair":
            return weights
        return {**weights, name: np.repeat(weights[name][:1], len(weights[name]), axis=0)}

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`.

        Classes make a pair model where it is known which of them means similar (see `similar_class`), else a model of
        classes.
        """
        own = self.objective
        if own.outputs == 1:
            says = own.labels if self._named is None else own.labels[self._named : self._named + 1]
            return {"task": "pair", "labels": says}
        names = own.labels or (() if own.outputs == 2 else tuple(map(str, range(own.outputs))))
        if self._similar is None:
            return {"task": "classes", "labels": names}
        return {"task": "pair", "labels": names, "similar_label": self._similar}

    def _as_pairs(self, recipe: Recipe) -> PairObjective:
        """The objective; that of single texts in the words of pairs."""
        assert isinstance(recipe.objective, PairObjective)
        return recipe.objective

    def _read_targets(self, rows: Rows) -> npt.NDArray[Any]:
        """Labels as the loss reads them: float32 P(similar), or int64 classes."""
        own = self.objective
        if own.outputs == 1:
            if self._named is None or not any(label in own.labels for label in rows.labels):
                return rows.scores(0.0, 1.0)
            return np.asarray(rows.classes(own.labels) == self._named, np.float32)
        return rows.classes(own.labels or tuple(map(str, range(own.outputs))))

    def _lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        control = 1 + len(rows.texts)  # [CLS], and [SEP] behind each text
        lengths: npt.NDArray[np.int64] = np.minimum(rows.lengths + control, self.max_length)
        return lengths

    def _sides(self, rows: Rows, row: int, turned: bool) -> list[npt.NDArray[Any]]:
        sides = [side[row] for side in rows.texts]
        return sides[::-1] if turned else sides

    def _join(
        self, rows: Sequence[Sequence[npt.NDArray[Any]]]
    ) -> tuple[list[npt.NDArray[np.int64]], list[int] | None]:
        """[CLS] a [SEP] b [SEP] of each pair, and how many tokens of it are of segment 0 (None for all).

        A single text is [CLS] a [SEP], all of segment 0; `read_rows` has cut it.
        """
        cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
        ids, splits = [], []
        for sides in rows:
            if len(sides) == 2:
                a, b = sides
                room = self.max_length - 3
                if len(a) + len(b) > room:
                    keep = longest_first(len(a), len(b), room)
                    a, b = a[: keep[0]], b[: keep[1]]
                sides = a, b
            ids.append(
                np.concatenate([cls, *(part for side in sides for part in (side, sep))]).astype(np.int64)
            )
            splits.append(len(sides[0]) + 2)
        return ids, splits if self.kind == "pairs" and self.objective.segments == "pair" else None

    def _logits(self, ids: Tensor, lengths: Tensor | None, segments: Tensor | None) -> Tensor:
        return self.network.classify(self.network(ids, lengths, segments, first=True)[-1][:, 0])

    def _measured(self, targets: npt.NDArray[Any]) -> tuple[str, ...]:
        """Metrics that these dev labels allow."""
        found = np.unique(targets)
        if self.objective.outputs > 2:
            return "accuracy", "macro_f1"
        if self.objective.outputs == 1 and not np.isin(found, (0, 1)).all():
            return ("spearman",) if len(found) > 1 else ()
        both = ("auc", "average_precision") if len(found) == 2 else ()
        return "accuracy", "macro_f1", "f1", *both

    def _score(self, metric: str, targets: npt.NDArray[Any], logits: npt.NDArray[np.float64]) -> float:
        if self.objective.outputs > 2:
            said = logits.argmax(1)
            if metric == "accuracy":
                return metrics.accuracy(targets, said)
            return metrics.macro_f1(targets, said, classes=range(self.objective.outputs))
        # One logit, or two as log-odds: in both cases "similar" from 0 on.
        if self.objective.outputs == 1:
            margin, similar = logits[:, 0], targets
        else:
            assert self._similar is not None
            margin = logits[:, self._similar] - logits[:, 1 - self._similar]
            similar = (targets == self._similar).astype(np.int64)
        return _BINARY[metric](similar, margin)


def similar_class(objective: PairObjective) -> int | None:
    """Return which class means similar; None where that is not known.

    Told by the names; else "entailment", the second of two, or the last of grades of relevance (`loss: pcl`).
    """
    names, outputs = objective.labels, objective.outputs
    if "entailment" in names:
        return names.index("entailment")
    if outputs == 2 and names:
        try:
            return find_similar(names, outputs, None, "objective.labels")
        except FolderError:  # the names do not tell
            return 1
    return outputs - 1 if outputs <= 2 or objective.loss.startswith("pcl") else None
