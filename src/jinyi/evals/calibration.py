"""Calibrating a pair model on labelled rows: what goes into its folder, and what it is worth on rows held out.

    calibrated = calibrate_pairs(jinyi.PairScorer.load("my-model"), {"dev": Path("dev.jsonl")})
    update_record("my-model", calibration=calibrated.record)

The calibration in the folder is fitted on all rows. What is said about it is cross-fitted: the rows are dealt into five
folds, and each is scored by a calibration fitted on the other four. Topics: `jinyi.evals.topic_calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.evals.labelled_pairs import LabelledPairs, read_labelled_pairs
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
from jinyi.evals.thresholds import histogram_figure, measure_thresholds, precision_figure
from jinyi.evals.topic_data import TopicRows
from jinyi.models.calibration import PAIR_METHODS, PairCalibration, fit_isotonic, fit_platt
from jinyi.models.operating_points import OperatingPoints
from jinyi.models.pair_scorer import PairScorer, sigmoid

BEFORE: Final = "uncalibrated"
_FIT = {"isotonic": fit_isotonic, "platt": fit_platt}


@dataclass(frozen=True)
class Calibrated:
    """A calibration and its report.

    Args:
        record: the entry `calibration` of `jinyi.json`.
        evaluation: scores before and after, for pairs what thresholds give, the reliability plot.
    """

    record: dict[str, Any]
    evaluation: Evaluation


def calibrate_pairs(
    scorer: PairScorer,
    data: Mapping[str, Path],
    *,
    method: str | None = None,
    seed: int = 0,
    progress: bool | None = False,
) -> Calibrated:
    """Fit P(similar) of a pair model on labelled pairs, and measure thresholds on them.

    Args:
        scorer: the model; a calibration it has already is not used.
        data: files of labelled pairs by name, 1 for similar and 0 for not, taken together; rows that stand for later
            use and were not trained on.
        method: "isotonic", "platt", or None for the one with the lower cross-fitted log loss.
        seed: of the folds.
        progress: a bar while pairs are scored; None on a terminal.

    Raises:
        InputError: an unknown method, no labels or others than 0 and 1, fewer than 10 rows of a label, or a model
            whose scores do not rise with the labels.

    Cost: scoring the pairs in both orders; the fits take a second or two for a hundred thousand.
    """
    if method not in (None, *PAIR_METHODS):
        raise wrong_method(method, "a pair model", PAIR_METHODS)
    sets = [read_labelled_pairs(name, path, graded=False) for name, path in data.items()]
    labels = np.concatenate([each.labels for each in sets]).astype(np.int64)
    where = ", ".join(map(str, data.values()))
    check_enough({f"rows with label {label}": int((labels == label).sum()) for label in (1, 0)}, where)
    pairs = [pair for each in sets for pair in zip(each.a, each.b, strict=True)]
    logits, report = scorer.predict(pairs, raw_scores=True, show_progress=progress, return_report=True)
    own, folds = sigmoid(logits), stratified_folds(labels, seed=seed)
    after = {name: _held_out(name, logits, labels, folds) for name in PAIR_METHODS if method in (None, name)}
    scores = {name: probability_scores(labels, values) for name, values in after.items()}
    chosen = min(scores, key=lambda name: scores[name]["log loss"])
    fitted = _FIT[chosen](logits, labels)
    points = OperatingPoints.measure(labels, sigmoid(fitted.apply(logits)))
    before = probability_scores(labels, own)
    measured = {"before": before, **{f"after, {name}": each for name, each in scores.items()}}
    record = {
        **fitted.to_dict(),
        "output": scorer.similar,
        "thresholds": points.to_dict(),
        **about(sets, seed, measured),
    }
    n, system, common = len(labels), scorer.path.name, shared_columns(sets, data, seed)
    bare = system if scorer.calibration is None else f"{system} without its calibration"
    rows = [Row(**common, system=bare, scores=before, n=n, table="scores")]
    for name, each in scores.items():
        shown = f"+ {name}{' (chosen)' if name == chosen and len(scores) > 1 else ''}"
        rows.append(Row(**common, system=shown, scores=each, n=n, table="scores"))
    found, missed = measure_thresholds(points, own, labels, folds)
    common["data_sha256"] = None  # n counts accepted rows there, not those of the file
    rows += [Row(**common, system=aim, table="thresholds", **each) for aim, each in found.items()]
    curves = {BEFORE: own} | {f"{name}, cross-fitted": values for name, values in after.items()}
    figures = [
        reliability_figure(
            "Reliability",
            {name: (labels, values) for name, values in curves.items()},
            caption="Share of similar pairs among pairs of about the same P(similar), in 15 bins of equal width.",
        ),
        histogram_figure(labels, after[chosen], points),
        precision_figure(points),
    ]
    chance = error_of_chance(after[chosen], seed=seed)
    notes = [
        f"Saved: {chosen}, fitted on all {n:,} rows. Scores after calibration are cross-fitted: each of {FOLDS} folds "
        "is scored by a calibration fitted on the other four.",
        "ECE: expected calibration error, 15 bins of equal width over P(similar); accuracy: at P > 0.5; both and Brier "
        f"x100. By chance alone, probabilities that hold have an ECE of about {chance:.1f} on so many rows.",
        "precision 0.9: the lowest threshold with at least that precision; recall 0.9: the highest precision with at "
        "least that recall; n: rows at or above the threshold. They were chosen on all rows and so look a little "
        "better than they are; held out: chosen for the same aim on four folds, measured on the fifth.",
        *missed,
        *told_of_gain(before, scores[chosen]),
        *told_of_cut(report.cut, n),
    ]
    title = f"Calibration of {system}"
    return Calibrated(
        record, Evaluation(title=title, kind="calibration", rows=rows, figures=figures, notes=notes)
    )


def shared_columns(
    sets: Sequence[LabelledPairs | TopicRows], names: Mapping[str, Path], seed: int
) -> dict[str, Any]:
    """Return what all rows of a table have in common: set, hash, seed. The system says what was done to the model."""
    hashes = " ".join(each.sha256 for each in sets)
    return {"data": " + ".join(names), "protocol": "", "data_sha256": hashes, "seed": seed}


def about(
    sets: Sequence[LabelledPairs | TopicRows], seed: int, scores: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return where a calibration comes from and what it is worth, for `jinyi.json`."""
    return {
        "data": [{"file": each.path.name, "sha256": each.sha256, "rows": len(each)} for each in sets],
        "measured": {
            "folds": FOLDS,
            "seed": seed,
            **{name: {key: round(value, 6) for key, value in each.items()} for name, each in scores.items()},
        },
    }


def wrong_method(method: object, model: str, known: Sequence[str]) -> InputError:
    """Return the error of a method that a kind of model does not have."""
    return InputError(
        found=f"method {shorten(method)} for {model}",
        expected=" or ".join(known),
        fix="Leave it out.",
        where="method",
    )


def _held_out(
    method: str, logits: npt.NDArray[Any], labels: Indices, folds: Indices
) -> npt.NDArray[np.float32]:
    def fit(rows: Indices) -> Any:
        fitted: PairCalibration = _FIT[method](logits[rows], labels[rows])
        return lambda others: sigmoid(fitted.apply(logits[others]))

    return cross_fitted(folds, fit)
