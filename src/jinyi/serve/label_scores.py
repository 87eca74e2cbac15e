"""The outputs of a sequence classifier under their labels, for texts and for pairs, as transformers computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jinyi.models.common import FloatArray, refuse_cut
from jinyi.models.heads import softmax
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Head
from jinyi.tokens import Encoded, TruncationReport

Row = str | tuple[str, str]


class LabelScores:
    """A sequence classifier of any number of outputs; pairs are read once, in the order given.

    Args:
        source: a folder with a classifier.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.labels = source.folder.labels
        self._engine = source.engine(Head("classes"))

    def prepare(self, rows: Sequence[Row], *, raw_scores: bool = False, truncate: str = "warn") -> Work:
        """Return the rows to compute.

        Args:
            rows: checked texts and pairs.
            raw_scores: give the outputs themselves. Otherwise probabilities: of one output, of outputs that do not
                exclude each other, or of all together, which then sum to 1.
            truncate: "warn" cuts, "error" refuses.

        Returns:
            work whose `finish` gives float32 [n, outputs].

        Raises:
            InputError: a row too long with truncate="error".
        """
        tokenizer, folder = self.source.tokenizer, self.source.folder
        texts = [place for place, row in enumerate(rows) if isinstance(row, str)]
        pairs = [place for place, row in enumerate(rows) if not isinstance(row, str)]
        encoded: list[tuple[list[int], Encoded]] = []
        if texts:
            single = [str(rows[place]) for place in texts]
            encoded.append((texts, tokenizer.encode(single, max_length=folder.max_length, truncate="report")))
        if pairs:
            both = [rows[place] for place in pairs]
            encoded.append(
                (
                    pairs,
                    tokenizer.encode_pairs(
                        both,
                        max_length=folder.max_length,
                        truncate="report",
                        segment_ids=folder.segment_ids,
                    ),
                )
            )
        lost = np.zeros(len(rows), np.int64)
        for places, part in encoded:
            lost[np.asarray(places)[part.report.rows]] = part.report.lost
        cut = np.flatnonzero(lost)
        report = TruncationReport(len(rows), cut, lost[cut])
        refuse_cut(report, truncate, folder.max_length)

        def finish(outputs: list[FloatArray]) -> FloatArray:
            logits = np.empty((len(rows), len(self.labels)), np.float32)
            for (places, _), values in zip(encoded, outputs, strict=True):
                logits[places] = values
            return logits if raw_scores else self._probabilities(logits)

        passes = tuple(Pass(self._engine, part, tokenizer.pad_id) for _, part in encoded)
        return Work(passes, finish, report)

    def _probabilities(self, logits: FloatArray) -> FloatArray:
        problem = self.source.folder.problem_type
        if problem == "regression":
            return logits
        alone = logits.shape[1] == 1 or problem == "multi_label_classification"
        return sigmoid(logits) if alone else softmax(logits)
