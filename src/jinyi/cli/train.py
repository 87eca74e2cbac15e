"""`jinyi train`: one recipe, one run."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli.common import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from jinyi.train.run import RunResult
    from jinyi.train.run.plan import Plan


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, see docs/training.md.")
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe: optimizer.lr=1e-4. Repeatable."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data files that the recipe names.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--run", "--folder", help="Folder of the run; default: runs/NAME. Under torchrun write --folder."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Train nothing: say how many steps and tokens, how much memory and time."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model from a recipe: pretraining, sentence vectors, pairs, classes, topics, distillation.

    jinyi train RECIPE.yaml --set start.model=jinyi-tiny-embed --set "data.train=[mine.tsv]" --set "data.dev=[dev.tsv]"

    Several processes, on one machine or many: torchrun --nproc-per-node 4 -m jinyi.cli train RECIPE.yaml
    """
    with training_extra("jinyi train"), warnings_as_notes():
        from jinyi.train.build import build_task, share_here
        from jinyi.train.recipe.reading import read
        from jinyi.train.run import train as run
        from jinyi.train.run.plan import measure

        plan = read(recipe, sets=sets or (), data=data)
        main = share_here().rank == 0
        place = folder or Path("runs") / plan.name
        if check:
            found = measure(plan, build_task(plan), folder=place)
            if main and as_json:
                print_json(dataclasses.asdict(found))
            elif main:
                show_plan(found)
            return
        result = run(plan, build_task(plan), folder=place, resume=resume, progress=False if as_json else None)
        if main and as_json:
            print_json(
                {**dataclasses.asdict(result), "folder": str(result.folder), "model": _text(result.model)}
            )
        elif main:
            show_result(result)
        if result.why == "interrupted":
            raise typer.Exit(130)


def show_plan(plan: Plan) -> None:
    """Print what a run will take as a table."""
    times = f"{plan.evaluations:,} times {readable_time(plan.evaluation_seconds)}"
    rows = [
        ["task", f"{plan.task}, {plan.rows:,} rows, {plan.epoch_steps:,} steps an epoch"],
        ["machine", f"{plan.device}, {plan.precision}, processes: {plan.processes}"],
        ["steps", f"{plan.steps:,} of about {plan.step_tokens:,.0f} tokens"],
        ["tokens", f"{plan.tokens:,}"],
        [
            "weights",
            f"{plan.parameters:,} trained; with gradients and moments {readable_size(plan.state_bytes)}",
        ],
        ["memory", f"{readable_size(plan.peak_bytes)} at the highest, of {readable_size(plan.memory_bytes)}"],
        ["speed", f"{plan.tokens_per_second:,.0f} tokens/s, {plan.step_seconds:.3g} s a step"],
        ["dev files", f"scored {times}" if plan.evaluations else "none"],
        ["model", readable_size(plan.model_bytes)],
        ["time", f"about {readable_time(plan.seconds)}, from {plan.measured_steps} measured steps"],
    ]
    print_table(["", plan.name], rows)


def show_result(result: RunResult) -> None:
    """Print how a run ended."""
    if result.why == "interrupted":
        print_note(
            f"stopped after step {result.steps:,} of {result.total:,}; the same command with --resume goes on there"
        )
        return
    best = "" if result.best is None else f"{result.best:.4f} at step {result.best_step:,}"
    rows = [
        ["ended", f"{result.why}, step {result.steps:,} of {result.total:,}"],
        ["loss", "" if result.loss is None else f"{result.loss:.4f}"],
        ["dev", ", ".join(f"{name} {score:.4f}" for name, score in result.scores.items())],
        ["best", best],
        ["tokens", f"{result.tokens:,} in {readable_time(result.seconds)}"],
        ["model", _text(result.model) or ""],
    ]
    print_table(["", str(result.folder)], [row for row in rows if row[1]])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def readable_size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def readable_time(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes / 60 / 24:.1f} days"


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Warnings as lines for people, each once, from the first process alone."""
    told = set()
    main = os.environ.get("RANK", "0") == "0"

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if main and str(message) not in told:
            told.add(str(message))
            print_note(f"note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


@contextmanager
def training_extra(where: str) -> Iterator[None]:
    """A package of the extra `train` that is missing is told as such; `where` is the command."""
    try:
        yield
    except ModuleNotFoundError as error:
        from jinyi.errors import MissingExtraError

        if error.name is None or error.name.partition(".")[0] not in (
            "torch",
            "accelerate",
            "yaml",
            "psutil",
        ):
            raise
        raise MissingExtraError(
            found=f"no package {error.name}",
            expected="the packages for training",
            fix='Run: pip install "jinyi[train]"',
            where=where,
        ) from error
