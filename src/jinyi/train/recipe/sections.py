"""What a training run is: the sections of a recipe, with their defaults and meaning.

A recipe is data. `jinyi.train.recipe.reading` makes one from YAML; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Start:
    """What the weights are before the first step.

    Args:
        model: model folder or registered name to begin from. None: random weights of the shape `config`.
        config: fields of `EncoderConfig` for random weights; with `model`, the fields to change (dropout, layers).
        tokenizer: folder, `tokenizer.json` or `vocab.txt`. None takes the model's own; with `model` and another
            vocabulary, embedding rows of equal tokens are carried over.
        layers: numbers of the model's layers to keep, from 0, in their new order. None keeps all.
        words: how word embeddings begin with random weights: "random", or "ppmi": leading directions of the pointwise
            mutual information of neighbouring tokens in the training shards (Levy & Goldberg 2014).
        heads: "random", or "neighbours": a few heads of the first two layers look at the places -3..3; or "matching":
            a few heads look for equal tokens in the other segment.
        last_layer: "kept", or "pooling": [CLS] of the last layer begins as the mean of all tokens.
    """

    model: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    layers: tuple[int, ...] | None = None
    words: Literal["random", "ppmi"] = "random"
    heads: Literal["random", "neighbours", "matching"] = "random"
    last_layer: Literal["kept", "pooling"] = "kept"


@dataclass(frozen=True)
class Source:
    """One file of training or dev rows.

    Args:
        file: path; relative ones are looked up in `Data.folder`. Formats as on the command line, or a shard folder for
            `pretrain`.
        name: what logs call it; None takes the name of the file or, for train/dev files, of its folder.
        kind: what a row holds. "pairs": two texts and a label or score; "triplets": anchor, positive, negative;
            "texts": one text; "topics": a text and its topic; "shards": token shards. None takes what the task reads.
        columns: names of columns where they are not the usual ones, e.g. {"a": "premise", "b": "hypothesis"}.
        labels: what a label in the file stands for, e.g. {"entailment": 1, "neutral": 0.5}. Rows whose label is
            mapped to null are left out. None takes labels as they are.
        weight: how much more often rows of this file are drawn than by `Data.mix` alone.
        limit: only the first so many rows.
        prompts: for topics: prompts with {} for the label word; one is drawn for each batch.
        words: for topics: label -> label word; None takes the label itself.
        label_words: for topics: a set of `jinyi.label_words` whose words and, where none are given, prompts are taken.
    """

    file: str
    name: str | None = None
    kind: Literal["pairs", "triplets", "texts", "topics", "shards"] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Any] | None = None
    weight: float = 1.0
    limit: int | None = None
    prompts: tuple[str, ...] = ()
    words: Mapping[str, str] | None = None
    label_words: Literal["tnews", "csldcp", "iflytek"] | None = None


@dataclass(frozen=True)
class Data:
    """Where rows come from and how files are mixed.

    Args:
        train: files to learn from.
        dev: files to choose by.
        folder: where relative paths begin; None takes the working directory. `--data` sets it.
        mix: chance of a file in each step: "proportional" to its rows, "temperature": rows ** (1 / temperature),
            "round_robin": files in turn.
        temperature: for `mix: temperature`; 1 is proportional, large is uniform.
        max_length: most tokens of one input, [CLS] and [SEP] included.
    """

    train: tuple[Source, ...]
    dev: tuple[Source, ...] = ()
    folder: str | None = None
    mix: Literal["proportional", "temperature", "round_robin"] = "proportional"
    temperature: float = 1.0
    max_length: int = 128


@dataclass(frozen=True)
class Batch:
    """How much one optimiser step sees, over all processes and accumulated parts together.

    Args:
        rows: rows (texts, pairs) of a step. Exactly one of `rows` and `tokens` is given.
        tokens: real tokens of a step, about.
        accumulate: number of parts a process computes one after the other before it steps.
        bucket: draw rows of nearly equal length into a batch, so that little is padded.
    """

    rows: int | None = None
    tokens: int | None = None
    accumulate: int = 1
    bucket: bool = True


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov & Hutter 2019); biases, layer norms and embeddings are not decayed.

    Args:
        lr: peak learning rate.
        weight_decay: decoupled weight decay of matrices.
        betas: decay rates of the moment estimates.
        eps: added to the root of the second moment.
        clip: largest norm of the gradient; None for no clipping.
        layer_decay: learning rate of a layer relative to the one above it; 1 for the same.
    """

    lr: float = 2e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = 1.0
    layer_decay: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long a run is, and the learning rate over it.

    Args:
        steps: optimiser steps. Exactly one of `steps` and `epochs` is given.
        epochs: passes over the training rows.
        warmup: share of the steps (below 1) or number of steps in which the rate rises linearly from 0.
        shape: what follows: "linear" or "cosine" to `minimum`, "constant", or "wsd": constant, then linear to
            `minimum` over the last `decay` of the steps (warm-up, stable, decay).
        decay: for "wsd".
        minimum: last learning rate as a share of the peak.
    """

    steps: int | None = None
    epochs: float | None = None
    warmup: float = 0.1
    shape: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    decay: float = 0.4
    minimum: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """When dev files are scored, and what follows from it.

    Args:
        every: optimiser steps between evaluations; below 1 a share of the run.
        metric: dev metric that decides which model is best; None takes the task's own.
        patience: stop after so many evaluations without a better one; None never stops early.
        limit: only the first so many rows of each dev file.
    """

    every: float = 0.1
    metric: str | None = None
    patience: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """When the state of a run is saved.

    Args:
        every: optimiser steps between checkpoints; below 1 a share of the run.
        minutes: also save when so many minutes have passed since the last one.
        keep: how many checkpoints stay, the newest ones.
    """

    every: float = 0.05
    minutes: float = 10.0
    keep: int = 2


@dataclass(frozen=True)
class Machine:
    """What computes.

    Args:
        precision: "float32", or "bf16": matrix products in bfloat16, weights and sums in float32.
        threads: threads of one process on a CPU; None takes the cores really there, shared by the processes.
        device: "auto", "cpu", "cuda" or "xla".
        checkpointing: keep no activations inside layers and compute them again backwards: less memory, a third more
            work.
        fsdp: share weights and optimiser state among the processes (FSDP) instead of copying them (DDP).
    """

    precision: Literal["float32", "bf16"] = "float32"
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda", "xla"] = "auto"
    checkpointing: bool = False
    fsdp: bool = False


@dataclass(frozen=True)
class Output:
    """The model folder a run ends with.

    Args:
        name: name of the model; None takes the recipe's.
        summary: one sentence for the card.
        licence: SPDX identifier.
        dtype: stored type of the weights.
        max_length: longest input of the finished model, in tokens; None takes the encoder's positions.
        card: extra Markdown for the model card.
        seen_texts: for topics: leave up to 8,192 hashes of labelled texts in the folder, by which `TopicClassifier.fit`
            sees that the encoder knows them. Whoever has the folder can tell whether a text is among these.
    """

    name: str | None = None
    summary: str | None = None
    licence: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    max_length: int | None = None
    card: str | None = None
    seen_texts: bool = True


@dataclass(frozen=True)
class PretrainObjective:
    """Masked language model.

    Args:
        rate: share of the tokens that is predicted.
        units: what is masked together: "tokens", "words" (whole words) or "ngrams" (1..`ngram` words in a row, the
            length n with a chance in proportion to 1/n).
        ngram: longest n-gram in words.
        kept, random: shares of the chosen tokens that stay, and that become a random token; the rest is [MASK].
        packing: "documents": rows of exactly `max_length` tokens, filled with the sentences of a document in their
            order and then of the next; "lines": each line a row of its own, rows of one length in a batch.
        sentence_order: also predict whether two segments of a document stand in their order (ALBERT's SOP).
    """

    rate: float = 0.15
    units: Literal["tokens", "words", "ngrams"] = "words"
    ngram: int = 3
    kept: float = 0.1
    random: float = 0.1
    packing: Literal["documents", "lines"] = "documents"
    sentence_order: bool = False


@dataclass(frozen=True)
class ContrastiveObjective:
    """Sentence vectors.

    Args:
        loss: "infonce" (SimCSE), "cosent" (graded pairs), or "both": CoSENT on every labelled pair plus `infonce` times
            InfoNCE on the pairs labelled similar.
        temperature: of the cosine in InfoNCE; 0.05 in SimCSE.
        scale: of the cosine differences in CoSENT; 20 in its author's code.
        infonce: weight of InfoNCE in "both".
        hard_negative_weight: added to the logit of a row's own hard negative.
        pooling: "cls", "mean" or "first_last".
        mlp: a linear layer on the pooled vector: "none", "train" (with tanh, and dropped in the finished model, as
            unsupervised SimCSE does) or "kept" (without tanh: it becomes the folder's dense layer, a plain one).
        mlm: weight of an auxiliary masked language model loss; 0 for none.
        cache: texts computed at a time; activations of the others are computed again backwards (cached gradients), so
            that a batch may be larger than memory. None computes all at once.
        gather: use the other processes' rows as negatives too.
    """

    loss: Literal["infonce", "cosent", "both"] = "infonce"
    temperature: float = 0.05
    scale: float = 20.0
    infonce: float = 0.5
    hard_negative_weight: float = 0.0
    pooling: Literal["cls", "mean", "first_last"] = "cls"
    mlp: Literal["none", "train", "kept"] = "none"
    mlm: float = 0.0
    cache: int | None = None
    gather: bool = True


@dataclass(frozen=True)
class PairObjective:
    """Cross-encoder over pairs.

    Args:
        outputs: 1 (a logit, P(similar) by sigmoid) or the number of classes.
        labels: names of the classes in their order; with `loss: pcl` the order is that of relevance. For one output two
            names: the one that means similar is told by the names, else it is the second.
        loss: "cross_entropy", "focal", "pcl" (ours, differentiable) or "pcl_compat" (the value of the published code,
            which has no gradient beyond label smoothing).
        smoothing: label smoothing.
        gamma: of the focal loss (Lin et al. 2017).
        prior: strength tau of the logit adjustment by the classes' training shares (Menon et al. 2021); 0 for none.
        order_weight, propensity: of our PCL: weight of the ordinal cost, and exponent of the inverse class share in it.
        both_orders: show (b, a) as often as (a, b). For symmetric relations only.
        segments: segment ids 0/1, or all 0.
        dropout: on the pooled vector.
    """

    outputs: int = 1
    labels: tuple[str, ...] = ()
    loss: Literal["cross_entropy", "focal", "pcl", "pcl_compat"] = "cross_entropy"
    smoothing: float = 0.0
    gamma: float = 2.0
    prior: float = 0.0
    order_weight: float = 1.0
    propensity: float = 0.5
    both_orders: bool = True
    segments: Literal["pair", "zeros"] = "pair"
    dropout: float = 0.1


@dataclass(frozen=True)
class ClassesObjective:
    """Classifier of single texts: BERT's pooler on [CLS] and a linear layer.

    Args:
        labels: names of the classes in their order, two at least.
        loss: "cross_entropy" or "focal".
        smoothing, gamma, prior, dropout: as for pairs.
    """

    labels: tuple[str, ...]
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    smoothing: float = 0.0
    gamma: float = 2.0
    prior: float = 0.0
    dropout: float = 0.1


@dataclass(frozen=True)
class TopicObjective:
    """Prompts and label words (TCBert, arXiv 2211.11304). The paper does not publish its contrastive loss; ours is
    the supervised contrastive loss (Khosla et al. 2020) over two views of a text.

    Args:
        family: what the model is for: "classification" (label words at the masks) or "embedding" (mean of the last
            layer).
        mlm: weight of the cross-entropy at the masks over the whole vocabulary.
        labels: weight of the cross-entropy over the set's own labels, scored as prediction scores them.
        contrastive: weight of the supervised contrastive loss.
        temperature: of the contrastive loss.
        views: texts are seen once or twice in a batch, each time with another prompt and other dropout.
        random_mlm: weight of ordinary masking of the text (as PET does).
    """

    family: Literal["classification", "embedding"] = "classification"
    mlm: float = 1.0
    labels: float = 0.0
    contrastive: float = 0.0
    temperature: float = 0.05
    views: int = 1
    random_mlm: float = 0.0


@dataclass(frozen=True)
class DistillObjective:
    """A student from a teacher.

    Args:
        teacher: model folder or registered name.
        targets: what is imitated: "vectors" (cosine of teacher's and student's vectors, through a linear map where
            widths differ), "similarities" (the matrix of cosines inside a batch), "pair" (logits of a pair model, with
            `temperature`) or "mlm" (logits at masks).
        temperature: softens teacher and student logits (Hinton et al. 2015).
        hard: weight of the loss against the rows' own labels, where they have some.
        pooling: of the student's vectors.
        hidden: weight of the mean squared error between mapped hidden states of student layers and the teacher layers
            they are paired with (evenly spaced); 0 for none.
    """

    teacher: str
    targets: Literal["vectors", "similarities", "pair", "mlm"] = "vectors"
    temperature: float = 1.0
    hard: float = 0.0
    pooling: Literal["cls", "mean", "first_last"] = "cls"
    hidden: float = 0.0


Objective = (
    PretrainObjective
    | ContrastiveObjective
    | PairObjective
    | ClassesObjective
    | TopicObjective
    | DistillObjective
)
TASKS: dict[str, type[Any]] = {
    "pretrain": PretrainObjective,
    "contrastive": ContrastiveObjective,
    "pair": PairObjective,
    "classes": ClassesObjective,
    "topic": TopicObjective,
    "distill": DistillObjective,
}


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Args:
        name: name of the run; its folder is `runs/NAME` unless told otherwise.
        task: "pretrain", "contrastive", "pair", "classes", "topic" or "distill"; decides the type of `objective`.
        seed: of weights, batches, masks and dropout.
    """

    name: str
    task: Literal["pretrain", "contrastive", "pair", "classes", "topic", "distill"]
    data: Data
    start: Start
    batch: Batch
    schedule: Schedule
    objective: Objective
    optimizer: Optimizer = field(default_factory=Optimizer)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    machine: Machine = field(default_factory=Machine)
    output: Output = field(default_factory=Output)
    seed: int = 0
