"""What `jinyi clue run` has to do, and what came of it: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jinyi.clue.predicting import Predicted
from jinyi.clue.reading import Record
from jinyi.clue.tasks import ClueTask

if TYPE_CHECKING:
    from jinyi.clue.training import Trained


@dataclass(frozen=True, slots=True)
class Job:
    """A task, or one fold of a task of FewCLUE."""

    task: ClueTask
    fold: str | None = None

    @property
    def key(self) -> str:
        """Its folder below the output."""
        return self.task.name if self.fold is None else f"{self.task.name}/fold_{self.fold}"

    @property
    def title(self) -> str:
        """For people."""
        return self.task.title if self.fold is None else f"{self.task.title}, fold {self.fold}"

    @property
    def train(self) -> str:
        """The split to learn from."""
        return f"train{self._behind}"

    @property
    def dev(self) -> str:
        """The split to choose on."""
        return f"dev{self._behind}"

    @property
    def _behind(self) -> str:
        if self.fold is None:
            return ""
        return "_few_all" if self.fold == "all" else f"_{self.fold}"


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A labelled split with what the chosen runs say on it.

    Args:
        name: "dev" (whatever its fold) or "test_public".
        source: the file.
        sha256: of its content.
        targets: int64 [n], number of each row's label.
        records: the n rows.
        predicted: one for each chosen run.
        majority: share of the rows that have the commonest label of the training rows.
    """

    name: str
    source: str
    sha256: str
    targets: npt.NDArray[np.int64]
    records: tuple[Record, ...]
    predicted: tuple[Predicted, ...]
    majority: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a job.

    Args:
        job: which.
        chosen: the runs of the best settings, one for each seed, best dev score first.
        tried: settings in words with their mean dev score, in the order tried.
        scored: dev and, where there is one, test_public.
        train_rows: rows learned from.
        member: the file for the board; None without a test file.
        notes: for the report.
    """

    job: Job
    chosen: tuple[Trained, ...]
    tried: tuple[tuple[str, float], ...]
    scored: tuple[Scored, ...]
    train_rows: int
    member: Path | None
    notes: tuple[str, ...] = field(default=())
