"""`jinyi clue run`: every task trained, chosen on dev, predicted on test, packed, and put into a table.

    finished = run_clue("jinyi-tiny-embed", tasks_by_name("afqmc,tnews"), data="clue", output="out")
    finished.evaluation, finished.zips

OUTPUT/TASK/runs holds the training runs, OUTPUT/TASK/predictions the files for the board, OUTPUT/BENCHMARK.zip is the
submission. Started again, it goes on where it was: finished runs are not trained again, a killed one goes on at its
last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from jinyi.clue.jobs import Job, Outcome, Scored
from jinyi.clue.places import find_place
from jinyi.clue.predicting import Predicted, predict
from jinyi.clue.reading import Split, read_split, splits_there
from jinyi.clue.settings import SMALL, Grid, label_of, make_recipe, points
from jinyi.clue.submission import write_predictions, write_zip
from jinyi.clue.table import make_evaluation
from jinyi.clue.tasks import FOLDS, ClueTask, Version
from jinyi.clue.training import Trained, model_hash, run_folder, train_once, write_split
from jinyi.errors import InputError
from jinyi.evals.result import Evaluation
from jinyi.files.write import cannot_write
from jinyi.folder import read_folder
from jinyi.models.source import Source
from jinyi.registry import find_model
from jinyi.runtime import Head
from jinyi.train.recipe import Recipe

Say = Callable[[str], None]
SEED = 42
"""Of CLUE's baselines."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a whole run: its table, and the submissions by benchmark."""

    evaluation: Evaluation
    zips: dict[str, Path]


@dataclass(frozen=True, slots=True)
class _Plan:
    model: str
    digest: str
    data: str | os.PathLike[str]
    root: Path
    sets: Sequence[str]
    grid: Grid
    version: Version
    seeds: Sequence[int]
    several: bool
    precision: str
    threads: int | None
    progress: bool | None
    say: Say

    def predict(self, run: Trained, split: Split) -> Predicted:
        return predict(
            run.model,
            split,
            precision=self.precision,
            threads=self.threads,
            kept=run.folder / "predictions",
            show_progress=self.progress,
        )


