"""Whether a run may go on: what in its recipe may have changed, and what must not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from jinyi.errors import InputError
from jinyi.train.recipe import Recipe, Schedule, reading
from jinyi.train.run.checkpoint import Checkpoint
from jinyi.train.run.schedule import first_difference

FREE = (
    "name",
    "output",
    "checkpoint",
    "data.folder",
    "evaluation.every",
    "evaluation.patience",
    "machine.threads",
    "machine.device",
    "machine.fsdp",
    "machine.checkpointing",
)
"""Keys that may change between the calls of one run: they do not say what is learned."""


def check_same(
    recipe: Recipe, saved: Checkpoint, total: int, data: Mapping[str, str], machine: Mapping[str, Any]
) -> None:
    """Check that a checkpoint belongs to a recipe.

    Keys in `FREE` may differ. Those under `schedule` may as long as every step made so far had the rate that the new
    schedule gives it: a constant rate may go on for longer, and so may "wsd" before its decay, if the warm-up is given
    in steps.

    Args:
        recipe: of the run now.
        saved: the checkpoint.
        total: steps of the run now.
        data: hashes of the data now.
        machine: from `machine.describe`, now.

    Raises:
        InputError: a key or a file changed; the message names all of them.

    Warns:
        UserWarning: another number of processes, threads or another device: the run goes on with the same batches, but
            sums are rounded in another order.
    """
    old, new = saved.state["recipe"], reading.flatten(recipe)
    absent = object()
    changed = [key for key in {**old, **new} if old.get(key, absent) != new.get(key, absent)]
    schedule = [key for key in changed if key.startswith("schedule.")]
    if schedule:
        before = Schedule(
            **{
                key.removeprefix("schedule."): value
                for key, value in old.items()
                if key.startswith("schedule.")
            }
        )
        step = first_difference(before, saved.state["total"], recipe.schedule, total, saved.step)
        if step is not None:
            raise _refused(
                saved,
                schedule,
                f"step {step + 1} would have had another learning rate",
                "A run can be made longer or shorter where the past stays as it was: schedule.shape constant, or wsd "
                "before its decay, with schedule.warmup in steps. Set the old values again, or begin a new run.",
            )
        if total < saved.step:
            raise _refused(
                saved,
                schedule,
                f"{saved.step} steps are done",
                "Ask for at least as many steps, or take last/.",
            )
    fixed = [key for key in changed if key not in schedule and not _free(key)]
    if fixed:
        shown = ", ".join(f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in fixed[:5])
        raise _refused(
            saved, fixed, shown, f"Set the old values again, or begin a new run. Free are: {', '.join(FREE)}."
        )
    files = [name for name, digest in saved.state["data"].items() if data.get(name) != digest]
    if files:
        raise InputError(
            where=str(saved.path),
            found=f"other content in {', '.join(files[:3])}",
            expected="the files the run was begun with",
            fix="Bring the old files back, or begin a new run.",
        )
    moved = [key for key, value in saved.state["machine"].items() if machine.get(key) != value]
    if moved:
        kinds = ", ".join(f"{key} {saved.state['machine'][key]} -> {machine.get(key)}" for key in moved)
        warnings.warn(f"resumed on another machine ({kinds}): equal but for rounding", stacklevel=3)


def _free(key: str) -> bool:
    return any(key == name or key.startswith(name + ".") for name in FREE)


def _refused(saved: Checkpoint, keys: list[str], found: str, fix: str) -> InputError:
    return InputError(
        where=str(saved.path),
        found=f"a changed recipe ({', '.join(keys[:8])}): {found}",
        expected="the recipe the run was begun with",
        fix=fix,
    )
