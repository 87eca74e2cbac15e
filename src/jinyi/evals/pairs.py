"""Pairs: are two texts similar or not?

Accuracy and F1 at P = 0.5, area under the ROC curve and average precision, which need no threshold, beside the share of
the larger class: on sets with 80% of one label an accuracy of 80 says nothing. A threshold is only ever chosen on
another file than the one that is scored.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.evals.baselines import majority_share
from jinyi.evals.known_pairs import leave_out, marked
from jinyi.evals.labelled_pairs import LabelledPairs, read_labelled_pairs
from jinyi.evals.naming import model_names, sampled
from jinyi.evals.pair_scores import CUT, TUNED, WORDS, choose_thresholds, score_pairs, wrong_answers
from jinyi.evals.pair_systems import CrossEncoder, Scored, System, baseline_systems, open_system
from jinyi.evals.reliability import reliability_figure
from jinyi.evals.result import Evaluation, Figure, Row

ACROSS = (
    *("AUC", "average precision", "accuracy", "F1", *TUNED),
    *("ECE", "asymmetry, mean", "asymmetry, largest"),
)


def evaluate_pairs(
    models: Sequence[str | None],
    data: Mapping[str, Path],
    *,
    choose: Mapping[str, Path] | None = None,
    baselines: bool = True,
    intervals: bool = True,
    seed: int = 0,
    examples: int = 10,
    without: Sequence[Path] = (),
    precision: str = "auto",
    threads: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score models on files of pairs labelled 0 and 1.

    Args:
        models: names or folders of pair models, or of models for vectors (their cosine is scored); None is the shipped
            pair model.
        data: name of each set, and its file.
        choose: by name of the set, another labelled file on which thresholds are chosen. Sets without one have no tuned
            scores.
        baselines: also score shared characters (`jinyi.evals.baselines`).
        intervals: 95% bootstrap intervals over the pairs of each set.
        seed: of the bootstrap.
        examples: wrong answers of the first pair model shown for each set.
        without: files of pairs, as a model's training files, whose pairs are left out of the scored ones.
        precision: "auto", "float32", "bfloat16" or "int8".
        threads: processor threads; None takes those available.
        progress: whether a bar may be shown on a terminal.

    Returns:
        rows by set, then system; histograms and reliability of P(similar); wrong answers. Cost: both orders of each
        pair once a model.

    Raises:
        InputError: a label that is neither 0 nor 1, labels that are all equal, none at all or none left by
            `without`; a file for choosing that is the scored one, or of a set that is not scored.
        ModelNotFoundError, FolderError: a model that cannot be opened, or one for another task.
    """
    names = model_names(models, "pair")
    read = [read_labelled_pairs(name, Path(path), graded=False) for name, path in data.items()]
    sets, lost, left_out = leave_out(read, without)
    if not sets:
        raise InputError(
            found="no data",
            expected="a labelled file",
            fix="See `jinyi evaluate pairs --help`.",
            where="data",
        )
    chosen = {each.name: each for each in _read_choose(choose or {}, sets)}
    shared = {each.name: _shared(each, chosen[each.name]) for each in sets if each.name in chosen}
    several = len(sets) > 1
    result = Evaluation(
        title="Pairs: similar or not",
        kind="pairs",
        layout="sets across" if several else "one per row",
        across=tuple(name for name in ACROSS if chosen or name not in TUNED),
        averages={"mean": tuple(data)} if several else {},
    )
    rows: dict[str, list[Row]] = {each.name: [] for each in sets}
    curves: dict[str, dict[str, tuple[npt.ArrayLike, npt.ArrayLike]]] = {each.name: {} for each in sets}
    shown = False
    for system in _systems(models, names, baselines, precision, threads, progress):
        first = isinstance(system, CrossEncoder) and not shown
        shown = shown or first
        for each in sets:
            found = system.score(each)
            thresholds = _thresholds(system, chosen.get(each.name))
            rows[each.name].append(_row(system, each, found, thresholds, chosen, seed if intervals else None))
            if found.cut:
                result.notes.append(
                    f"{each.name}: {found.cut:,} pairs cut to the length that {system.name} reads."
                )
            if isinstance(system, CrossEncoder) and each.sha256 in system.fitted_on:
                result.notes.append(
                    f"{each.name}: {system.name} was calibrated on these rows, so its ECE and its accuracy flatter it."
                )
            if system.probability:
                result.figures.append(_histogram(system, each, found, thresholds))
                curves[each.name][system.name] = (each.labels, found.scores)
            if first:
                result.examples += wrong_answers(each, found.scores, CUT, examples)
    result.rows = [marked(row, lost) for found in rows.values() for row in found]
    result.figures += [
        reliability_figure(
            f"{name}: reliability", found, caption="Observed share of similar pairs by P(similar)."
        )
        for name, found in curves.items()
        if found
    ]
    result.notes += [
        f"{name}: {count:,} scored pairs stand in the file for choosing too; tuned scores flatter by them."
        for name, count in shared.items()
        if count
    ]
    result.notes += left_out + _notes(result, chosen, baselines)
    return result


