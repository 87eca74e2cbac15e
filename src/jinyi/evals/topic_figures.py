"""Figures of a topic evaluation: who is taken for whom, F1 by class, vectors before and after whitening, errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jinyi.evals.result import Example, Figure
from jinyi.evals.topic_data import Fold, TopicData
from jinyi.evals.topic_scores import class_f1, distinct
from jinyi.evals.topic_systems import Answers
from jinyi.evals.topic_vectors import TextVectors
from jinyi.models.common import FloatArray, normalise_rows
from jinyi.models.whitening import Whitening

MOST_CLASSES = 30
"""Classes of a confusion figure; of more, those with the most mistakes are shown."""
_BARS = 20
_GROUPS = 8
_POINTS = 1500
_OTHER = "(others)"


def confusion(data: TopicData, folds: Sequence[Fold], answers: Answers) -> Figure:
    """Return counts of label against answer, over all folds."""
    size = len(data.labels)
    counts = np.zeros((size, size), np.int64)
    answered = distinct(folds, answers)
    for fold, said in answered:
        np.add.at(counts, (fold.scored.targets, said), 1)
    occurs = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    caption = f"{answers.system}, {answers.protocol}. Rows: label, columns: answer"
    caption += f"; {len(answered)} folds together." if len(answered) > 1 else "."
    titles = [data.labels.titles[place] for place in occurs]
    counts = counts[np.ix_(occurs, occurs)]
    if len(occurs) > MOST_CLASSES:
        mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        shown = np.sort(np.argsort(-mistakes, kind="stable")[: MOST_CLASSES - 1])
        group = np.full(len(occurs), len(shown))
        group[shown] = np.arange(len(shown))
        small = np.zeros((len(shown) + 1, len(shown) + 1), np.int64)
        np.add.at(small, (group[:, None], group[None, :]), counts)
        titles, counts = [titles[place] for place in shown] + [_OTHER], small
        caption += f" The {len(shown)} classes with the most mistakes of {len(occurs)}; the rest together."
    return Figure(
        kind="confusion",
        title=f"{data.name}: labels and answers",
        values={"labels": titles, "counts": counts.tolist()},
        caption=caption,
    )


def f1_bars(data: TopicData, folds: Sequence[Fold], answers: Answers) -> Figure:
    """Return F1 x100 of each class, the mean over folds, lowest first."""
    values = np.full((len(folds), len(data.labels)), np.nan)
    for place, (fold, said) in enumerate(zip(folds, answers.predicted, strict=True)):
        values[place] = class_f1(fold.scored.targets, said, len(data.labels))
    known = np.flatnonzero(~np.isnan(values).all(axis=0))
    means = np.nanmean(values[:, known], axis=0)
    order = np.argsort(means, kind="stable")
    caption = f"{answers.system}, {answers.protocol}"
    if len(order) > 2 * _BARS:
        order = np.concatenate((order[:_BARS], order[-_BARS:]))
        caption += f"; the {_BARS} lowest and the {_BARS} highest of {len(known)} classes"
    return Figure(
        kind="bars",
        title=f"{data.name}: F1 by class",
        values={
            "bars": {data.labels.titles[known[place]]: 100 * float(means[place]) for place in order},
            "unit": "F1 x100",
        },
        caption=f"{caption}.",
    )


def vector_map(data: TopicData, fold: Fold, vectors: TextVectors, k: int | None, seed: int) -> Figure:
    """Return a map of the scored texts before and after whitening.

    After whitening every direction has the same variance, so a plain PCA would show noise: both maps show the plane in
    which the means of the classes lie furthest apart (PCA of the class means of vectors of length 1).
    """
    points = vectors.vectors(fold.scored)
    fitting = vectors.vectors(fold.train) if fold.train is not None else points
    distinct = len({row.tobytes() for row in fitting})
    size = min(points.shape[1] if k is None else k, points.shape[1], distinct - 1)
    fitted = Whitening(size).fit(fitting)
    counts = np.bincount(fold.scored.targets, minlength=len(data.labels))
    shown = [place for place in np.argsort(-counts, kind="stable")[:_GROUPS] if counts[place]]
    rows = np.flatnonzero(np.isin(fold.scored.targets, shown))
    if len(rows) > _POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _POINTS, replace=False))
    targets = fold.scored.targets[rows]
    groups = [data.labels.titles[place] for place in targets]
    side = "train" if fold.train is not None else "scored texts"
    panels, alike = {}, []
    for title, space in (
        ("before whitening", points),
        (f"whitening fitted on {side}, k={size}", fitted.transform(points)),
    ):
        units = normalise_rows(np.array(space[rows], np.float32))
        panels[title] = {"points": plane(units, targets).round(4).tolist(), "groups": groups}
        alike.append(mean_cosine(units))
    return Figure(
        kind="map",
        title=f"{data.name}: vectors of {vectors.source.folder.path.name}",
        values={"panels": panels},
        caption=f"{len(rows)} scored texts of the {len(shown)} largest classes, in the plane where the means of the "
        f"classes lie furthest apart. Mean cosine of two texts: {alike[0]:.2f} before, {alike[1]:.2f} after.",
    )


def plane(units: FloatArray, targets: npt.NDArray[np.int64]) -> FloatArray:
    """Project vectors [n, d] on the two first principal directions of their classes' means: float32 [n, 2]."""
    means = np.stack([units[targets == place].mean(axis=0) for place in np.unique(targets)])
    centre = means.mean(axis=0)
    _, _, directions = np.linalg.svd((means - centre).astype(np.float64), full_matrices=False)
    axes = directions[:2]
    # The sign of a direction is arbitrary: the largest number is made positive.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    found = np.zeros((len(units), 2), np.float32)
    found[:, : len(axes)] = (units - centre) @ axes.T
    return found


def mean_cosine(units: FloatArray) -> float:
    """Mean cosine of two different rows of length 1."""
    total = units.sum(axis=0, dtype=np.float64)
    n = len(units)
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else 1.0


def examples_of(data: TopicData, fold: Fold, answers: Answers, most: int) -> list[Example]:
    """Return wrong answers on one fold, the most confident first; in the order of the file without probabilities."""
    said, scored = answers.predicted[0], fold.scored
    wrong = np.flatnonzero(said != scored.targets)
    sure = answers.sure[0] if answers.sure is not None else None
    if sure is not None:
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    return [
        Example(
            data=data.name,
            texts={"text": scored.texts[row]},
            expected=data.labels.titles[scored.targets[row]],
            found=data.labels.titles[said[row]],
            score=None if sure is None else float(sure[row]),
            place=f"{scored.path.name}:{scored.lines[row]}",
        )
        for row in wrong[:most]
    ]