def run_clue(
    model: str | os.PathLike[str],
    tasks: Sequence[ClueTask],
    *,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    sets: Sequence[str] = (),
    grid: Grid = "none",
    version: Version = "1.1",
    seeds: Sequence[int] = (SEED,),
    folds: Sequence[str] = ("0",),
    precision: str = "auto",
    threads: int | None = None,
    progress: bool | None = None,
    say: Say = lambda _: None,
) -> Finished:
    """Train and predict tasks.

    Of every task the settings with the best dev score (mean over the seeds) are chosen, and of their runs the one with
    the best dev score predicts test. Scores of the table come from the runtime that serves models, not from training.

    Args:
        model: folder or registered name of the encoder to begin from.
        tasks: see `tasks_by_name`.
        data: folder or zip with CLUE's files, as for `read_split`.
        output: folder for everything; what is there of the same runs is gone on with.
        sets: changes of the recipes, see `make_recipe`.
        grid: see `points`.
        version: of the board.
        seeds: a run for each.
        folds: of FewCLUE: one makes the single-fold submission, several the multi-fold one.
        precision, threads: of prediction; `sets` has machine.precision and machine.threads for training.
        progress: show training and prediction; None on a terminal only.
        say: told in a line what is going on.

    Raises:
        InputError: files are missing or damaged, a change that recipes do not have; where it can be seen, before
            anything is trained.
        FolderError, ModelNotFoundError: no such model; a disk that refuses.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    start = str(find_model(model).resolve())
    plan = _Plan(
        model=start,
        digest=model_hash(start),
        data=data,
        root=Path(output).expanduser().resolve(),
        sets=sets,
        grid=grid,
        version=version,
        seeds=seeds,
        several=len(folds) > 1,
        precision=precision,
        threads=threads,
        progress=progress,
        say=say,
    )
    _check_prediction(plan)
    jobs = _jobs(tasks, folds)
    for job in jobs:
        _check_files(plan, job)
        _recipes(plan, job)
    try:
        plan.root.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise cannot_write(plan.root, fault) from fault
    _advise(plan)
    outcomes = [_run(plan, job) for job in jobs]
    zips: dict[str, Path] = {}
    for benchmark in dict.fromkeys(task.benchmark for task in tasks):
        members = [
            outcome.member
            for outcome in outcomes
            if outcome.member is not None and outcome.job.task.benchmark == benchmark
        ]
        if members:
            zips[benchmark] = write_zip(plan.root / f"{benchmark}.zip", members)
    evaluation = make_evaluation(str(model), outcomes, version=version, seeds=seeds)
    if "fewclue" in zips and 1 < len(folds) < len(FOLDS):
        left = ", ".join(fold for fold in FOLDS if fold not in folds)
        evaluation.notes.append(
            f"FewCLUE's multi-fold form is all six folds: {left} not run, no board takes the zip."
        )
    return Finished(evaluation, zips)


def _check_prediction(plan: _Plan) -> None:
    """Try the options of prediction on the first model: they are needed only after hours of training."""
    if plan.precision == "int8":
        raise InputError(
            found='precision "int8"',
            expected="auto, float32 or bfloat16: models just trained have no measured ranges for 8 bits",
            fix="Leave it out; `jinyi quantize` takes a finished model.",
            where="--precision",
        )
    source = Source.open(plan.model, "", as_task="encoder", precision=plan.precision, threads=plan.threads)
    source.engine(Head("tokens"))


def _jobs(tasks: Sequence[ClueTask], folds: Sequence[str]) -> list[Job]:
    if not folds or len(set(folds)) < len(folds) or not set(folds) <= set(FOLDS):
        raise InputError(
            found=", ".join(folds) or "no fold",
            expected=f"some of {', '.join(FOLDS)}, each once",
            fix="0 for the single-fold submission, 0,1,2,3,4,all for the multi-fold one.",
            where="--folds",
        )
    idioms = [task.name for task in tasks if task.form == "idiom"]
    if idioms:
        raise InputError(
            found=f"{', '.join(idioms)}, whose answer is one of seven idioms of the row",
            expected="tasks of classes",
            fix="Leave it out.",
            where="--tasks",
        )
    few: tuple[str | None, ...] = tuple(folds)
    return [Job(task, fold) for task in tasks for fold in (few if task.benchmark == "fewclue" else (None,))]


def _check_files(plan: _Plan, job: Job) -> None:
    there = splits_there(job.task, plan.data)
    if not there:
        find_place(job.task, plan.data)  # says what was looked for
    missing = [name for name in (job.train, job.dev) if name not in there]
    if missing:
        raise InputError(
            found=f"files for {', '.join(there)}",
            expected=f"also {' and '.join(job.task.files(name)[0] for name in missing)}",
            fix="Fetch the whole task, or leave it out.",
            where=f"{plan.data}, task {job.task.name}",
        )


def _recipes(plan: _Plan, job: Job) -> list[list[Recipe]]:
    """For each point of the grid the recipes of all seeds; points that `sets` makes equal count once."""
    found: dict[str, list[Recipe]] = {}
    for settings in points(job.task, plan.grid):
        recipes = [
            make_recipe(
                job.task,
                settings,
                model=plan.model,
                data=plan.root / job.key / "data",
                seed=seed,
                name=job.key.replace("/", "-"),
                sets=plan.sets,
            )
            for seed in plan.seeds
        ]
        used = [recipe.seed for recipe in recipes]
        if not used or len(set(used)) < len(used):
            raise InputError(
                found=f"seeds {', '.join(map(str, used)) or '(none)'}",
                expected="one at least, each once",
                fix="Name them by --seeds alone.",
                where="--seeds",
            )
        found.setdefault(label_of(recipes[0]), recipes)
    return list(found.values())


def _advise(plan: _Plan) -> None:
    parameters = read_folder(plan.model, task="encoder").parameters
    chosen = plan.grid != "none" or any("optimizer.lr=" in change for change in plan.sets)
    if parameters < SMALL and not chosen:
        plan.say(
            f"{parameters / 1e6:.1f}M parameters: the published learning rates are those of larger models; "
            "--grid small tries larger rates and more epochs too"
        )


def _run(plan: _Plan, job: Job) -> Outcome:
    task = job.task
    there = splits_there(task, plan.data)
    train, dev = (read_split(task, plan.data, name) for name in (job.train, job.dev))
    runs = _train(plan, job, train, dev)
    means = [fmean(run.best for run in of_point) for of_point in runs]
    chosen = sorted(runs[int(np.argmax(means))], key=lambda run: -run.best)
    labels = [str(record.label) for record in train.records]
    common = max(task.labels, key=labels.count)
    public = [read_split(task, plan.data, "test_public")] if "test_public" in there else []
    notes = [*train.notes, *dev.notes]
    scored = []
    for split in (dev, *public):
        scored.append(_score(plan, split, chosen, common, "dev" if split is dev else split.name))
        notes += _cut(split, scored[-1].predicted[0])
    member = None
    if "test" in there:
        test = read_split(task, plan.data, "test", version=plan.version)
        found = plan.predict(chosen[0], test)
        folder = plan.root / job.key / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        said = [task.labels[number] for number in found.classes]
        fold = job.fold if plan.several else None
        member = write_predictions(folder, test, said, version=plan.version, fold=fold)
        notes += [*test.notes, *_cut(test, found)]
    else:
        notes.append(f"{task.title} has no test file in {plan.data}: it is not in the submission")
    return Outcome(
        job,
        tuple(chosen),
        tuple((of_point[0].label, mean) for of_point, mean in zip(runs, means, strict=True)),
        tuple(scored),
        len(train.records),
        member,
        tuple(notes),
    )


def _train(plan: _Plan, job: Job, train: Split, dev: Split) -> list[list[Trained]]:
    """The runs of a job, for each point of the grid one of every seed."""
    folder = plan.root / job.key
    write_split(folder / "data", "train", train)
    write_split(folder / "data", "dev", dev)
    recipes = _recipes(plan, job)
    runs: list[list[Trained]] = []
    for number, of_point in enumerate(recipes, 1):
        runs.append([])
        for recipe in of_point:
            label = label_of(recipe)
            place = run_folder(folder / "runs", recipe, plan.digest, train.sha256, dev.sha256)
            plan.say(f"{job.title}: {label}, seed {recipe.seed} ({number} of {len(recipes)} settings)")
            run = train_once(recipe, place, label, progress=plan.progress)
            plan.say(
                f"  dev {recipe.evaluation.metric} {run.best:.4f} at step {run.best_step} of {run.steps}"
            )
            runs[-1].append(run)
    return runs


def _score(plan: _Plan, split: Split, runs: Sequence[Trained], common: str, name: str) -> Scored:
    numbers = {label: number for number, label in enumerate(split.task.labels)}
    targets = np.array([numbers[str(record.label)] for record in split.records], np.int64)
    predicted = tuple(plan.predict(run, split) for run in runs)
    share = float((targets == numbers[common]).mean())
    return Scored(name, split.source, split.sha256, targets, split.records, predicted, share)


def _cut(split: Split, predicted: Predicted) -> list[str]:
    if not predicted.cut:
        return []
    return [f"{split.source}: {predicted.cut:,} of {len(split.records):,} rows cut to the model's length"]
