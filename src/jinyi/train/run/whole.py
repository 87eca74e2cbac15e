"""A whole training run: its folder, evaluations, checkpoints, early stop and the models it leaves.

runs/NAME/ holds recipe.yaml, log.jsonl, curves.png, tensorboard/ (where installed), checkpoints/, best/ and last/.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from jinyi.errors import InputError, shorten
from jinyi.train.recipe import Recipe, reading
from jinyi.train.run import checkpoint, curves
from jinyi.train.run.journal import Journal
from jinyi.train.run.lock import BEST, CHECKPOINTS, LAST, locked
from jinyi.train.run.loop import State, StepReport, evaluate, start, steps
from jinyi.train.run.machine import describe, from_main, open_machine
from jinyi.train.run.outcome import data_hashes, write_model
from jinyi.train.run.progress import Signals, shown
from jinyi.train.run.resume import check_same
from jinyi.train.run.schedule import interval
from jinyi.train.task import Task

RECIPE = "recipe.yaml"
_DRAW_SECONDS = 30.0


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: of the run.
        steps: optimiser steps done.
        total: steps the schedule has.
        why: "finished", "early stop" or "interrupted" (go on with resume).
        loss: of the last step; None when this call made none.
        scores: dev scores of the last evaluation.
        best: best value of the metric; None without dev files.
        best_step: the step it was reached at.
        tokens: real tokens seen, over all calls.
        seconds: time over all calls.
        model: folder to use: `best`, or `last` without dev files; None after an interruption without either.
        asked: whether a signal asked to stop, even if it came when the run had ended: for those who make several.
    """

    folder: Path
    steps: int
    total: int
    why: str
    loss: float | None
    scores: dict[str, float]
    best: float | None
    best_step: int | None
    tokens: int
    seconds: float
    model: Path | None
    asked: bool = False


@dataclass
class _Progress:
    """What a run has come to; kept in checkpoints beside the loop's state."""

    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    tokens: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)


def train(
    recipe: Recipe,
    task: Task,
    *,
    folder: str | os.PathLike[str],
    resume: bool = False,
    progress: bool | None = True,
) -> RunResult:
    """Train as a recipe says.

    Dev files are scored before the first step, every `evaluation.every` steps and at the end; the best weights by the
    metric are the model folder `best`, the last ones `last`. Ctrl-C or SIGTERM save a checkpoint after the running step
    and end the run; a second one ends it at once.

    Args:
        recipe: the run.
        task: batches, loss and dev scores; made for this process's share.
        folder: of the run. With several machines it has to be on a disk that all of them see.
        resume: go on from the newest whole checkpoint in `folder`, or begin where there is none. With the same number
            of processes and threads, losses and weights are bit for bit those of a run that was not interrupted.
        progress: show a line with step, loss, tokens/s and time left; None does so on a terminal only.

    Returns:
        How it ended.

    Raises:
        InputError: the recipe or the data are not those of the run to resume; a loss is not finite; the metric is not
            among the dev scores.
        FolderError: the folder holds a run (without `resume`), is used by another one, or the disk refuses a write; all
            checkpoints are damaged.
    """
    root = Path(os.path.expanduser(folder)).resolve()
    with (
        open_machine(recipe.machine) as accelerator,
        locked(root, accelerator, resume),
        Signals() as signals,
    ):
        run = _Run(recipe, task, root, accelerator, resume)
        try:
            with shown(recipe.name, run.state, progress if run.main else False) as show:
                why = run.go(signals, show)
            return run.result(why, asked=signals.asked)
        finally:
            if run.journal is not None:
                run.journal.close()


