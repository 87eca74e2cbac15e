"""Zero-shot topics with labels given call by call: one engine that scores the whole vocabulary serves them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from jinyi.folder import Golden
from jinyi.models.common import FloatArray, as_texts, check_golden, check_truncate, refuse_cut, refuse_none
from jinyi.models.heads import softmax
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.models.work import Work, run
from jinyi.models.zero_shot import (
    NO_CONTENT,
    check_prompt,
    label_work,
    needs_calibration,
    own_prompt,
    word_ids,
)
from jinyi.runtime import Head
from jinyi.tokens import TruncateMode


class OpenLabels:
    """A language model that scores any label words.

    `TopicClassifier` with labels is faster where they stay the same: it computes their scores alone.

    Args:
        source: a model with a language model's head.

    Raises:
        FolderError: the folder's golden sentences come out differently.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.prompt = own_prompt(source.folder)
        self.engine = source.engine(Head("mlm", log_normalizer=True))
        check_golden(source, self.engine, self._golden_log_probs, "log_probs")

    def prepare(
        self,
        texts: Iterable[str],
        labels: Sequence[str],
        *,
        prompt: str | None = None,
        multi_label: bool = False,
        truncate: str = "warn",
    ) -> Work:
        """Return the rows that say how well each label fits each text.

        Args:
            texts: one str, or a list of str.
            labels: label words, of any length.
            prompt: with {} for the word; None takes the model's own.
            multi_label: score each label on its own: the odds of its word with the text over those without a text.
                One label alone is always scored so.
            truncate: "warn", "error" or "window", as in `TopicClassifier.predict`; cut texts are in the work's report,
                there is no warning.

        Returns:
            work whose `finish` gives float32 [n, labels]: probabilities that sum to 1, or with `multi_label` each for
            itself. As in `TopicClassifier`, scores without a text are subtracted where a label is new to the model.

        Raises:
            InputError: a text, label or prompt that cannot be used.
        """
        check_truncate(truncate)
        checked, _ = as_texts(texts)
        refuse_none(checked, "texts")
        refuse_none(list(labels), "labels")
        mode: TruncateMode = "window" if truncate == "window" else "report"
        template = self.prompt if prompt is None else check_prompt(prompt)
        logs = self._log_probs(checked, labels, template, mode)
        refuse_cut(logs.report, truncate, self.source.folder.max_length)
        shared = not multi_label and len(labels) > 1
        if shared and not needs_calibration(self.source.folder, labels):
            return replace(logs, finish=lambda outputs: softmax(logs.finish(outputs)))
        without = self._log_probs([NO_CONTENT], labels, template, "report")
        count = len(logs.passes)

        def finish(outputs: list[FloatArray]) -> FloatArray:
            odds = logs.finish(outputs[:count]) - without.finish(outputs[count:])
            return softmax(odds) if shared else sigmoid(odds)

        return Work((*logs.passes, *without.passes), finish, logs.report)

    def _log_probs(self, texts: list[str], words: Sequence[str], prompt: str, mode: TruncateMode) -> Work:
        ids = [np.asarray(word_ids(self.source, word), np.int64) for word in words]
        return label_work(self.source, self.engine, texts, ids, prompt, mode, open_words=True)

    def _golden_log_probs(self, golden: Golden) -> FloatArray:
        texts = [str(text) for text in golden.inputs]
        values: FloatArray = run(
            self._log_probs(texts, golden.labels, golden.prompt or self.prompt, "report")
        )
        return values
