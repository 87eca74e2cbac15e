"""Semantic textual similarity: does the cosine of two vectors rank pairs as people do?

Spearman's and Pearson's correlation x100 of cosine and label, on every file, for each model, pooling and whitening.
Nothing is fitted on labels. Protocols have names, because published tables differ by them more than by models: the
Chinese whitening rows are fitted on the texts of the very set that is scored ("transductive").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi import metrics
from jinyi.errors import InputError, shorten
from jinyi.evals.baselines import BASELINES
from jinyi.evals.bootstrap import interval
from jinyi.evals.known_pairs import leave_out, marked
from jinyi.evals.labelled_pairs import LabelledPairs, read_labelled_pairs
from jinyi.evals.naming import POOLING_NAMES, model_names, sampled
from jinyi.evals.published_sts import published, quoted_rows, set_key
from jinyi.evals.result import Evaluation, Figure, Row
from jinyi.evals.vectors import (
    NONE,
    TRANSDUCTIVE,
    PooledVectors,
    WhiteningTexts,
    open_encoder,
    own_pooling,
)

METRICS = {"Spearman": metrics.spearman, "Pearson": metrics.pearson}
FIVE_SETS = "mean of the five"
_GRADES = 8  # more groups of a figure could not be told apart


def evaluate_sts(
    models: Sequence[str | None],
    data: Mapping[str, Path],
    *,
    pooling: Sequence[str] | None = None,
    whitening: Sequence[str] = (NONE,),
    k: Sequence[int | None] = (None,),
    baselines: bool = True,
    intervals: bool = True,
    seed: int = 0,
    quoted: bool = True,
    without: Sequence[Path] = (),
    precision: str = "auto",
    threads: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score models on files of labelled pairs.

    Args:
        models: names or folders; None is the shipped model for vectors.
        data: name of each set, and its file: pairs with a label or score, 0 and 1 or graded.
        pooling: "own" (what the folder states), "cls", "mean", "first_last", "max" or "pooler", of the same weights;
            None is own. A model is opened once for each.
        whitening: "none", "transductive" (fitted on the scored file's own texts, without labels), or a file of texts
            or pairs.
        k: dimensions that whitening keeps; None keeps all.
        baselines: also score shared characters (`jinyi.evals.baselines`).
        intervals: 95% bootstrap intervals over the pairs of each set.
        seed: of the bootstrap.
        quoted: put published rows of the same sets beside; they are scores on test splits.
        without: files of pairs, as a model's training files, whose pairs are left out of the scored ones.
        precision: "auto", "float32", "bfloat16" or "int8".
        threads: processor threads; None takes those available.
        progress: whether a bar may be shown on a terminal.

    Returns:
        rows by set, then system; histograms of the cosines by label; notes on what was cut or left out. Cost: each
        text once a model and pooling, a second a row for the intervals; memory for the vectors of one set, and of the
        whitening file.

    Raises:
        InputError: a file without labels or with labels that are all equal, or none left by `without`; an unknown
            pooling, `k` too large.
        ModelNotFoundError, FolderError: a model that cannot be opened, or that states no pooling.
    """
    names = model_names(models, "embed")
    _check(pooling, whitening, k, data)
    read = [read_labelled_pairs(name, Path(path), graded=True) for name, path in data.items()]
    sets, lost, left_out = leave_out(read, without)
    kinds = list(dict.fromkeys(whitening))
    paths = [Path(kind) for kind in kinds if kind not in (NONE, TRANSDUCTIVE)]
    fitted = [
        kind if kind in (NONE, TRANSDUCTIVE) else WhiteningTexts.read(Path(kind), paths) for kind in kinds
    ]
    result = Evaluation(
        title="Sentence vectors: correlation of cosine and label",
        kind="sts",
        layout="sets across" if len(sets) > 1 else "one per row",
        across=tuple(METRICS),
        averages=_averages([each.name for each in sets]),
    )
    boot = seed if intervals else None
    parts: list[list[Row]] = []
    for model, name in zip(models, names, strict=True):
        drawn: set[str] = set()
        for kind in _poolings(model, pooling):
            encoder = open_encoder(model, kind, precision, threads)
            pooled = PooledVectors(encoder, kind, fitted, k, progress=progress)
            for each in sets:
                rows = []
                for found in pooled.cosines(each):
                    settings = {"model": model or name, **found.settings}
                    rows.append(_row(each, name, found.protocol, found.values, boot, settings))
                    if each.name not in drawn:
                        drawn.add(each.name)
                        result.figures.append(_histogram(each, name, found.protocol, found.values))
                parts.append(rows)
            result.notes += pooled.notes
    if baselines:
        parts += [list(_baseline_rows(each, boot)) for each in sets]
    result.rows = _by_set(parts, data)
    if quoted:
        result.rows += quoted_rows(data)
    result.notes += left_out + _notes(result, whitening, baselines)
    result.rows = [marked(row, lost) for row in result.rows]
    return result


