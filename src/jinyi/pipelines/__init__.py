"""Pipelines: the calls of `transformers.pipeline` for the tasks jinyi has; docs/pipelines.md has the forms."""

from __future__ import annotations

import difflib
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from jinyi.errors import InputError, shorten

if TYPE_CHECKING:
    from jinyi.pipelines.base import Pipeline

_HOME = {
    "text-classification": ("text_classification", "TextClassificationPipeline"),
    "sentence-similarity": ("sentence_similarity", "SentenceSimilarityPipeline"),
    "zero-shot-classification": ("zero_shot", "ZeroShotPipeline"),
    "feature-extraction": ("feature_extraction", "FeatureExtractionPipeline"),
}
TASKS = tuple(_HOME)
# What transformers and ModelScope call the same thing.
ALIASES = {
    "sentiment-analysis": "text-classification",
    "sentiment-classification": "text-classification",
    "nli": "text-classification",
}


def pipeline(task: str, model: str | os.PathLike[str] | None = None, **options: Any) -> Pipeline[Any]:
    """Open a model behind the call of transformers' pipeline of that task.

    Args:
        task: "text-classification", "sentence-similarity", "zero-shot-classification" or "feature-extraction".
        model: None for a shipped one, a name (`jinyi models list`) or a folder.
        options: of the pipeline's class: `precision`, `threads`, `device` and what it needs to open the model; and the
            options of a call, which then hold for every call.

    Returns:
        an object to be called with one input, a list or an iterator of them.

    Raises:
        InputError: no such task; an option whose value cannot be used, or that this model or machine does not have:
            precision ("int8" wants ranges in the folder), device, threads, pooling, segment_ids, labels, prompt.
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or cannot do this task.
        MissingExtraError: device "cuda" or torch tensors without PyTorch.
        TypeError: an option that this pipeline does not have.

    Example:
        >>> jinyi.pipeline("sentence-similarity")(("怎么改密码", "如何修改登录密码"))
        >>> jinyi.pipeline("zero-shot-classification")("主队加时赛险胜", candidate_labels="体育,财经")
    """
    name = ALIASES.get(task, task) if isinstance(task, str) else task
    if name not in TASKS:
        known = [*TASKS, *ALIASES]
        close = difflib.get_close_matches(str(task).lower().replace("_", "-"), known, n=1, cutoff=0.4)
        raise InputError(
            found=shorten(task),
            expected=f"one of {', '.join(TASKS)}",
            fix=f"Did you mean {close[0]}?" if close else "Choose one of them.",
            where="task",
        )
    module, kind = _HOME[name]
    made: Pipeline[Any] = getattr(import_module(f"jinyi.pipelines.{module}"), kind)(model, **options)
    return made