def _systems(
    models: Sequence[str | None],
    names: Sequence[str],
    baselines: bool,
    precision: str,
    threads: int | None,
    progress: bool,
) -> list[System]:
    opened = [
        open_system(model, name, precision=precision, threads=threads, progress=progress)
        for model, name in zip(models, names, strict=True)
    ]
    return [*opened, *(baseline_systems() if baselines else ())]


def _read_choose(choose: Mapping[str, Path], sets: Sequence[LabelledPairs]) -> list[LabelledPairs]:
    scored = {each.name: each for each in sets}
    found = []
    for name, path in choose.items():
        if name not in scored:
            close = difflib.get_close_matches(name, scored, n=1)
            raise InputError(
                found=f"a file for choosing a threshold for {name}, which is not scored",
                expected=f"one of {', '.join(scored)}",
                fix=f"Did you mean {close[0]}?"
                if close
                else "Give it the name of the set that it belongs to.",
                where=str(path),
            )
        read = read_labelled_pairs(name, Path(path), graded=False)
        pairs = Counter(_pairs(read))  # in another order, or packed, it is still the same file
        same = [each.name for each in sets if Counter(_pairs(each)) == pairs]
        if same:
            raise InputError(
                found=f"the scored file of {same[0]} for choosing the threshold for {name}",
                expected="another labelled file",
                fix="Choose on dev and score on test, or leave it out: AUC and average precision need no threshold.",
                where=str(path),
            )
        found.append(read)
    return found


def _pairs(data: LabelledPairs) -> list[frozenset[str]]:
    return [frozenset(pair) for pair in zip(data.a, data.b, strict=True)]


def _shared(scored: LabelledPairs, chosen: LabelledPairs) -> int:
    """Return how many scored pairs stand in the other file, in either order."""
    known = set(_pairs(chosen))
    return sum(pair in known for pair in _pairs(scored))


def _thresholds(system: System, rows: LabelledPairs | None) -> dict[str, float] | None:
    return None if rows is None else choose_thresholds(rows.labels, system.score(rows).scores)


def _row(
    system: System,
    data: LabelledPairs,
    found: Scored,
    thresholds: dict[str, float] | None,
    chosen: Mapping[str, LabelledPairs],
    boot: int | None,
) -> Row:
    scores, intervals = score_pairs(
        data.labels, found.scores, probability=system.probability, thresholds=thresholds, seed=boot
    )
    scores["majority"] = 100 * majority_share(data.labels)
    if found.asymmetry is not None:
        scores["asymmetry, mean"], scores["asymmetry, largest"] = (100 * value for value in found.asymmetry)
    settings = dict(system.settings)
    if thresholds is not None:
        settings |= {"thresholds": thresholds, "chosen_on_sha256": chosen[data.name].sha256}
    return Row(
        data=data.name,
        system=system.name,
        protocol=system.protocol,
        scores=scores,
        n=len(data),
        intervals=intervals,
        settings=settings,
        data_sha256=data.sha256,
        seed=boot,
    )


def _histogram(
    system: System, data: LabelledPairs, found: Scored, thresholds: dict[str, float] | None
) -> Figure:
    return Figure(
        kind="histogram",
        title=f"{data.name}: P(similar) by label, {system.name}",
        values={
            "groups": {word: sampled(found.scores[data.labels == label]) for label, word in enumerate(WORDS)},
            "unit": "P(similar)",
            "lines": {f"best {name}": value for name, value in (thresholds or {}).items()},
        },
        caption="Thresholds were chosen on another file." if thresholds else "",
    )


def _notes(result: Evaluation, chosen: Mapping[str, LabelledPairs], baselines: bool) -> list[str]:
    notes = [f"Accuracy and F1 take pairs with P(similar) above {CUT} for similar; all scores x100."]
    if chosen:
        notes.append(
            "Tuned scores use the threshold that is best for them on another file: "
            + ", ".join(f"{each.path} ({len(each):,} pairs) for {name}" for name, each in chosen.items())
            + "."
        )
    if any("asymmetry, mean" in row.scores for row in result.rows):
        notes.append("ECE is the mean distance of P(similar) and the observed share in 15 bins.")
        notes.append(
            "Asymmetry is |P(a, b) - P(b, a)| x100 when pairs are read in one order; the other scores average both."
        )
    if any(row.settings.get("pooling") for row in result.rows) or baselines:
        notes.append(
            "A cosine or an overlap is no probability: it has no accuracy without a chosen threshold."
        )
    if baselines:
        notes.append("TF-IDF and BM25 take their document frequencies from the texts of the file they score.")
    if len({row.system for row in result.rows if "ECE" in row.scores}) > 1 and result.examples:
        notes.append("The wrong answers shown are those of the first pair model.")
    return notes
