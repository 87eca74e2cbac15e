"""Calibrating a topic classifier: a temperature for its probabilities, fitted on labelled texts.

classifier = jinyi.TopicClassifier.load("my-model")
calibrated = calibrate_topics(classifier, {"dev": Path("dev.jsonl")})
classifier.save("calibrated", calibration=calibrated.record)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.errors import InputError, shorten
from jinyi.evals.calibration import BEFORE, Calibrated, about, shared_columns, wrong_method
from jinyi.evals.reliability import (
    FOLDS,
    Indices,
    check_enough,
    cross_fitted,
    error_of_chance,
    probability_scores,
    reliability_figure,
    stratified_folds,
    told_of_cut,
    told_of_gain,
)
from jinyi.evals.result import Evaluation, Row
from jinyi.evals.topic_data import TopicRows, read_topic_data
from jinyi.evals.topic_labels import SetLabels
from jinyi.models.temperature import TopicCalibration, fit_temperature
from jinyi.models.topic_classifier import TopicClassifier


def calibrate_topics(
    classifier: TopicClassifier,
    data: Mapping[str, Path],
    *,
    method: str | None = None,
    seed: int = 0,
    progress: bool | None = False,
) -> Calibrated:
    """Fit a temperature for the probabilities of a topic classifier on labelled texts.

    Args:
        classifier: with label words, classes of its own, or fitted; a temperature it has already is not used.
        data: files of labelled texts by name, taken together, that stand for later use and that `fit` did not see;
            their labels may be written as codes, words or descriptions (see `SetLabels`).
        method: "temperature" or None.
        seed: of the folds.
        progress: a bar while texts are classified; None on a terminal.

    Raises:
        InputError: another method, no labels or some that are none of the classifier's, fewer than 10 rows of
            other labels than the most frequent, or a model that knows nothing about them.
        NotFittedError: a model without labels.
    """
    if method not in (None, "temperature"):
        raise wrong_method(method, "a topic model", ("temperature",))
    fits = classifier.state()
    sets = [_topic_rows(name, path, fits["classes"]) for name, path in data.items()]
    targets = np.concatenate([each.targets for each in sets])
    n = len(targets)
    others = n - int(np.bincount(targets).max())
    where = ", ".join(map(str, data.values()))
    check_enough({"rows": n, "rows of other labels than the most frequent": others}, where)
    texts = [text for each in sets for text in each.texts]
    proba, report = classifier.predict_proba(
        texts, calibrated=False, show_progress=progress, return_report=True
    )

    def fit(rows: Indices) -> Any:
        each = TopicCalibration(fit_temperature(proba[rows], targets[rows]), fits)
        return lambda others: each.apply(proba[others])

    fitted = TopicCalibration(fit_temperature(proba, targets), fits)
    after = cross_fitted(stratified_folds(targets, seed=seed), fit)
    scores = {"before": probability_scores(targets, proba), "after": probability_scores(targets, after)}
    common, system = shared_columns(sets, data, seed) | {"n": n}, classifier.path.name
    bare = system if classifier.calibration is None else f"{system} without its calibration"
    chance = error_of_chance(after.max(axis=1), seed=seed)
    curves = {BEFORE: proba, "temperature, cross-fitted": after}
    evaluation = Evaluation(
        title=f"Calibration of {system}",
        kind="calibration",
        rows=[
            Row(**common, system=bare, scores=scores["before"]),
            Row(**common, system=f"+ temperature {fitted.temperature:.3g}", scores=scores["after"]),
        ],
        figures=[
            reliability_figure(
                "Reliability of the most likely topic",
                {name: (each.argmax(axis=1) == targets, each.max(axis=1)) for name, each in curves.items()},
                caption="Share of texts whose most likely topic is right, by its probability, in 15 bins.",
            )
        ],
        notes=[
            f"Saved: the temperature {fitted.temperature:.4g}, fitted on all {n:,} rows; above 1 makes a model less "
            "sure, below 1 surer, and topics stay the same. Scores after calibration are cross-fitted: each of "
            f"{FOLDS} folds is scored with a temperature fitted on the other four.",
            "ECE: expected calibration error of the most likely topic, 15 bins of equal width; ECE, Brier and accuracy "
            f"x100. By chance alone, probabilities that hold have an ECE of about {chance:.1f} on so many rows.",
            *told_of_gain(scores["before"], scores["after"]),
            *told_of_cut(report.cut, n),
        ],
    )
    return Calibrated({**fitted.to_dict(), **about(sets, seed, scores)}, evaluation)


def own_words(path: Path) -> dict[str, str]:
    """Return the label words of a data set by its labels, as `TopicClassifier` takes them.

    Raises:
        InputError: no words are known for the labels of this file.
    """
    labels = read_topic_data(path).labels
    if not labels.words:
        raise InputError(
            found=f"labels {shorten(list(labels.codes), 80)} without words",
            expected="a labels.json beside the file with a `word` for each label, or labels that are words",
            fix="Give the words: --labels 体育,财经.",
            where=str(path),
        )
    return dict(zip(labels.codes, labels.words, strict=True))


def _topic_rows(name: str, path: Path, classes: Sequence[Any]) -> TopicRows:
    """Read a file; targets are the places of the labels among a classifier's classes.

    Raises:
        InputError: as `read_topic_data`, or a label that is none of the classes.
    """
    read = read_topic_data(path, name=name)
    rows = read.folds[0].scored
    places = _class_places(read.labels, classes, set(rows.targets.tolist()))
    targets = np.array([places.get(place, -1) for place in rows.targets.tolist()], np.int64)
    if (targets < 0).any():
        row = int(np.argmax(targets < 0))
        place = int(rows.targets[row])
        raise InputError(
            found=f"label {shorten(read.labels.codes[place])} ({read.labels.titles[place]})",
            expected=f"one of the classifier's labels {shorten(list(classes), 80)}",
            fix="Take rows with these labels, or classify by the file's own label words (--labels data).",
            where=f"{rows.path}:{rows.lines[row]}",
        )
    return replace(rows, targets=targets)


def _class_places(labels: SetLabels, classes: Sequence[Any], seen: set[int]) -> dict[int, int]:
    """Return the class of each label by the way of writing labels in which most of those seen are classes."""
    known = {str(label): number for number, label in enumerate(classes)}
    ways = [
        {place: known[name] for place, name in enumerate(names) if name in known}
        for names in (labels.codes, labels.words, labels.titles, tuple(map(str, range(len(labels)))))
    ]
    return max(ways, key=lambda way: len(seen & way.keys()))
