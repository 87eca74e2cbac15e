"""Classes of records by a trained folder, without PyTorch: scores come from the runtime that serves the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jinyi.clue.reading import Record, Split
from jinyi.errors import FolderError
from jinyi.files import atomic_file
from jinyi.models.common import FloatArray, compute_once, run_rows
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.tokens import TruncationReport


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a model says on the records of a split.

    Args:
        logits: float32 [n, classes], columns in the order of the task's labels.
        cut: how many records were longer than the model reads.
    """

    logits: FloatArray
    cut: int

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The likeliest class of each record, int64 [n]."""
        classes: npt.NDArray[np.int64] = self.logits.argmax(1)
        return classes

    @property
    def probabilities(self) -> FloatArray:
        """Their softmax, float32 [n, classes]."""
        powers = np.exp(self.logits - self.logits.max(1, keepdims=True))
        probabilities: FloatArray = powers / powers.sum(1, keepdims=True)
        return probabilities


def predict(
    model: Path,
    split: Split,
    *,
    precision: str = "auto",
    threads: int | None = None,
    kept: Path | None = None,
    show_progress: bool | None = None,
) -> Predicted:
    """Classify the records of a split.

    Args:
        model: folder of a classifier with the task's labels.
        split: any split; labels are not looked at.
        precision: as for `PairScorer.load`.
        threads: as there.
        kept: folder in which logits are kept by the content of the split's file, so that a run started again reads
            them; it must be of this model alone. None keeps nothing.
        show_progress: as for `PairScorer.predict`.

    Raises:
        FolderError: the folder is damaged, or a classifier of other labels.
    """
    # The records are those of a version of the board: its two test files have two hashes.
    place = None if kept is None else kept / f"{split.name}-{split.sha256[:12]}-{precision}.npz"
    if place is not None and place.is_file():
        with np.load(place) as found:
            return Predicted(found["logits"], int(found["cut"]))
    source = Source.open(model, "", precision=precision, threads=threads)
    labels = split.task.labels
    if source.folder.labels != labels:
        raise FolderError(
            found=f"a classifier of {len(source.folder.labels)} labels",
            expected=f"one of the {len(labels)} labels of {split.task.title}, in their order",
            fix="Take a model that was trained for this task.",
            where=str(model),
        )
    predicted = _run(source, split.records, len(labels), show_progress)
    if place is not None:
        place.parent.mkdir(exist_ok=True)
        with atomic_file(place) as stream:
            np.savez(stream, logits=predicted.logits, cut=np.int64(predicted.cut))
    return predicted


def _run(source: Source, records: Sequence[Record], classes: int, show_progress: bool | None) -> Predicted:
    engine, tokenizer = source.engine(Head("classes")), source.tokenizer
    most = source.folder.max_length

    def compute(part: list[tuple[str, str | None]]) -> tuple[FloatArray, TruncationReport]:
        pairs = [(a, b) for a, b in part if b is not None]
        if pairs:
            habit = source.folder.segment_ids
            encoded = tokenizer.encode_pairs(pairs, max_length=most, truncate="report", segment_ids=habit)
        else:
            encoded = tokenizer.encode([a for a, _ in part], max_length=most, truncate="report")
        return run_rows(engine, encoded, tokenizer.pad_id), encoded.report

    logits, report = compute_once(
        [(record.a, record.b) for record in records],
        (classes,),
        compute,
        truncate="warn",
        max_length=most,
        label="rows",
        show_progress=show_progress,
    )
    return Predicted(logits, report.cut)
