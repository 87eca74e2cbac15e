"""Rows of a table out of answers: mean over folds, deviation, interval; and rows that others published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.evals.bootstrap import interval
from jinyi.evals.result import Row
from jinyi.evals.topic_data import Fold, TopicData
from jinyi.evals.topic_systems import Answers, Numbers


def row_of(data: TopicData, folds: Sequence[Fold], answers: Answers, *, intervals: bool, seed: int) -> Row:
    """Return the row of one system and protocol.

    Args:
        data: the set.
        folds: those that were answered.
        answers: of the system.
        intervals: with bootstrap intervals, where all folds were scored on the same rows.
        seed: of the bootstrap.

    Returns:
        scores x100; with several folds the mean of theirs, with the deviation where training made a difference.
    """
    same_rows = len({fold.scored.path for fold in folds}) == 1
    answered = distinct(folds, answers)
    labels = [fold.scored.targets for fold, _ in answered]
    predicted = [said for _, said in answered]
    each = {
        "accuracy": [100 * mean_accuracy(true, said) for true, said in zip(labels, predicted, strict=True)],
        "macro-F1": [100 * mean_macro_f1(true, said) for true, said in zip(labels, predicted, strict=True)],
    }
    settings: dict[str, Any] = {**answers.settings, "split": data.split}
    if len(predicted) > 1:
        settings["folds"] = {
            fold.name: {metric: values[place] for metric, values in each.items()}
            | {
                "train_rows": len(fold.train) if fold.train is not None else 0,
                "scored_rows": len(fold.scored),
            }
            for place, fold in enumerate(folds)
        }
    elif folds[0].train is not None and settings.get("method") not in ("own", "zero-shot", "majority"):
        settings |= {"fold": folds[0].name, "train_rows": len(folds[0].train)}
    ends: dict[str, tuple[float, float]] = {}
    if intervals and same_rows:
        for metric, function in (("accuracy", mean_accuracy), ("macro-F1", mean_macro_f1)):
            ends[metric] = interval(function, labels[0], *predicted, seed=seed, scale=100.0)
    several = len(predicted) > 1
    return Row(
        data=data.name,
        system=answers.system,
        protocol=answers.protocol,
        scores={metric: float(np.mean(values)) for metric, values in each.items()},
        n=len(labels[0]) if same_rows else sum(map(len, labels)),
        intervals=ends,
        deviations={metric: float(np.std(values, ddof=1)) for metric, values in each.items()}
        if several
        else {},
        settings=settings,
        data_sha256=folds[0].scored.sha256 if same_rows else None,
        seed=answers.seed,
    )


def distinct(folds: Sequence[Fold], answers: Answers) -> list[tuple[Fold, Numbers]]:
    """Return each fold with the answers on it; one alone where the same answers to the same rows serve all folds."""
    pairs = list(zip(folds, answers.predicted, strict=True))
    first_fold, first = pairs[0]
    same = all(fold.scored is first_fold.scored and said is first for fold, said in pairs)
    return pairs[:1] if same else pairs


def mean_accuracy(labels: Numbers, *predicted: Numbers) -> float:
    """Share of right answers, the mean over several answers to the same rows."""
    return float(np.mean([np.mean(labels == said) for said in predicted]))


def mean_macro_f1(labels: Numbers, *predicted: Numbers) -> float:
    """Mean of the classes' F1, over the classes that occur among labels or answers; the mean over several answers.

    Equals `jinyi.metrics.macro_f1` for one answer; counted at once for all classes, as the bootstrap calls it often.
    """
    return float(np.mean([_macro(labels, said) for said in predicted]))


def class_f1(labels: Numbers, predicted: Numbers, classes: int) -> npt.NDArray[np.float64]:
    """F1 of each class, float64 [classes]; NaN for one that is neither among labels nor answers."""
    hits, both = _counts(labels, predicted, classes)
    out = np.full(classes, np.nan)
    np.divide(2.0 * hits, both, out=out, where=both > 0)
    return out


def _macro(labels: Numbers, predicted: Numbers) -> float:
    hits, both = _counts(labels, predicted, 0)
    occurs = both > 0
    return float(np.mean(2.0 * hits[occurs] / both[occurs]))


def _counts(labels: Numbers, predicted: Numbers, classes: int) -> tuple[Numbers, Numbers]:
    """For each class how often it was answered rightly, and how often it stands among labels and answers."""
    both = np.bincount(np.concatenate((labels, predicted)), minlength=classes)
    return np.bincount(labels[labels == predicted], minlength=len(both)), both


def quoted_rows(published: str, data: Mapping[str, TopicData]) -> list[Row]:
    """Return the published rows of the sets that are known by name.

    Args:
        published: JSON with "sources" by name and "rows" with accuracies (and deviations) by set.
        data: the sets scored here; a set that was read twice has its rows once.
    """
    found = json.loads(published)
    names: dict[str, str] = {}
    for name, each in data.items():
        names.setdefault(each.labels.known, name)
    return [
        Row(
            data=names[known],
            system=row["system"],
            protocol=row["protocol"],
            scores={"accuracy": value},
            deviations={"accuracy": row["deviation"][known]} if "deviation" in row else {},
            quoted=found["sources"][row["source"]],
        )
        for row in found["rows"]
        for known, value in row["accuracy"].items()
        if known in names
    ]