class _Run:
    def __init__(
        self, recipe: Recipe, task: Task, root: Path, accelerator: Accelerator, resume: bool
    ) -> None:
        self.recipe, self.task, self.root, self.accelerator = recipe, task, root, accelerator
        self.main = bool(accelerator.is_main_process)
        self.metric = recipe.evaluation.metric or task.metric
        self.came = _Progress()
        self.loss: float | None = None
        self.data = from_main(data_hashes(recipe) if self.main else None, accelerator)
        self.state: State = start(task, recipe, accelerator)
        self.saved = -1
        self.drawn = time.monotonic()
        if resume:
            self._restore()
        self.journal: Journal | None = None
        if self.main:
            for leftover in root.glob(".*.tmp"):  # of a killed writer
                shutil.rmtree(leftover, ignore_errors=True)
            checkpoint.tidy(root / CHECKPOINTS, self.state.step)
            (root / RECIPE).write_text(reading.dump(recipe), encoding="utf-8")
            self.journal = Journal(root, self.saved)
        accelerator.wait_for_everyone()

    def go(self, signals: Signals, show: Any) -> str:
        """Train to the end, an early stop or a signal; says which."""
        recipe, state = self.recipe, self.state
        score_every = interval(recipe.evaluation.every, state.total)
        save_every = interval(recipe.checkpoint.every, state.total)
        saved_at = time.monotonic()
        if state.step == 0:
            self._evaluate()
        why = "early stop" if self._patience_over() else "finished"
        loop = iter(()) if why == "early stop" else steps(self.task, recipe, self.accelerator, state)
        for report in loop:
            self._note(report)
            show(report, self.came.scores.get(self.metric))
            if state.step % score_every == 0 or state.step == state.total:
                self._evaluate()
                if self._patience_over():
                    why = "early stop"
                    break
            if report.stop:
                why = "interrupted" if state.step < state.total else "finished"
                break
            if state.step % save_every == 0 or report.save:
                self._save()
                saved_at = time.monotonic()
            state.save = self.main and time.monotonic() - saved_at > 60 * recipe.checkpoint.minutes
            state.stop = signals.asked
        self._save()
        if why != "interrupted":
            self._write(LAST, self.came.scores)
            if self.came.scores and self.came.best is None:
                warnings.warn(
                    f"no dev score ({self.metric}) was a number, so there is no {BEST}/: a model that gives all rows "
                    f"one score has no rank correlation. The last weights are in {LAST}/.",
                    stacklevel=3,
                )
        self._draw()
        return why

    def result(self, why: str, *, asked: bool) -> RunResult:
        """The run in one object."""
        came = self.came
        models = [self.root / name for name in (BEST, LAST)]
        return RunResult(
            folder=self.root,
            steps=self.state.step,
            total=self.state.total,
            why=why,
            loss=self.loss,
            scores=dict(came.scores),
            best=came.best,
            best_step=came.best_step,
            tokens=came.tokens,
            seconds=came.seconds,
            model=next((model for model in models if model.is_dir()), None),
            asked=asked,
        )

    def _restore(self) -> None:
        # Every process reads for itself; which checkpoint it is, the main process says.
        found = checkpoint.newest(self.root / CHECKPOINTS) if self.main else None
        path = from_main(found.path if found else None, self.accelerator)
        if path is None:
            return
        found = found or checkpoint.read(path)
        check_same(self.recipe, found, self.state.total, self.data, describe(self.accelerator))
        checkpoint.restore(self.task.network, self.state.optimizer, found)
        self.state.step = self.saved = found.step
        self.came = _Progress(**found.state["progress"])
        self.came.scores = {k: math.nan if v is None else v for k, v in self.came.scores.items()}

    def _note(self, report: StepReport) -> None:
        self.loss = report.loss
        self.came.tokens += report.tokens
        self.came.seconds += report.seconds
        if self.journal is not None:
            self.journal.step(report)

    def _evaluate(self) -> None:
        """Score the dev files; keep the weights if they are the best so far."""
        begin = time.perf_counter()
        try:
            own = evaluate(self.state)
        except InputError as error:
            raise InputError(
                where=f"dev files after step {self.state.step}",
                found=f"{error.found} ({error.where})" if error.where else error.found,
                expected=error.expected,
                fix=f"{error.fix} After training: lower optimizer.lr or lengthen the warm-up; --resume begins at the "
                "last checkpoint.",
            ) from error
        scores = from_main(own, self.accelerator)
        if not scores:
            return
        if self.metric not in scores:
            raise InputError(
                where="evaluation.metric",
                found=shorten(self.metric),
                expected=f"one of the dev scores: {', '.join(scores)}",
                fix="Name one of them, or leave it out.",
            )
        came, step = self.came, self.state.step
        came.scores = scores
        if self.journal is not None:
            self.journal.scores(step, scores)
        score = scores[self.metric]
        if step == 0:
            return  # where training begins: shown, never chosen
        if math.isfinite(score) and (came.best is None or score > came.best):
            came.best, came.best_step, came.waited = score, step, 0
            self._write(BEST, scores)
        else:
            came.waited += 1
        came.seconds += time.perf_counter() - begin
        if time.monotonic() - self.drawn > _DRAW_SECONDS:
            self._draw()

    def _patience_over(self) -> bool:
        patience = self.recipe.evaluation.patience
        return patience is not None and self.came.waited >= patience

    def _save(self) -> None:
        if self.state.step == self.saved:
            return
        network, moments = checkpoint.collect(self.task.network, self.state.optimizer)
        if self.journal is not None:
            self.journal.sync()
            kept = {
                "total": self.state.total,
                "recipe": reading.flatten(self.recipe),
                "fingerprint": reading.fingerprint(self.recipe),
                "progress": vars(self.came) | {"scores": _finite(self.came.scores)},
                "machine": describe(self.accelerator),
                "data": self.data,
            }
            folder = self.root / CHECKPOINTS
            checkpoint.save(folder, self.state.step, network, moments, kept, keep=self.recipe.checkpoint.keep)
        self.saved = self.state.step
        self.accelerator.wait_for_everyone()

    def _write(self, name: str, scores: dict[str, float]) -> None:
        weights = self.task.network.weights()  # with FSDP all processes give their shares
        if self.main:
            record = {
                "machine": describe(self.accelerator),
                "data": self.data,
                "rows": self.task.rows,
                "tokens": self.came.tokens,
                "seconds": round(self.came.seconds, 1),
            }
            step = self.state.step
            write_model(
                self.root / name, self.task, self.recipe, weights, step=step, scores=scores, record=record
            )
        self.accelerator.wait_for_everyone()

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        if self.main:
            curves.draw(self.root, self.recipe.name, self.metric)


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """Scores as JSON can hold them."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}
