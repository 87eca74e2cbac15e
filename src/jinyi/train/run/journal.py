"""The log of a run: one JSON object a line in log.jsonl, and TensorBoard events where that package is installed.

A step is {"step", "loss", "lr", "norm", "tokens", "seconds"} and the task's own numbers, an evaluation
{"step", "dev": {name: score}}. A resumed run cuts the lines of steps that it makes again.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

from jinyi.errors import FolderError
from jinyi.train.run.loop import StepReport

LOG = "log.jsonl"


class Journal:
    """Writes the log of one run; only the main process has one.

    Args:
        folder: of the run.
        step: steps done already, lines of later ones are cut; -1 begins a new log.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / LOG
        kept = [line for line in read_log(self.file) if line["step"] <= step]
        fresh = self.file.with_suffix(".jsonl.tmp")
        try:
            with open(fresh, "w", encoding="utf-8") as stream:
                stream.writelines(_line(entry) for entry in kept)
            os.replace(fresh, self.file)
            self._stream = open(self.file, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise self._refused(error) from error
        self._events = _events(folder / "tensorboard", step)

    def step(self, report: StepReport) -> None:
        """Write one step."""
        entry = {
            "step": report.step,
            "loss": report.loss,
            "lr": report.lr,
            "norm": report.norm,
            "tokens": report.tokens,
            "seconds": round(report.seconds, 6),
            **report.numbers,
        }
        self._write(entry)
        for name in ("loss", "lr", "norm", *report.numbers):
            self._event(f"train/{name}", entry[name], report.step)
        self._event("train/tokens_per_second", report.tokens / max(report.seconds, 1e-9), report.step)

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Write one evaluation."""
        finite = {name: value if math.isfinite(value) else None for name, value in scores.items()}
        self._write({"step": step, "dev": finite})
        for name, value in scores.items():
            self._event(f"dev/{name}", value, step)

    def sync(self) -> None:
        """Put what was written on the disk; done before each checkpoint, which counts on the lines up to it."""
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        if self._events is not None:
            self._events.close()

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._stream.write(_line(entry))
            self._stream.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _event(self, name: str, value: float, step: int) -> None:
        if self._events is not None:
            self._events.add_scalar(name, value, step)

    def _refused(self, error: OSError) -> FolderError:
        return FolderError(
            where=str(self.file),
            found=f"a disk that refuses the write: {error}",
            expected="a place with room where files may be written",
            fix="Make room and go on with --resume; checkpoints are whole.",
        )


def read_log(file: Path) -> list[dict[str, Any]]:
    """Entries of a log, in their order; a last line cut by a crash is left out."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _events(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