def _row(
    data: LabelledPairs,
    system: str,
    protocol: str,
    cosines: npt.NDArray[Any],
    boot: int | None,
    settings: Mapping[str, Any],
) -> Row:
    return Row(
        data=data.name,
        system=system,
        protocol=protocol,
        scores={name: 100 * metric(data.labels, cosines) for name, metric in METRICS.items()},
        n=len(data),
        intervals={}
        if boot is None
        else {
            name: interval(metric, data.labels, cosines, seed=boot, scale=100)
            for name, metric in METRICS.items()
        },
        settings=settings,
        data_sha256=data.sha256,
        seed=boot,
    )


def _baseline_rows(data: LabelledPairs, boot: int | None) -> Iterator[Row]:
    for system, protocol, function in BASELINES:
        yield _row(data, system, protocol, function(data.a, data.b), boot, {"baseline": True})


def _by_set(parts: Sequence[Sequence[Row]], data: Mapping[str, Path]) -> list[Row]:
    """Rows set by set, each set's in the order in which they were computed."""
    return [row for name in data for rows in parts for row in rows if row.data == name]


def _poolings(model: str | None, wanted: Sequence[str] | None) -> list[str]:
    """Poolings by name, the model's own first, each once."""
    stated = own_pooling(model)
    given = wanted or ["own"]
    own = [] if "own" not in given else [stated or "own"]  # without one, opening the model says what to do
    return list(dict.fromkeys([*own, *(kind for kind in given if kind != "own")]))


def _averages(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The mean of all sets, and of the five that published tables have, where there are others too."""
    found = {set_key(name): name for name in names}
    five = tuple(found[key] for key in published()["sets"] if key in found)
    averages = {"mean": tuple(names)} if len(names) > 1 else {}
    if len(five) == len(published()["sets"]) < len(names):
        averages[FIVE_SETS] = five
    return averages


def _histogram(data: LabelledPairs, system: str, protocol: str, cosines: npt.NDArray[Any]) -> Figure:
    groups, caption = _label_groups(data.labels)
    return Figure(
        kind="histogram",
        title=f"{data.name}: cosine by label, {system}, {protocol}",
        values={
            "groups": {name: sampled(cosines[rows]) for name, rows in groups.items()},
            "unit": "cosine",
            "lines": {},
        },
        caption=caption,
    )


def _label_groups(labels: npt.NDArray[np.float64]) -> tuple[dict[str, npt.NDArray[np.bool_]], str]:
    """Return which rows have about the same label, by its name, and a sentence if labels were put together."""
    whole = np.rint(labels)
    grades = np.unique(whole).tolist()
    if 1 < len(grades) <= _GRADES:
        words = {0.0: "not similar", 1.0: "similar"} if np.isin(labels, (0.0, 1.0)).all() else {}
        caption = "" if (whole == labels).all() else "Labels are rounded to whole grades."
        return {words.get(grade, f"{grade:.0f}"): whole == grade for grade in grades}, caption
    edges = np.linspace(labels.min(), labels.max(), 6)
    fifth = np.searchsorted(edges[1:-1], labels, side="right")
    parts = {f"{edges[part]:g} to {edges[part + 1]:g}": fifth == part for part in range(5)}
    return parts, "Labels in five ranges of equal width."


def _notes(result: Evaluation, whitening: Sequence[str], baselines: bool) -> list[str]:
    notes = ["Spearman's and Pearson's correlation x100 of cosine and label; nothing is fitted on labels."]
    if TRANSDUCTIVE in whitening:
        notes.append(
            "Transductive whitening is fitted on the texts of the scored file itself, without its labels, as published "
            "tables have it; texts that come one at a time have no such file."
        )
    if baselines:
        notes.append("TF-IDF and BM25 take their document frequencies from the scored file's texts.")
    if any(row.quoted for row in result.rows):
        notes.append(
            "Quoted rows are published scores on the sets' test splits: compare them with computed ones only where "
            "those are of the same split."
        )
    return notes


def _check(
    pooling: Sequence[str] | None,
    whitening: Sequence[str],
    k: Sequence[int | None],
    data: Mapping[str, Path],
) -> None:
    known = ("own", *POOLING_NAMES)
    wrong = [kind for kind in pooling or () if kind not in known]
    if wrong:
        raise InputError(
            found=shorten(wrong[0]),
            expected=f"one of {', '.join(known)}",
            fix="Choose one of them, or several.",
            where="pooling",
        )
    for kind in whitening:
        if kind not in (NONE, TRANSDUCTIVE) and not Path(kind).is_file():
            raise InputError(
                found=f"{shorten(kind, 80)}, no file",
                expected=f"{NONE}, {TRANSDUCTIVE}, or a file of texts",
                fix="Correct the name or the path.",
                where="whitening",
            )
    if set(whitening) == {NONE} and any(each is not None for each in k):
        raise InputError(
            found="a number of dimensions to keep, and no whitening that keeps them",
            expected=f"whitening by {TRANSDUCTIVE} or a file of texts",
            fix="Give --whitening too, or leave --k out.",
            where="k",
        )
    for what, given in (("whitening", whitening), ("k", k), ("data", data)):
        if not given:
            raise InputError(
                found=f"no {what}",
                expected="at least one",
                fix="See `jinyi evaluate sts --help`.",
                where=what,
            )
