"""Fine-tuning on few labelled texts by a prompt and label words: `TopicClassifier.fit(method="prompt")`.

The one door through which the core comes into this room.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jinyi.errors import InputError, TruncationWarning
from jinyi.models.source import Source as Model
from jinyi.models.tuned import FineTuning
from jinyi.scratch import Scratch
from jinyi.train.build import build_task
from jinyi.train.recipe import (
    Batch,
    Data,
    Machine,
    Optimizer,
    Output,
    Recipe,
    Schedule,
    Source,
    Start,
    TopicObjective,
)
from jinyi.train.run.loop import start, steps
from jinyi.train.run.machine import describe, open_machine
from jinyi.train.run.outcome import data_hashes, write_model
from jinyi.train.run.progress import shown

NAME = "topic"
"""Of the prompt in the trained folder."""
STEPS = 300
"""Optimiser steps where the number of passes is not given."""
PASSES = (3.0, 20.0)
"""Fewest and most passes then."""
SMALL_RATE, LARGE_RATE, LARGE = 5e-4, 2e-5, 512
"""Peak learning rates for encoders less than so wide, and for others."""


def prompt_fit(
    model: Model,
    texts: Sequence[str],
    classes: Sequence[int],
    *,
    words: Sequence[str],
    prompt: str,
    target: Path,
    settings: FineTuning,
    progress: bool | None = None,
) -> Path:
    """Fine-tune a masked language model so that the right label word fits best into the prompt.

    The loss is cross-entropy over the label words, scored as prediction scores them, plus cross-entropy at the masks
    over the vocabulary, as in TCBert (arXiv 2211.11304). Equal calls give equal weights on one machine with one number
    of threads. Random numbers of the caller go on as they were.

    Args:
        model: what to begin from, with an MLM head; its device, threads and precision are those of the training too.
        texts: n texts.
        classes: number of each text's word, [n].
        words: the label words; also those that no text has.
        prompt: with {} for the word.
        target: model folder to write, of task "topic", its weights stored in the model's type.
        settings: passes, rate, batch, seed.
        progress: show a line with step and loss; None does so on a terminal only.

    Returns:
        `target`.

    Raises:
        InputError: a setting, text or word that cannot be used, or a loss that is not finite.
        FolderError: the disk refuses a write.

    Cost: three times prediction's arithmetic for each pass, and once more for each further length of label words;
    memory for weights, gradients and two moments, 16 bytes a parameter, and the activations of a batch.
    """
    with Scratch() as place, _own_chance():
        file = place / "train.jsonl"
        with open(file, "w", encoding="utf-8") as stream:
            for text, number in zip(texts, classes, strict=True):
                stream.write(json.dumps({"text": text, "label": str(number)}, ensure_ascii=False) + "\n")
        recipe = _recipe(model, file, len(texts), words, prompt, settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # it would name the temporary file
            task = build_task(recipe)
        _check_steps(recipe, task.epoch_steps, len(texts))
        tokens, seconds = 0, 0.0
        with open_machine(recipe.machine) as accelerator:
            state = start(task, recipe, accelerator)
            with shown("fit", state, progress) as show, _told_as_texts(file):
                for report in steps(task, recipe, accelerator, state):
                    tokens, seconds = tokens + report.tokens, seconds + report.seconds
                    show(report, None)
            record = {
                "machine": describe(accelerator),
                "data": data_hashes(recipe),
                "rows": task.rows,
                "tokens": tokens,
                "seconds": round(seconds, 1),
            }
        told = replace(
            recipe,
            start=replace(recipe.start, model=model.name or str(model.folder.path)),
            data=replace(recipe.data, folder=None),
        )
        weights = task.network.weights()
        return write_model(target, task, told, weights, step=state.step, scores={}, record=record)


def _recipe(
    model: Model, file: Path, rows: int, words: Sequence[str], prompt: str, settings: FineTuning
) -> Recipe:
    folder, epochs = model.folder, settings.epochs
    if epochs is None:
        fewest, most = PASSES
        epochs = min(max(STEPS / math.ceil(rows / settings.batch_size), fewest), most)
    rate = settings.learning_rate
    if rate is None:
        rate = SMALL_RATE if folder.config.hidden_size < LARGE else LARGE_RATE
    numbered = {str(number): word for number, word in enumerate(words)}
    return Recipe(
        name="prompt-fit",
        task="topic",
        start=Start(model=str(folder.path)),
        data=Data(
            train=(Source(file.name, name=NAME, prompts=(prompt,), words=numbered),),
            folder=str(file.parent),
            max_length=folder.max_length,
        ),
        batch=Batch(rows=settings.batch_size),
        optimizer=Optimizer(lr=rate),
        schedule=Schedule(epochs=epochs),
        objective=TopicObjective(labels=1.0, mlm=1.0),
        machine=Machine(
            precision="bf16" if model.precision == "bfloat16" else "float32",
            threads=model.threads,
            device="cuda" if model.device == "cuda" else "cpu",
        ),
        output=Output(
            dtype=folder.stored_type,
            licence=folder.record.get("licence"),
            max_length=folder.max_length,
            card='Fine-tuned by `TopicClassifier.fit(method="prompt")`.',
            seen_texts=False,  # whose texts they are did not ask for it
        ),
        seed=settings.seed,
    )


def _check_steps(recipe: Recipe, epoch_steps: int, rows: int) -> None:
    """Refuse fewer passes than make one step, in the words of `fit`: the loop would name options of a recipe."""
    epochs = recipe.schedule.epochs or 0.0
    if round(epochs * epoch_steps) < 1:
        raise InputError(
            found=f"{epochs:g} passes over {rows} texts, less than a step",
            expected=f"more than {0.5 / epoch_steps:g}",
            fix="Leave it out: some 300 steps are made then.",
            where="epochs",
        )


@contextmanager
def _told_as_texts(file: Path) -> Iterator[None]:
    """The loop names lines of a file that the caller has never seen, and options of a recipe."""
    try:
        yield
    except InputError as error:
        raise InputError(
            where=error.where,
            found=error.found.replace(f"{file}:", "text number "),
            expected=error.expected,
            fix="Check these texts, or lower learning_rate.",
        ) from error


@contextmanager
def _own_chance() -> Iterator[None]:
    """The loop seeds the global generators for every batch; afterwards they are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
