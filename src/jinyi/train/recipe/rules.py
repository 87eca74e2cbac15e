"""What must hold in a recipe beyond the types of its values: ranges, and what goes together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import NamedTuple

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError, shorten
from jinyi.train.recipe import (
    ClassesObjective,
    ContrastiveObjective,
    DistillObjective,
    PairObjective,
    PretrainObjective,
    Recipe,
    Source,
    TopicObjective,
    typed,
)
from jinyi.train.recipe.ranges import RANGES

KINDS = {
    "pretrain": ("shards",),
    "contrastive": ("pairs", "triplets", "texts"),
    "pair": ("pairs", "triplets"),
    "classes": ("texts",),
    "topic": ("topics",),
    "distill": ("texts", "pairs", "triplets", "topics", "shards"),
}
"""Kinds of rows that a task reads; the first is taken where a source names none."""


class Fault(NamedTuple):
    """One thing that is wrong: the dotted key, what was found, what is expected, what to do."""

    key: str
    found: str
    expected: str
    fix: str


def check(recipe: Recipe, place: typed.Place = str) -> None:
    """Check a recipe as far as that is possible without its data.

    Args:
        recipe: the recipe; its types are taken to be right.
        place: says where a dotted key was written.

    Raises:
        InputError: the first fault.
    """
    for fault in faults(recipe):
        raise InputError(where=place(fault.key), found=fault.found, expected=fault.expected, fix=fault.fix)


def faults(recipe: Recipe) -> Iterator[Fault]:
    """Yield everything that is wrong in a recipe."""
    yield from _numbers(recipe)
    yield from _exactly_one("batch", rows=recipe.batch.rows, tokens=recipe.batch.tokens)
    yield from _exactly_one("schedule", steps=recipe.schedule.steps, epochs=recipe.schedule.epochs)
    if not recipe.name or recipe.name.startswith(".") or set('/\\:*?"<>|\n') & set(recipe.name):
        yield Fault(
            "name",
            shorten(recipe.name),
            "a name that a folder can have",
            "Leave out / \\ : * ? and the like.",
        )
    rows, accumulate = recipe.batch.rows, recipe.batch.accumulate
    if rows is not None and rows < accumulate:
        yield Fault(
            "batch.rows",
            f"{rows} rows in {accumulate} parts",
            "a row for every part",
            "Lower batch.accumulate.",
        )
    schedule = recipe.schedule
    if schedule.shape == "wsd" and schedule.warmup < 1 and schedule.warmup + schedule.decay > 1:
        yield Fault(
            "schedule.decay",
            f"warm-up over {schedule.warmup:g} and decay over {schedule.decay:g} of the steps",
            "at most 1 together",
            "Lower one of them.",
        )
    if schedule.warmup >= 1 and schedule.warmup != int(schedule.warmup):
        yield Fault(
            "schedule.warmup",
            f"{schedule.warmup:g}",
            "a share below 1 or a whole number of steps",
            "Round it.",
        )
    pairs = recipe.task == "pair" or getattr(recipe.objective, "targets", None) == "pair"
    if pairs and recipe.data.max_length < 5:
        yield Fault(
            "data.max_length",
            f"{recipe.data.max_length} for pairs",
            "at least 5: [CLS], two [SEP] and a token of each text",
            "Raise it.",
        )
    yield from _start(recipe)
    yield from _sources(recipe)
    yield from _objective(recipe)


def _numbers(recipe: Recipe) -> Iterator[Fault]:
    for key, value in typed.flat(typed.plain(recipe)).items():
        limits = RANGES.get(re.sub(r"^data\.(train|dev)\.\d+\.", "source.", key))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if limits is not None and number and value not in limits:
            yield Fault(key, f"{value:g}", str(limits), "Correct the number.")


def _exactly_one(section: str, **values: object) -> Iterator[Fault]:
    given = [name for name, value in values.items() if value is not None]
    if len(given) != 1:
        names = " and ".join(f"{section}.{name}" for name in values)
        yield Fault(
            section,
            f"{'both' if given else 'neither'} {' and '.join(given) if given else 'of them'}",
            f"exactly one of {names}",
            "Take one of them away." if given else "Add one of them.",
        )


def _start(recipe: Recipe) -> Iterator[Fault]:
    start = recipe.start
    known = [field.name for field in fields(EncoderConfig)]
    for key in start.config:
        if key not in known:
            error = typed.unknown_key("start.config", key, known)
            yield Fault(f"start.config.{key}", error.found, error.expected, error.fix)
            return
    if start.model is None:
        needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        missing = [name for name in needed if name not in start.config]
        if missing:
            yield Fault(
                "start",
                f"neither a model nor {', '.join(missing)} in config",
                "start.model, or the whole shape in start.config",
                "Name a model folder to begin from, or give the sizes for random weights.",
            )
            return
        try:
            EncoderConfig.from_dict({"vocab_size": 8, **start.config})
        except FolderError as error:
            yield Fault("start.config", error.found, error.expected, "Correct the sizes.")
    if start.model is None and start.tokenizer is None and recipe.task != "pretrain":
        yield Fault(
            "start.tokenizer",
            "no tokenizer with random weights",
            "a folder, tokenizer.json or vocab.txt",
            "Name one, or begin from a model.",
        )
    if start.layers is not None and (start.model is None or not start.layers or min(start.layers) < 0):
        yield Fault(
            "start.layers",
            f"{list(start.layers)}" + ("" if start.model else " without start.model"),
            "numbers of layers of start.model, counted from 0",
            "Name the model to take them from, or leave layers out.",
        )
    if start.words == "ppmi" and (start.model is not None or recipe.task != "pretrain"):
        yield Fault(
            "start.words",
            "ppmi " + ("with start.model" if start.model else f"in task {recipe.task}"),
            "it with random weights in task pretrain: neighbours are counted in the shards",
            "Write random.",
        )


def _sources(recipe: Recipe) -> Iterator[Fault]:
    if not recipe.data.train:
        yield Fault("data.train", "no file", "at least one", "Name a file to learn from.")
    for section, sources in (("train", recipe.data.train), ("dev", recipe.data.dev)):
        for number, source in enumerate(sources):
            yield from _source(recipe, f"data.{section}.{number}", source)
    evaluation = recipe.evaluation
    if not recipe.data.dev and (evaluation.patience or evaluation.metric):
        key = "patience" if evaluation.patience else "metric"
        yield Fault(
            f"evaluation.{key}",
            f"{key} without dev files",
            "files in data.dev",
            f"Add them, or take {key} away.",
        )


def _source(recipe: Recipe, key: str, source: Source) -> Iterator[Fault]:
    kinds = KINDS[recipe.task]
    kind = source.kind or kinds[0]
    if kind not in kinds:
        yield Fault(
            f"{key}.kind",
            f"{kind} for task {recipe.task}",
            f"one of {', '.join(kinds)}",
            "Change kind or task.",
        )
    for name, given in (
        ("prompts", source.prompts),
        ("words", source.words),
        ("label_words", source.label_words),
    ):
        if given and kind != "topics":
            yield Fault(f"{key}.{name}", f"{name} for {kind}", f"{name} for topics only", "Take them away.")
    for number, prompt in enumerate(source.prompts):
        if prompt.count("{}") != 1:
            yield Fault(
                f"{key}.prompts.{number}",
                shorten(prompt),
                "a prompt with {} once, where the label word goes",
                "For example 下面是一则关于{}的新闻：",
            )
    objective = recipe.objective
    if isinstance(objective, ContrastiveObjective) and objective.loss == "cosent" and kind == "texts":
        yield Fault(
            f"{key}.kind", "texts with loss cosent", "pairs or triplets", "Texts alone need loss infonce."
        )


def _objective(recipe: Recipe) -> Iterator[Fault]:
    own = recipe.objective
    if isinstance(own, PretrainObjective):
        if own.kept + own.random > 1:
            yield Fault(
                "objective.kept",
                f"kept {own.kept:g} + random {own.random:g}",
                "at most 1 together",
                "Lower one.",
            )
        if own.sentence_order and own.packing == "lines":
            yield Fault(
                "objective.sentence_order",
                "sentence order with packing: lines",
                "packing: documents",
                "A line alone has no order of sentences.",
            )
    if isinstance(own, PairObjective):
        yield from _pair(own)
    if isinstance(own, ClassesObjective):
        if len(own.labels) < 2:
            yield Fault(
                "objective.labels",
                f"{len(own.labels)} labels",
                "the names of two classes at least",
                "Name them all.",
            )
        yield from _different(own.labels)
    if isinstance(own, TopicObjective) and not (own.mlm or own.labels or own.contrastive or own.random_mlm):
        yield Fault(
            "objective", "all weights 0", "one of mlm, labels, contrastive, random_mlm above 0", "Raise one."
        )
    if isinstance(own, DistillObjective):
        needed = {"pair": ("pairs",), "mlm": ("texts", "shards")}.get(own.targets, KINDS["distill"][:-1])
        for number, source in enumerate(recipe.data.train):
            if source.kind is not None and source.kind not in needed:
                yield Fault(
                    f"data.train.{number}.kind",
                    f"{source.kind} with targets {own.targets}",
                    f"one of {', '.join(needed)}",
                    "Change kind or objective.targets.",
                )


def _pair(own: PairObjective) -> Iterator[Fault]:
    if own.labels and len(own.labels) != max(own.outputs, 2) and not (own.outputs == len(own.labels) == 1):
        yield Fault(
            "objective.labels",
            f"{len(own.labels)} labels for {own.outputs} outputs",
            "as many labels as outputs (two or one for a single output)",
            "Correct objective.outputs or the list.",
        )
    yield from _different(own.labels)
    if own.loss == "pcl_compat" and (own.smoothing or own.prior):
        yield Fault(
            "objective.smoothing" if own.smoothing else "objective.prior",
            f"{own.smoothing or own.prior:g} with loss pcl_compat",
            "0: the published loss has a smoothing of 0.1 built in",
            "Leave it at 0, or take another loss.",
        )
    if own.outputs == 1 and own.loss in ("pcl", "pcl_compat"):
        yield Fault(
            "objective.loss",
            f"{own.loss} with one output",
            "a class for each grade of relevance",
            "Set outputs.",
        )


def _different(labels: tuple[str, ...]) -> Iterator[Fault]:
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        yield Fault(
            "objective.labels", f"{shorten(twice[0])} twice", "different names", "Rename one of them."
        )
