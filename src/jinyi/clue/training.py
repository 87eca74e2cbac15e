"""One training run of `jinyi clue run`: from CLUE's rows to a model folder; done once, gone on with after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinyi.clue.reading import Split
from jinyi.errors import InputError
from jinyi.files import atomic_file, write_rows
from jinyi.models.source import Source
from jinyi.train.build import build_task
from jinyi.train.recipe import Recipe, reading
from jinyi.train.run import train

RESULT: Final = "result.json"
_OUTPUT: Final = ("output.name", "output.summary", "output.licence", "output.card")
_FREE: Final = ("name", "start.model", "data.folder", *_OUTPUT, "checkpoint", "machine")
"""Keys of a recipe that do not say what is learned, or are told by content in place of a path."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run.

    Args:
        folder: of the run; `best` in it is the model.
        label: its settings in words.
        seed: of the run.
        best: dev score of the best checkpoint, by the task's metric, from 0 to 1.
        best_step: its step.
        steps: of the whole run.
        tokens: seen.
        seconds: taken.
        curve: (step, dev score) of every evaluation.
    """

    folder: Path
    label: str
    seed: int
    best: float
    best_step: int
    steps: int
    tokens: int
    seconds: float
    curve: tuple[tuple[int, float], ...]

    @property
    def model(self) -> Path:
        """The folder of the best checkpoint."""
        return self.folder / "best"


def write_split(folder: Path, name: str, split: Split) -> None:
    """Write the records of a labelled split as the training room reads them, `folder/NAME.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    if split.task.paired:
        rows = ({"texta": row.a, "textb": row.b, "label": row.label} for row in split.records)
        write_rows(folder / f"{name}.jsonl", rows, ("texta", "textb", "label"))
        return
    texts = ({"text": row.a, "label": row.label} for row in split.records)
    write_rows(folder / f"{name}.jsonl", texts, ("text", "label"))


def model_hash(model: str) -> str:
    """Return what tells models to begin from apart, wherever they lie."""
    return Source.open(model, "", as_task="encoder").fingerprint()


def run_folder(parent: Path, recipe: Recipe, *contents: str) -> Path:
    """Return the folder of a run: named by its learning rate, its seed and a hash of all that decides what is learned.

    Args:
        parent: of the folder.
        recipe: of the run.
        contents: hashes of the model and the data.
    """
    parts = json.dumps([reading.fingerprint(recipe, without=_FREE), *contents])
    digest = hashlib.sha256(parts.encode("utf-8")).hexdigest()
    return parent / f"lr{recipe.optimizer.lr:g}-seed{recipe.seed}-{digest[:8]}"


def train_once(recipe: Recipe, folder: Path, label: str, *, progress: bool | None = None) -> Trained:
    """Train as a recipe says, unless this run is done already; one that was killed goes on at its last checkpoint.

    Of a finished run `best`, the log and the curves stay; checkpoints and last weights are taken away.

    Raises:
        InputError: the data do not fit the recipe, or no dev score was a finite number.
        KeyboardInterrupt: the run was stopped; its state is saved.
    """
    done = folder / RESULT
    if not (done.is_file() and (folder / "best").is_dir()):
        result = train(recipe, build_task(recipe), folder=folder, resume=True, progress=progress)
        if result.why == "interrupted":
            raise KeyboardInterrupt
        if result.best is None or result.best_step is None:
            raise InputError(
                found="no finite dev score after the first step",
                expected="one",
                fix="Lower the learning rate, or look into log.jsonl.",
                where=str(folder),
            )
        record = {
            "best": result.best,
            "best_step": result.best_step,
            "steps": result.steps,
            "tokens": result.tokens,
            "seconds": round(result.seconds, 1),
            "curve": _curve(folder, str(recipe.evaluation.metric)),
        }
        with atomic_file(done) as stream:
            stream.write((json.dumps(record) + "\n").encode("utf-8"))
        if result.asked:  # it came too late to interrupt this run: it ends the whole
            raise KeyboardInterrupt
    found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    for leftover in ("checkpoints", "last"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    curve = tuple((int(step), float(score)) for step, score in found.pop("curve"))
    return Trained(folder, label, recipe.seed, curve=curve, **found)


def _curve(folder: Path, metric: str) -> list[tuple[int, float]]:
    from jinyi.train.run.journal import LOG, read_log

    scored = [(entry["step"], entry["dev"].get(metric)) for entry in read_log(folder / LOG) if "dev" in entry]
    return [(step, score) for step, score in scored if score is not None]
