"""The table of `jinyi clue run`: our rows, the majority class, published rows; dev curves, confusions, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi import metrics
from jinyi.clue.jobs import Outcome, Scored
from jinyi.clue.predicting import Predicted
from jinyi.clue.published import quoted_rows
from jinyi.clue.tasks import ClueTask, Version
from jinyi.evals.bootstrap import interval
from jinyi.evals.result import Evaluation, Example, Figure, Row
from jinyi.label_words import label_words

MAJORITY: Final = "majority class"
_CLASSES: Final = 20
"""Most classes of a confusion that is drawn."""
_EXAMPLES: Final = 5
_DOUBTED: Final = (
    "RoBERTa-tiny-clue's IFLYTEK of 57.31 was not reached by others with the published learning rate: 45.44 with 2e-5 "
    "and 10 epochs (CLUEPretrainedModels, issue 16)."
)
Score = Callable[[npt.NDArray[np.int64], Predicted], float]


def make_evaluation(
    model: str, outcomes: Sequence[Outcome], *, version: Version, seeds: Sequence[int]
) -> Evaluation:
    """Return the table of a run with its figures.

    Args:
        model: name of the model begun from.
        outcomes: of all jobs, folds of a task one after the other.
        version: of the board.
        seeds: a run for each.
    """
    tasks = list({outcome.job.task.name: outcome.job.task for outcome in outcomes}.values())
    rows = []
    for split in ("dev", "test_public"):
        for task in tasks:
            own = [outcome for outcome in outcomes if outcome.job.task is task]
            pairs = [
                (outcome, scored) for outcome in own for scored in outcome.scored if scored.name == split
            ]
            if pairs:
                rows += [_row(model, task, split, pairs), _majority(task, split, pairs)]
    rows += quoted_rows(tasks)
    names = [metric for metric in _scores_of(tasks[0]) | _BINARY if any(metric in row.scores for row in rows)]
    titles = tuple(task.title for task in tasks)
    first = [outcome for outcome in outcomes if outcome.job.fold in (None, outcomes[0].job.fold)]
    figures = [_curves(first), *filter(None, map(_confusion, first))]
    return Evaluation(
        title=f"CLUE: {model}",
        kind="clue",
        rows=rows,
        layout="sets across",
        across=tuple(names),
        averages={"mean": titles} if len(titles) > 1 else {},
        figures=figures,
        examples=[example for outcome in first for example in _examples(outcome)],
        notes=_notes(outcomes, version, seeds),
    )


def _scores_of(task: ClueTask) -> dict[str, Score]:
    """What is measured on every task."""
    every = range(len(task.labels))
    return {
        "accuracy": lambda true, said: metrics.accuracy(true, said.classes),
        "macro-F1": lambda true, said: metrics.macro_f1(
            true, said.classes, classes=[k for k in every if (true == k).any() or (said.classes == k).any()]
        ),
    }


def _margin(said: Predicted) -> npt.NDArray[np.float32]:
    margin: npt.NDArray[np.float32] = said.logits[:, 1] - said.logits[:, 0]
    return margin


_BINARY: Final[dict[str, Score]] = {
    "F1": lambda true, said: metrics.f1(true, said.classes),
    "AUC": lambda true, said: metrics.roc_auc(true, _margin(said)),
}
"""What is measured of two classes besides; "1", "true" or "Positive", the second one, is the positive class."""


def _row(model: str, task: ClueTask, split: str, pairs: Sequence[tuple[Outcome, Scored]]) -> Row:
    """One task on one split: the mean over seeds and folds."""
    kinds = dict(_scores_of(task))
    if len(task.labels) == 2 and all(len(np.unique(scored.targets)) == 2 for _, scored in pairs):
        kinds |= _BINARY
    answers = [(scored, said) for _, scored in pairs for said in scored.predicted]
    values = {
        name: [100 * score(scored.targets, said) for scored, said in answers] for name, score in kinds.items()
    }
    several = len(answers) > 1
    first = pairs[0][1]
    same = len({scored.sha256 for _, scored in pairs}) == 1
    ends = {}
    if same:
        all_said = [said.classes for _, said in answers]
        ends = {
            "accuracy": interval(_mean_accuracy, first.targets, *all_said, scale=100.0),
        }
    settings: dict[str, Any] = {
        "task": task.name,
        "split": split,
        "jobs": [
            {
                "fold": outcome.job.fold,
                "settings": outcome.chosen[0].label,
                "tried": [{"settings": label, "dev": 100 * score} for label, score in outcome.tried],
                "runs": [
                    {
                        "folder": str(run.folder),
                        "seed": run.seed,
                        "dev": 100 * run.best,
                        "step": run.best_step,
                    }
                    for run in outcome.chosen
                ],
                "train_rows": outcome.train_rows,
            }
            for outcome, _ in pairs
        ],
    }
    scores = {name: float(np.mean(each)) for name, each in values.items()}
    return Row(
        data=task.title,
        system=model,
        protocol=split,
        scores=scores,
        n=len(first.targets) if same else None,
        intervals=ends,
        deviations={name: float(np.std(each, ddof=1)) for name, each in values.items()} if several else {},
        settings=settings,
        data_sha256=first.sha256 if same else None,
        seed=pairs[0][0].chosen[0].seed,
    )


def _majority(task: ClueTask, split: str, pairs: Sequence[tuple[Outcome, Scored]]) -> Row:
    """The commonest label of the training rows as the answer to every row, mean over folds."""
    first = pairs[0][1]
    same = len({scored.sha256 for _, scored in pairs}) == 1
    return Row(
        data=task.title,
        system=MAJORITY,
        protocol=split,
        scores={"accuracy": 100 * float(np.mean([scored.majority for _, scored in pairs]))},
        n=len(first.targets) if same else None,
        settings={"task": task.name, "split": split},
        data_sha256=first.sha256 if same else None,
    )


def _mean_accuracy(true: npt.NDArray[np.int64], *said: npt.NDArray[np.int64]) -> float:
    return float(np.mean([(true == each).mean() for each in said]))


def names_of(task: ClueTask) -> tuple[str, ...]:
    """Return the labels of a task as people read them."""
    for known in ("tnews", "iflytek"):
        if task.name in (known, f"{known}f"):
            words = label_words(known).words
            return tuple(words[label] for label in task.labels)
    return task.labels


def _curves(outcomes: Sequence[Outcome]) -> Figure:
    lines = {}
    for outcome in outcomes:
        run = outcome.chosen[0]
        steps, scores = zip(*run.curve, strict=True)
        lines[outcome.job.title] = {
            "x": [step / run.steps for step in steps],
            "y": [100 * score for score in scores],
        }
    return Figure(
        kind="curve",
        title="Dev score while training",
        values={"lines": lines, "x": "share of the run", "y": "dev score x100"},
        caption="The chosen run of each task, by its own metric; the best point is the checkpoint that was kept.",
    )


def _confusion(outcome: Outcome) -> Figure | None:
    task, scored = outcome.job.task, outcome.scored[0]
    if len(task.labels) > _CLASSES:
        return None
    counts = np.zeros((len(task.labels),) * 2, np.int64)
    np.add.at(counts, (scored.targets, scored.predicted[0].classes), 1)
    return Figure(
        kind="confusion",
        title=f"{outcome.job.title}: dev labels and answers",
        values={"labels": list(names_of(task)), "counts": counts.tolist()},
        caption="Rows: label, columns: answer.",
    )


def _examples(outcome: Outcome) -> list[Example]:
    """Dev rows that the model got wrong, the most confident first."""
    scored, names = outcome.scored[0], names_of(outcome.job.task)
    said = scored.predicted[0]
    classes, sure = said.classes, said.probabilities.max(1)
    wrong = np.flatnonzero(classes != scored.targets)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:_EXAMPLES]
    found = []
    for row in chosen.tolist():
        record = scored.records[row]
        texts = {"text": record.a} if record.b is None else {"a": record.a, "b": record.b}
        found.append(
            Example(
                data=outcome.job.title,
                texts=texts,
                expected=names[int(scored.targets[row])],
                found=names[int(classes[row])],
                score=float(sure[row]),
                place=f"{scored.source}:{record.line}",
            )
        )
    return found


def _notes(outcomes: Sequence[Outcome], version: Version, seeds: Sequence[int]) -> list[str]:
    notes = []
    if any(outcome.job.task.benchmark == "clue" for outcome in outcomes):
        notes.append(f"Test predictions are for the CLUE {version} board.")
    notes.append(
        "Checkpoint and settings were chosen on dev, so dev scores are the better side of chance; test is seen by the "
        f"chosen model once. Seeds: {', '.join(map(str, seeds))}."
    )
    for outcome in outcomes:
        tried = "; ".join(f"{label}: {100 * score:.2f}" for label, score in outcome.tried)
        notes.append(f"{outcome.job.title}: {outcome.train_rows:,} training rows; dev {tried}.")
    notes.append(
        "Published rows are of the split in their protocol column; test rows are not comparable with dev rows."
    )
    if any(outcome.job.task.name == "iflytek" for outcome in outcomes):
        notes.append(_DOUBTED)
    notes += dict.fromkeys(note for outcome in outcomes for note in outcome.notes)
    return notes
