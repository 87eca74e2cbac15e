"""Sentence vectors: SimCSE without and with labels, CoSENT for graded pairs, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from jinyi import metrics
from jinyi.errors import InputError
from jinyi.runtime.torch_encoder import initialize
from jinyi.tokens import Tokenizer
from jinyi.train.data.masking import Masking, ordinary_tokens
from jinyi.train.data.rows import Rows, read_rows
from jinyi.train.data.sampler import Sampler
from jinyi.train.data.tensors import runs
from jinyi.train.distributed import gather_rows
from jinyi.train.losses import cosent, info_nce
from jinyi.train.network import Network, pool
from jinyi.train.recipe import ContrastiveObjective, Recipe
from jinyi.train.task import Part, Share, Task
from jinyi.train.tasks.relations import Related, framed
from jinyi.train.tasks.scoring import (
    check_compared,
    choose_metric,
    describe_rows,
    different_names,
    scoring,
    summarise,
)

_MASK = 2  # what random numbers of a step are for
_MASK_RATE = 0.15

Chunk = Mapping[str, Any]


class ContrastiveTask(Task):
    """Vectors of texts, pairs and triplets; each batch is of one file.

    | rows | InfoNCE | CoSENT |
    |---|---|---|
    | texts | a text against itself under another dropout (unsupervised SimCSE) | - |
    | triplets | anchor against positive, its negative a hard one | (anchor, positive) 1, (anchor, negative) 0 |
    | pairs | those of label 1; second texts of label 0 are further negatives | all, by their labels |

    Pairs without labels mean the same. Where a file's labels are not all from 0 to 1 (grades such as 0..5), its pairs
    are graded only and enter CoSENT alone. InfoNCE is the mean over all its rows in a step; CoSENT is one number of the
    parts that all processes compute at the same time.

    Dev metrics: spearman of the cosine with the labels of pairs; accuracy of triplets (the positive is nearer).

    Args:
        recipe: of task "contrastive".
        network: with an MLM head if `objective.mlm` is not 0. The task adds `extras["mlp"]` if there is one.
        tokenizer: text to ids.
        share: this process; every batch has to have a row for each process.

    Raises:
        InputError: a file, row or label cannot be used, or a file gives the loss nothing to learn; file and line are
            named.
    """

    def __init__(self, recipe: Recipe, network: Network, tokenizer: Tokenizer, share: Share) -> None:
        assert isinstance(recipe.objective, ContrastiveObjective)
        self.recipe, self.network, self.tokenizer = recipe, network, tokenizer
        self.objective = recipe.objective
        if self.objective.mlp == "kept" and recipe.machine.fsdp:
            raise InputError(
                found="mlp: kept with machine.fsdp",
                expected="one of the two: the layer would be spread over processes when the folder is written",
                fix="Train without fsdp, or with another mlp.",
                where="objective.mlp",
            )
        if self.objective.mlp != "none":
            network.extras["mlp"] = _mlp(network.config.hidden_size, recipe.seed)
        data = recipe.data
        self._train = [Related.of(read_rows(source, data, tokenizer, "pairs")) for source in data.train]
        for related in self._train:
            related.check(self.objective.loss)
        self._sampler = Sampler(
            [related.rows.lengths + 2 * len(related.rows.texts) for related in self._train],
            weights=[source.weight for source in data.train],
            batch=recipe.batch,
            mix=data.mix,
            temperature=data.temperature,
            seed=recipe.seed,
            together=False,
        )
        together = share.world if self.objective.gather else 1
        for related, fewest in zip(self._train, self._sampler.check(share), strict=True):
            if related.rows.kind != "triplets":  # a triplet has a negative of its own
                check_compared(fewest * together, self.objective.loss, related.rows.path)
        self.epoch_steps = self._sampler.epoch_steps
        self.rows = sum(len(related.rows) for related in self._train)
        self._masking = Masking(
            tokenizer.mask_id, ordinary_tokens(tokenizer), rate=_MASK_RATE, units="tokens"
        )
        limit = recipe.evaluation.limit
        dev = [read_rows(source, data, tokenizer, "pairs", limit=limit) for source in data.dev]
        self._dev = dict(zip(different_names(dev), map(Related.of, dev), strict=True))
        for related in self._dev.values():
            if not related.graded:
                raise InputError(
                    found=f"{related.rows.kind} without different labels",
                    expected="pairs with labels, or triplets",
                    fix="Take another dev file.",
                    where=str(related.rows.path),
                )
        measured = {name: (self._metric(related),) for name, related in self._dev.items()}
        self.metric = choose_metric(recipe, measured, ("spearman", "accuracy"))

    def parts(self, step: int, share: Share) -> list[Part]:
        """See `Task.parts`."""
        sources, rows = self._sampler.rows(step)
        related = self._train[int(sources[0])]
        similar = int(related.similar[rows].sum())
        expected = _MASK_RATE * int(related.rows.texts[0].lengths[rows].sum())
        parts = []
        for piece in self._sampler.slices(len(rows), share):
            inputs = related.inputs(rows[piece], self.tokenizer, self.objective.cache)
            for chunk in inputs["chunks"]:
                places = chunk.pop("places")
                if self.objective.mlm:
                    chunk["masked"] = self._mask(chunk, places, step, piece)
            # The loop weighs parts by their rows; these factors make the step's losses means over all its rows and, as
            # expected, masks. So a step does not depend on how it was cut.
            factor = len(rows) / len(piece)
            inputs |= {"share": factor / max(1, similar), "mlm_share": factor / expected}
            tokens = sum(chunk["tokens"] for chunk in inputs["chunks"])
            parts.append(Part(inputs, float(len(piece)), tokens))
        return parts

    def describe(self, step: int, share: Share, part: int) -> str:
        """See `Task.describe`."""
        return describe_rows(
            [related.rows for related in self._train], self._sampler.parts(step, share)[part]
        )

    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """See `Task.loss`; the numbers for the log are the losses that were added up."""
        own = self.objective
        vectors, mlm = self._vectors(inputs["chunks"])
        vectors = vectors[inputs["order"]]
        numbers: dict[str, Tensor] = {}
        total = vectors.sum() * 0.0
        if own.loss != "cosent":
            numbers["infonce"] = self._info_nce(vectors, inputs) * inputs["share"]
            total = total + numbers["infonce"] * (own.infonce if own.loss == "both" else 1.0)
        if own.loss != "infonce" and inputs["labels"] is not None:
            numbers["cosent"] = self._cosent(vectors, inputs)
            total = total + numbers["cosent"]
        if own.mlm:
            numbers["mlm"] = mlm * inputs["mlm_share"]
            total = total + own.mlm * numbers["mlm"]
        return total, {name: number.detach() for name, number in numbers.items()}

    def evaluate(self) -> dict[str, float]:
        """See `Task.evaluate`."""
        scores = {}
        for name, related in self._dev.items():
            anchor, *others = self.vectors(related.rows)
            cosines = [np.sum(anchor * other, axis=1) for other in others]
            if related.grades is None:
                value = float(np.mean(cosines[0] > cosines[1]))
            else:
                value = metrics.spearman(related.grades, cosines[0])
            scores[name] = {self._metric(related): value}
        return summarise(scores)

    def vectors(self, rows: Rows) -> list[npt.NDArray[np.float64]]:
        """Return the finished model's vectors of each side of some rows, of length 1, float64 [n, hidden] each."""
        keys, first, place = np.unique(rows.keys.T.ravel(), return_index=True, return_inverse=True)
        count = len(rows)
        ids = [framed(rows, *divmod(int(index), count), self.tokenizer) for index in first]
        found = np.zeros((len(keys), self.network.config.hidden_size))
        with scoring(self.network) as device:
            for numbers, batch in runs(ids, self.tokenizer.pad_id, device=device):
                pooled = self._pooled(batch.ids, batch.lengths, finished=True)
                found[numbers] = F.normalize(pooled, dim=-1).double().cpu().numpy()
        return list(found[place.reshape(len(rows.texts), count)])

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`."""
        dense = []
        if self.objective.mlp == "kept":
            mlp = self.network.extras["mlp"].state_dict()
            dense = [tuple(mlp[name].float().cpu().numpy() for name in ("weight", "bias"))]
        return {"task": "embed", "pooling": self.objective.pooling, "normalize": True, "dense": dense}

    def _metric(self, related: Related) -> str:
        return "accuracy" if related.grades is None else "spearman"

    def _mask(
        self, chunk: Chunk, places: npt.NDArray[np.int64], step: int, piece: npt.NDArray[np.int64]
    ) -> dict[str, Any] | None:
        """Mask the first texts of rows, as far as the chunk holds some, for the auxiliary masked language model."""
        side, row = np.divmod(places, len(piece))
        first = np.flatnonzero(side == 0)
        if not len(first):
            return None
        ids = chunk["ids"].numpy()[first]
        lengths = None if chunk["lengths"] is None else chunk["lengths"][first]
        columns = np.arange(ids.shape[1])
        text = (columns > 0) & (columns < (len(columns) if lengths is None else lengths.numpy()[:, None]) - 1)
        text = np.broadcast_to(text, ids.shape)
        masked = self._masking(ids, text, text, (self.recipe.seed, step, _MASK), piece[row[first]])
        return {
            "ids": torch.from_numpy(masked.ids),
            "lengths": lengths,
            "places": torch.from_numpy(masked.places),
            "targets": torch.from_numpy(masked.targets),
        }

    def _vectors(self, chunks: list[Chunk]) -> tuple[Tensor, Tensor]:
        """Vectors [texts, hidden] in the order of the chunks, and the sum of the losses at masks."""
        if self.objective.cache is None:
            parts = [self._chunk(chunk) for chunk in chunks]
        else:
            parts = [checkpoint(self._chunk, chunk, use_reentrant=False) for chunk in chunks]
        return torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts]).sum()

    def _chunk(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        vectors = self._pooled(chunk["ids"], chunk["lengths"], finished=False)
        masked = chunk.get("masked")
        if masked is None:
            return vectors, vectors.new_zeros(())
        states = self.network(masked["ids"], masked["lengths"])[-1]
        logits = self.network.words(states.flatten(0, 1)[masked["places"]])
        return vectors, F.cross_entropy(logits.float(), masked["targets"], reduction="sum")

    def _pooled(self, ids: Tensor, lengths: Tensor | None, *, finished: bool) -> Tensor:
        """Vectors in training, or those of the finished model; float32 [texts, hidden]."""
        states = self.network(ids, lengths, first=self.objective.pooling == "cls")
        pooled = pool(states, lengths, self.objective.pooling)
        if self.objective.mlp == "kept":
            pooled = self.network.extras["mlp"](pooled)
        elif self.objective.mlp == "train" and not finished:
            pooled = torch.tanh(self.network.extras["mlp"](pooled))
        return pooled.float()

    def _info_nce(self, vectors: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Sum over the part's rows."""
        own, keys = self.objective, inputs["keys"]
        b, keys_b, offset = self._gather(vectors, keys, inputs["b"])
        negatives = keys_negatives = None
        if inputs["negatives"] is not None:
            negatives, keys_negatives, _ = self._gather(vectors, keys, inputs["negatives"])
        return info_nce(
            vectors[inputs["a"]],
            b,
            negatives=negatives,
            keys_a=keys[inputs["a"]],
            keys_b=keys_b,
            keys_negatives=keys_negatives,
            temperature=own.temperature,
            hard_negative_weight=own.hard_negative_weight if inputs["own_negatives"] else 0.0,
            offset=offset,
            reduction="sum",
        )

    def _gather(self, vectors: Tensor, keys: Tensor, places: Tensor) -> tuple[Tensor, Tensor, int]:
        if not self.objective.gather:
            return vectors[places], keys[places], 0
        rows, offset = gather_rows(vectors[places])
        return rows, gather_rows(keys[places])[0], offset

    def _cosent(self, vectors: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        first, second = vectors[inputs["first"]], vectors[inputs["second"]]
        cosines, labels = F.cosine_similarity(first, second, dim=-1), inputs["labels"]
        if self.objective.gather:
            cosines, labels = gather_rows(cosines)[0], gather_rows(labels)[0]
        return cosent(cosines, labels, scale=self.objective.scale)


def _mlp(width: int, seed: int) -> nn.Linear:
    """A layer that starts as BERT's do, from the recipe's seed alone."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layer = nn.Linear(width, width)
        initialize(layer)
    return layer
