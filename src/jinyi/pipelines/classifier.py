"""Logits of a folder with a classifier, for texts and for pairs, as transformers computes them: in one order."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from jinyi.folder import Golden
from jinyi.models.common import (
    FloatArray,
    check_golden,
    check_truncate,
    compute_once,
    merge_windows,
    run_rows,
    warn_cut,
)
from jinyi.models.heads import softmax
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.pipelines.base import Reading
from jinyi.runtime import Head
from jinyi.tokens import TruncateMode, TruncationReport

Row = str | tuple[str, str]
SegmentIds = Literal["pair", "zeros"]


class Classifier:
    """A sequence classifier of any number of outputs.

    Args:
        source: a folder with a classifier.

    Raises:
        FolderError: weights are missing, or the folder's golden pairs come out differently.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.labels = source.folder.labels
        self.engine = source.engine(Head("classes"))
        check_golden(source, self.engine, self._golden_scores, "scores")

    def logits(self, rows: list[Row], reading: Reading, segment_ids: SegmentIds | None = None) -> FloatArray:
        """Return float32 [n, outputs], equal rows computed once.

        Args:
            rows: checked texts and pairs (a, b).
            reading: how long rows are read; windows are for single texts.
            segment_ids: "pair" or "zeros"; None does what the folder or the registry says, "pair" as a rule.

        Raises:
            InputError: a row too long with truncate="error", windows for pairs.
        """
        source, tokenizer, outputs = self.source, self.source.tokenizer, len(self.labels)
        check_truncate(reading.truncate, windows=not any(isinstance(row, tuple) for row in rows))
        limit = reading.limit(source)
        segments: Any = segment_ids or source.folder.segment_ids
        mode: TruncateMode = "window" if reading.truncate == "window" else "report"

        def compute(part: list[Row]) -> tuple[FloatArray, TruncationReport]:
            values = np.empty((len(part), outputs), np.float32)
            lost = np.zeros(len(part), np.int64)
            texts = [place for place, row in enumerate(part) if isinstance(row, str)]
            pairs = [place for place, row in enumerate(part) if isinstance(row, tuple)]
            encoded: Any
            for places in filter(None, (texts, pairs)):
                chosen: list[Any] = [part[place] for place in places]
                if places is texts:
                    encoded = tokenizer.encode(chosen, max_length=limit, truncate=mode)
                else:
                    encoded = tokenizer.encode_pairs(
                        chosen, max_length=limit, truncate="report", segment_ids=segments
                    )
                computed = run_rows(self.engine, encoded, tokenizer.pad_id, reading.batch_size)
                values[places] = merge_windows(computed, encoded, len(places))
                lost[np.asarray(places)[encoded.report.rows]] = encoded.report.lost
            cut = np.flatnonzero(lost)
            return values, TruncationReport(len(part), cut, lost[cut])

        logits, report = compute_once(
            rows,
            (outputs,),
            compute,
            truncate=reading.truncate,
            max_length=limit,
            label="rows",
            show_progress=reading.show_progress,
        )
        warn_cut(report, reading.truncate, limit, windows=mode == "window")
        return logits

    def _golden_scores(self, golden: Golden) -> FloatArray:
        pairs: list[Row] = [(str(pair[0]), str(pair[1])) for pair in golden.inputs]
        logits = self.logits(pairs, Reading(show_progress=False))
        return (
            sigmoid(logits[:, 0]) if logits.shape[1] == 1 else softmax(logits)[:, self.source.folder.similar]
        )
