"""Masked language model from token shards, with sentence order if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer
from jinyi.train.corpus import Shards
from jinyi.train.data.masking import Masked, Masking, ordinary_tokens
from jinyi.train.data.packing import DocumentRows, LineRows, OrderRows, Rows, RowSource, stack
from jinyi.train.data.rows import source_name, source_path
from jinyi.train.data.sampler import Sampler
from jinyi.train.network import Network
from jinyi.train.recipe import PretrainObjective, Recipe, Source
from jinyi.train.task import Part, Share, Task
from jinyi.train.tasks.scoring import choose_metric, scoring, summarise

_IntArray = npt.NDArray[np.int64]
_DEV_TOKENS = 8192  # of one batch
_MOST_ROWS = 1 << 40  # of one shard folder: numbers of rows of different folders do not meet


class PretrainTask(Task):
    """Masked language model (Devlin et al. 2019) over shards, masked anew in every step.

    The vocabulary is scored at the masked places only. With `sentence_order`, the classifier on the pooled first token
    also says whether two segments were swapped (class 1) or not (class 0); both losses count alike (Lan et al. 2020).

    Dev scores: `mlm_accuracy` and `mlm_loss` over the masked places, and `order_accuracy`; masks, rows and what is
    swapped are the same in every evaluation of every run.

    Args:
        recipe: with a `PretrainObjective`.
        network: with the heads of `jinyi.train.start`.
        tokenizer: that of the shards.
        share: this process among all.

    Raises:
        FolderError: a file is no shard folder, or one of another vocabulary.
        InputError: too little text in one.
    """

    def __init__(self, recipe: Recipe, network: Network, tokenizer: Tokenizer, share: Share) -> None:
        objective = recipe.objective
        assert isinstance(objective, PretrainObjective)
        self.recipe, self.network, self.tokenizer, self.objective = recipe, network, tokenizer, objective
        self._masking = Masking(
            tokenizer.mask_id,
            ordinary_tokens(tokenizer),
            rate=objective.rate,
            units=objective.units,
            ngram=objective.ngram,
            kept=objective.kept,
            random=objective.random,
        )
        data = recipe.data
        self._sources = [self._open(source) for source in data.train]
        names = [source_name(source) for source in data.dev]
        if len(set(names)) < len(names):
            raise InputError(
                found=f"dev files called {', '.join(names)}",
                expected="a name of its own for each",
                fix="Give one of them `name`.",
                where="data.dev",
            )
        self._dev = dict(zip(names, ((self._open(s), s.limit) for s in data.dev), strict=True))
        measured = ("mlm_accuracy", *(("order_accuracy",) if objective.sentence_order else ()))
        self.metric = choose_metric(recipe, dict.fromkeys(names, measured), ("mlm_accuracy",))
        lengths = [
            rows.lengths[: source.limit] for rows, source in zip(self._sources, data.train, strict=True)
        ]
        self._sampler = Sampler(
            lengths,
            batch=recipe.batch,
            weights=[source.weight for source in data.train],
            mix=data.mix,
            temperature=data.temperature,
            seed=recipe.seed,
            bucket=1,
        )
        self.epoch_steps = self._sampler.epoch_steps
        self.rows = sum(map(len, lengths))

    def parts(self, step: int, share: Share) -> list[Part]:
        """See `Task.parts`."""
        drawn = [self._draw(step, *piece) for piece in self._sampler.parts(step, share)]
        per_row = self._masked_per_row(step, share) if self.objective.sentence_order else 0.0
        return [
            Part(
                self._inputs(rows, masked, per_row * len(rows.ids) / len(masked.targets)),
                weight=len(masked.targets),
                tokens=int(rows.lengths.sum()),
            )
            for rows, masked in drawn
        ]

    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """See `Task.loss`."""
        mlm, correct, order = self._scores(inputs)
        numbers: dict[str, float | Tensor] = {"mlm_accuracy": correct.detach().float().mean()}
        if order is None:
            return mlm, numbers
        own = F.cross_entropy(order, inputs["swapped"])
        right = (order.argmax(1) == inputs["swapped"]).float().mean()
        numbers |= {"mlm_loss": mlm.detach(), "order_loss": own.detach(), "order_accuracy": right}
        return mlm + inputs["order_scale"] * own, numbers

    def describe(self, step: int, share: Share, part: int) -> str:
        """See `Task.describe`."""
        sources, rows = self._sampler.parts(step, share)[part]
        train = self.recipe.data.train
        return "; ".join(
            f"{source_path(train[source], self.recipe.data)}: rows {', '.join(map(str, rows[sources == source]))}"
            for source in np.unique(sources).tolist()
        )

    def evaluate(self) -> dict[str, float]:
        """See `Task.evaluate`."""
        with scoring(self.network) as device:
            scores = {name: self._score_file(*file, device) for name, file in self._dev.items()}
        return summarise(scores)

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`."""
        return {"task": "mlm"}

    def _open(self, source: Source) -> RowSource:
        shards = Shards.open(source_path(source, self.recipe.data))
        shards.check_tokenizer(self.tokenizer)
        length, seed = self.recipe.data.max_length, self.recipe.seed
        if self.objective.sentence_order:
            return OrderRows(shards, length, self.tokenizer, seed)
        if self.objective.packing == "lines":
            return LineRows(shards, length, self.tokenizer)
        return DocumentRows(shards, length, self.tokenizer, seed)

    def _draw(self, step: int, sources: _IntArray, rows: _IntArray) -> tuple[Rows, Masked]:
        epoch = step // self.epoch_steps
        chosen = np.unique(sources).tolist()
        read = stack(
            [self._sources[source].read(rows[sources == source], epoch) for source in chosen],
            self.tokenizer.pad_id,
        )
        numbers = np.concatenate([rows[sources == source] + source * _MOST_ROWS for source in chosen])
        return read, self._masking(read.ids, read.text, read.starts, (self.recipe.seed, step), numbers)

    def _masked_per_row(self, step: int, share: Share) -> float:
        """Masked tokens by rows in the whole batch of all processes.

        Parts count by their masked tokens; the loss of sentence order has to count by rows, however the batch is cut.
        """
        pieces = [
            piece
            for rank in range(share.world)
            for piece in self._sampler.parts(step, Share(rank, share.world))
        ]
        masked = sum(len(self._draw(step, *piece)[1].targets) for piece in pieces)
        return masked / sum(len(rows) for _, rows in pieces)

    def _inputs(self, rows: Rows, masked: Masked, order_scale: float) -> dict[str, Any]:
        full = bool((rows.lengths == rows.ids.shape[1]).all())
        inputs: dict[str, Any] = {
            "ids": torch.from_numpy(masked.ids),
            "lengths": None if full else torch.from_numpy(rows.lengths),
            "segments": None if rows.segments is None else torch.from_numpy(rows.segments),
            "places": torch.from_numpy(masked.places),
            "targets": torch.from_numpy(masked.targets),
        }
        if rows.swapped is not None:
            inputs |= {
                "swapped": torch.from_numpy(rows.swapped.astype(np.int64)),
                "order_scale": order_scale,
            }
        return inputs

    def _scores(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean loss at the masks, which of them are right [n], and logits of the sentence order [R, 2]."""
        states = self.network(inputs["ids"], inputs["lengths"], inputs["segments"])[-1]
        logits = self.network.words(states.flatten(0, 1)[inputs["places"]]).float()
        order = self.network.classify(states[:, 0]).float() if "swapped" in inputs else None
        return F.cross_entropy(logits, inputs["targets"]), logits.argmax(1) == inputs["targets"], order

    def _score_file(self, source: RowSource, limit: int | None, device: torch.device) -> dict[str, float]:
        lengths = source.lengths[: min(limit or _MOST_ROWS, self.recipe.evaluation.limit or _MOST_ROWS)]
        order = np.argsort(lengths, kind="stable")
        sums = dict.fromkeys(("masks", "loss", "right", "rows", "ordered"), 0.0)
        for some in np.array_split(order, -(-int(lengths.sum()) // _DEV_TOKENS)):
            if not len(some):
                continue
            rows = source.read(some, None)
            masked = self._masking(rows.ids, rows.text, rows.starts, (0, 0), some)
            inputs = {
                name: value.to(device) if isinstance(value, Tensor) else value
                for name, value in self._inputs(rows, masked, 1.0).items()
            }
            loss, correct, logits = self._scores(inputs)
            sums["masks"] += len(correct)
            sums["loss"] += float(loss) * len(correct)
            sums["right"] += float(correct.sum())
            sums["rows"] += len(some)
            if logits is not None:
                sums["ordered"] += float((logits.argmax(1) == inputs["swapped"]).sum())
        scores = {"mlm_accuracy": sums["right"] / sums["masks"], "mlm_loss": sums["loss"] / sums["masks"]}
        if self.objective.sentence_order:
            scores["order_accuracy"] = sums["ordered"] / sums["rows"]
        return scores
