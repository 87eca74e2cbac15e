"""Topics by prompts and label words, after TCBert (arXiv 2211.11304)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi import metrics
from jinyi.errors import InputError
from jinyi.models.heads import ReferenceHead
from jinyi.models.seen import TOKENS, SeenTexts
from jinyi.tokens import Tokenizer
from jinyi.train.data.chance import below
from jinyi.train.data.masking import Masking, ordinary_tokens
from jinyi.train.data.prompted import TextMasks, batch
from jinyi.train.data.rows import read_rows
from jinyi.train.data.sampler import Sampler
from jinyi.train.data.tensors import runs
from jinyi.train.data.topics import Prompt, Topics
from jinyi.train.distributed import gather_rows
from jinyi.train.losses import supcon
from jinyi.train.network import Network, pool
from jinyi.train.recipe import Recipe, TopicObjective
from jinyi.train.task import Part, Share, Task
from jinyi.train.tasks.scoring import (
    check_compared,
    choose_metric,
    describe_rows,
    different_names,
    scoring,
    summarise,
)

REFERENCES = 32
"""Training texts of each topic that dev texts are compared with, the first ones."""

_PROMPT, _MASK = range(2)  # what random numbers of a step are for
_MASK_RATE = 0.15
_DEV_TOKENS = 4096  # of one batch


class TopicTask(Task):
    """Each batch is of one file, shown with one of its prompts (two with `views: 2`).

    The losses, each a mean over texts, are added up by their weights: `mlm`, cross-entropy at the prompt's masks over
    the vocabulary; `labels`, cross-entropy over the file's labels, whose score is the mean log-probability of their
    word's tokens, as in prediction; `contrastive`, supervised contrastive loss over the mean of the last layer, among
    all texts and views that the processes compute at the same time; `random_mlm`, cross-entropy at 15% of the text's
    tokens, masked besides.

    Dev metrics: accuracy and macro_f1, by label words in the first prompt for the family "classification". For
    "embedding" a dev text gets the topic whose first `REFERENCES` texts in the training file of the same name are
    nearest in the mean (cosine); `accuracy` and `macro_f1` compare texts as they are, `prompted_accuracy` dev texts
    with the first prompt and its masks, as TCBert's card does.

    Args:
        recipe: of task "topic".
        network: with an MLM head.
        tokenizer: text to ids.
        share: this process; every batch has to have a row for each process.

    Raises:
        InputError: a file, row, label, label word or prompt cannot be used.
    """

    def __init__(
        self, recipe: Recipe, network: Network, tokenizer: Tokenizer, share: Share | None = None
    ) -> None:
        assert isinstance(recipe.objective, TopicObjective)
        self.recipe, self.network, self.tokenizer = recipe, network, tokenizer
        self.objective = recipe.objective
        data, length, limit = recipe.data, recipe.data.max_length, recipe.evaluation.limit
        read = [read_rows(source, data, tokenizer, "topics", tell=False) for source in data.train]
        self._train = [Topics.of(rows, tokenizer, length) for rows in read]
        by_name = dict(zip(different_names(read, "train"), self._train, strict=True))
        dev = [read_rows(source, data, tokenizer, "topics", limit=limit, tell=False) for source in data.dev]
        self._dev = {
            name: Topics.of(rows, tokenizer, length, by_name.get(name))
            for name, rows in zip(different_names(dev), dev, strict=True)
        }
        self._references = {name: self._reference_rows(name, by_name) for name in self._dev}
        self._sampler = Sampler(
            [self._lengths(topics) for topics in self._train],
            weights=[source.weight for source in data.train],
            batch=recipe.batch,
            mix=data.mix,
            temperature=data.temperature,
            seed=recipe.seed,
            together=False,
        )
        world = share or Share()
        for topics, fewest in zip(self._train, self._sampler.check(world), strict=True):
            if self.objective.contrastive:
                check_compared(fewest * world.world, "contrastive", topics.rows.path)
        self.epoch_steps = self._sampler.epoch_steps
        self.rows = sum(map(len, read))
        self._masking = Masking(
            tokenizer.mask_id, ordinary_tokens(tokenizer), rate=_MASK_RATE, units="tokens"
        )
        measured = ("accuracy", "macro_f1", *(() if self._by_words else ("prompted_accuracy",)))
        self.metric = choose_metric(recipe, dict.fromkeys(self._dev, measured), ("accuracy",))

    def parts(self, step: int, share: Share) -> list[Part]:
        """See `Task.parts`."""
        own, seed = self.objective, self.recipe.seed
        sources, rows = self._sampler.rows(step)
        topics = self._train[int(sources[0])]
        first = int(below(len(topics.prompts), (seed, step, _PROMPT), np.zeros(1, np.int64))[0])
        prompts = [topics.prompts[(first + view) % len(topics.prompts)] for view in range(own.views)]
        parts = []
        for piece in self._sampler.slices(len(rows), share):
            masks = TextMasks(self._masking, (seed, step, _MASK), piece) if own.random_mlm else None
            inputs, tokens = batch(
                topics,
                rows[piece],
                prompts,
                self.tokenizer,
                every_size=own.labels > 0,
                text_masks=masks,
            )
            parts.append(Part(inputs, float(len(piece)), tokens))
        return parts

    def describe(self, step: int, share: Share, part: int) -> str:
        """See `Task.describe`."""
        return describe_rows([topics.rows for topics in self._train], self._sampler.parts(step, share)[part])

    def loss(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """See `Task.loss`; the numbers for the log are the losses, and the accuracy by label words."""
        own = self.objective
        states = self.network(inputs["ids"], inputs["lengths"])
        terms: dict[str, tuple[float, Tensor]] = {}
        numbers: dict[str, float | Tensor] = {}
        if own.mlm or own.random_mlm or own.labels:
            log_p = self._log_probabilities(states, inputs)
            costs = -inputs["weights"] * log_p.gather(1, inputs["targets"][:, None])[:, 0]
            terms["mlm"] = own.mlm, costs[: inputs["words"]].sum()
            terms["random_mlm"] = own.random_mlm, costs[inputs["words"] :].sum()
            if inputs["scores"]:
                scores = _label_scores(log_p, inputs)
                numbers["accuracy"] = (scores.argmax(1) == inputs["topics"]).float().mean()
                terms["labels"] = own.labels, F.cross_entropy(scores, inputs["topics"])
        if own.contrastive:
            vectors = pool(states, inputs["lengths"], "mean")[inputs["own"]]
            everyone, topics = gather_rows(vectors.float())[0], gather_rows(inputs["topics"])[0]
            terms["contrastive"] = own.contrastive, supcon(everyone, topics, temperature=own.temperature)
        terms = {name: (weight, value) for name, (weight, value) in terms.items() if weight}
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return total, numbers | {name: value.detach() for name, (_, value) in terms.items()}

    def evaluate(self) -> dict[str, float]:
        """See `Task.evaluate`."""
        scores = {}
        for name, topics in self._dev.items():
            said = {"": self.label_scores(topics)} if self._by_words else self._compare(name, topics)
            scores[name] = {
                f"{how}accuracy": metrics.accuracy(topics.targets, p.argmax(1)) for how, p in said.items()
            }
            scores[name]["macro_f1"] = metrics.macro_f1(topics.targets, said[""].argmax(1))
        return summarise(scores)

    def label_scores(self, topics: Topics) -> npt.NDArray[np.float32]:
        """Return the mean log-probability of each label's word in the first prompt, float32 [rows, labels]."""
        found = np.zeros((len(topics.rows), len(topics.labels)), np.float32)
        lengths = self._lengths(topics)
        order = np.argsort(lengths, kind="stable")
        with scoring(self.network) as device:
            for rows in np.array_split(order, -(-int(lengths.sum()) // _DEV_TOKENS)):
                if not len(rows):
                    continue
                inputs, _ = batch(topics, rows, topics.prompts[:1], self.tokenizer, every_size=True)
                inputs = _to(inputs, device)
                states = self.network(inputs["ids"], inputs["lengths"])
                scores = _label_scores(self._log_probabilities(states, inputs), inputs)
                found[rows] = scores.float().cpu().numpy()
        return found

    def vectors(
        self, topics: Topics, rows: npt.NDArray[np.int64], prompt: Prompt | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the mean of the last layer of some texts, float32 [rows, hidden]; behind `prompt`, if given."""
        cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
        ids = []
        for row in rows.tolist():
            text = topics.rows.texts[0][row]
            ids.append(
                prompt.build(text, topics.sizes[-1])[0] if prompt else np.concatenate((cls, text, sep))
            )
        found = np.zeros((len(rows), self.network.config.hidden_size), np.float32)
        with scoring(self.network) as device:
            for numbers, some in runs(ids, self.tokenizer.pad_id, tokens=_DEV_TOKENS, device=device):
                pooled = pool(self.network(some.ids, some.lengths), some.lengths, "mean")
                found[numbers] = pooled.float().cpu().numpy()
        return found

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`.

        A classifier has the labels and prompts of the first file as its own. Of files with the same words and prompts,
        such as those of labelled and of pseudo-labelled rows, the first one names the prompts.
        """
        seen = self._seen.to_text() if self.recipe.output.seen_texts else None
        if not self._by_words:
            return {"task": "embed", "pooling": "mean", "normalize": True, "seen_texts": seen}
        first: dict[tuple[tuple[str, ...], tuple[str, ...]], Topics] = {}
        for topics in self._train:
            first.setdefault((topics.words, tuple(prompt.text for prompt in topics.prompts)), topics)
        prompts = {
            topics.rows.name + (f"_{number}" if number > 1 else ""): prompt.text
            for topics in first.values()
            for number, prompt in enumerate(topics.prompts, 1)
        }
        return {
            "task": "topic",
            "pooling": "mean",
            "labels": self._train[0].words,
            "prompts": prompts,
            "default_prompt_name": self._train[0].rows.name,
            "trained_words": sorted({word for topics in self._train for word in topics.words}),
            "seen_texts": seen,
        }

    @cached_property
    def _seen(self) -> SeenTexts:
        parts = ((topics.rows.texts[0], topics.rows.lost) for topics in self._train)
        # What was cut so short is another text to whoever reads it whole.
        return SeenTexts.of(
            side[row]
            for side, lost in parts
            for row in range(len(side))
            if not lost[row] or len(side[row]) >= TOKENS
        )

    @property
    def _by_words(self) -> bool:
        return self.objective.family == "classification"

    def _lengths(self, topics: Topics) -> npt.NDArray[np.int64]:
        """Tokens of each row's inputs together, about; [rows]."""
        prompt = max(topics.prompts, key=lambda prompt: prompt.size)
        lengths: npt.NDArray[np.int64] = np.minimum(topics.rows.lengths, prompt.room) + prompt.size
        return lengths * self.objective.views * (len(topics.sizes) if self.objective.labels else 1)

    def _log_probabilities(self, states: list[Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Over the vocabulary at `places`, float32 [K, V]."""
        hidden = states[-1].flatten(0, 1)[inputs["places"]]
        return F.log_softmax(self.network.words(hidden).float(), 1)

    def _reference_rows(self, name: str, by_name: Mapping[str, Topics]) -> npt.NDArray[np.int64]:
        """The first rows of each topic in the training file that belongs to a dev file."""
        if self._by_words:
            return np.empty(0, np.int64)
        if name not in by_name or by_name[name].labels != self._dev[name].labels:
            raise InputError(
                where=str(self._dev[name].rows.path),
                found=f"no training file called {name} with the same labels",
                expected="one: an embedding model is scored by comparing dev texts with training texts",
                fix="Give both the same `name` and the same words.",
            )
        targets = by_name[name].targets
        order = np.argsort(targets, kind="stable")
        counts = np.bincount(targets)
        rank = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: npt.NDArray[np.int64] = order[rank < REFERENCES]
        return rows

    def _compare(self, name: str, topics: Topics) -> dict[str, npt.NDArray[np.float32]]:
        """Probabilities of the topics by cosine with references; with texts as they are, and with the prompt."""
        train = next(own for own in self._train if own.rows.name == name)
        rows, every = self._references[name], np.arange(len(topics.rows))
        head = ReferenceHead.fit(
            self.vectors(train, rows),
            train.targets[rows],
            len(train.labels),
            decider="prototype",
            neighbors=1,
            whitening=None,
        )
        shown = {"": None, "prompted_": topics.prompts[0]}
        return {how: head.proba(self.vectors(topics, every, prompt)) for how, prompt in shown.items()}


def _label_scores(log_p: Tensor, inputs: Mapping[str, Any]) -> Tensor:
    """Mean log-probability of the tokens of each label's word, [R, labels]."""
    parts = []
    for each in inputs["scores"]:
        at, words = each["at"], each["words"]
        parts.append(sum(log_p[at[:, k]][:, words[:, k]] for k in range(at.shape[1])) / at.shape[1])
    order = torch.cat([each["classes"] for each in inputs["scores"]]).argsort()
    return torch.cat(parts, 1)[:, order]


def _to(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {name: _to(value, device) for name, value in inputs.items()}
    return [_to(value, device) for value in inputs] if isinstance(inputs, list) else inputs
