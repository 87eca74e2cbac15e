"""Vectors and token n-grams of a topic set's texts, each computed once for all that is fitted on them.

What `TopicClassifier` sees of a text, with two things it does not offer: a prompt in front of the texts, as TCBert's
comparison of vectors has it, and the same vectors for every fold, whitening and decider.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jinyi.batches import deduplicate
from jinyi.evals.topic_data import TopicData, TopicRows
from jinyi.models.common import FloatArray, compute_once, normalise_rows, run_rows
from jinyi.models.ngrams import SparseRows, find_ngrams, stack
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.tokens import TruncationReport


class TextVectors:
    """Vectors of one model, kept by file and prompt.

    Args:
        source: any model; one that states no pooling gives the mean over all tokens of the last layer, as TCBert does.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        folder = source.folder
        self.pooling = folder.pooling or "mean"
        self._engine = source.engine(Head("vector", pooling=self.pooling, dense=folder.dense))
        self._vectors: dict[tuple[Path, str | None], FloatArray] = {}
        self._ngrams: dict[Path, SparseRows] = {}
        self.cut: dict[tuple[Path, str | None], int] = {}
        """Texts that were cut, by file and prompt."""

    def vectors(self, rows: TopicRows, prompt: str | None = None, masks: int = 2) -> FloatArray:
        """Return vectors of length 1, float32 [n, d].

        Args:
            rows: the texts.
            prompt: None, or what stands before each text, with {} for [MASK]s.
            masks: [MASK]s in the prompt.
        """
        key = (rows.path, prompt)
        if key not in self._vectors:
            self._compute(rows, prompt, masks)
        return self._vectors[key]

    def ngrams(self, rows: TopicRows) -> SparseRows:
        """Return tokens and pairs of neighbouring tokens of the texts without a prompt."""
        if rows.path not in self._ngrams:
            self._compute(rows, None, 0)
        return self._ngrams[rows.path]

    def _compute(self, rows: TopicRows, prompt: str | None, masks: int) -> None:
        tokenizer, most = self.source.tokenizer, self.source.folder.max_length
        grams: list[SparseRows] = []

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            if prompt is None:
                tokens = tokenizer.read(part)
                grams.append(find_ngrams(tokens, tokenizer.vocab_size))
                encoded = tokenizer.frame(tokens, max_length=most, truncate="report")
            else:
                encoded = tokenizer.encode_prompt(part, prompt, masks, max_length=most, truncate="report")
            return normalise_rows(run_rows(self._engine, encoded, tokenizer.pad_id)), encoded.report

        vectors, report = compute_once(
            rows.texts,
            (self.source.folder.vector_size,),
            compute,
            truncate="report",
            max_length=most,
            label="texts",
            show_progress=False,
        )
        self._vectors[rows.path, prompt] = vectors
        self.cut[rows.path, prompt] = report.cut
        if prompt is None:
            self._ngrams[rows.path] = stack(grams).take(deduplicate(rows.texts)[1])


def masks_of(data: TopicData) -> int:
    """Return how many [MASK]s a prompt gets: the usual length of the set's label words, 2 without any."""
    return Counter(map(len, data.labels.words)).most_common(1)[0][0] if data.labels.words else 2


def compact(targets: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the classes that occur, sorted, and each row's place among them."""
    classes, inverse = np.unique(targets, return_inverse=True)
    return classes, inverse.reshape(-1)
