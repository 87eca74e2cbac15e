"""Zero-shot topics: the label's word in a prompt before the text, and how well the language model likes it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.folder import Golden, ModelFolder
from jinyi.models.common import FloatArray, check_golden, merge_windows
from jinyi.models.heads import softmax
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work, run
from jinyi.runtime import Engine, Head
from jinyi.tokens import TruncateMode, TruncationReport

DEFAULT_PROMPT = "下面是一则关于{}的新闻："
NO_CONTENT = "。"
"""Stands for "no text" in contextual calibration (Zhao et al. 2021)."""


def needs_calibration(folder: ModelFolder, words: Iterable[str]) -> bool:
    """Whether each word's score on a text without content is to be subtracted where nobody says so.

    A model that was trained to say certain label words says others seldom, whatever the text (docs/experiments.md); one
    that was not trained for topics, or whose folder does not tell the words, is taken as it is.

    Args:
        folder: the model.
        words: the label words that are asked for.
    """
    trained = set(folder.record.get("trained_words") or ())
    return bool(trained) and not trained.issuperset(words)


class ZeroShot:
    """Scores of label words in a prompt (TCBert, Han et al. 2022).

    Args:
        source: a model with a language model's head.
        words: the label words, of any length.
        prompt: with {} for the word.
        calibrate: subtract each word's score on a text without content (contextual calibration, Zhao et al. 2021).

    Raises:
        InputError: a word has characters outside the vocabulary.
        FolderError: the folder's golden sentences come out differently.
    """

    def __init__(self, source: Source, words: Sequence[str], prompt: str, *, calibrate: bool) -> None:
        golden = source.folder.golden
        checked = list(golden.labels) if golden is not None and golden.kind == "log_probs" else []
        ids = {word: word_ids(source, word) for word in [*words, *checked]}
        known = np.unique(np.concatenate([np.asarray(value, np.int64) for value in ids.values()]))
        columns = {word: np.searchsorted(known, value) for word, value in ids.items()}
        # Words of one length share the normaliser at every mask, which then cancels between labels: the vocabulary
        # need not be multiplied whole. So it does between golden words, if no length has one word alone.
        sizes = Counter(len(ids[word]) for word in checked)
        needed = len({len(ids[word]) for word in words}) > 1 or 1 in sizes.values()
        self.engine = source.engine(Head("mlm", label_ids=known, log_normalizer=needed))
        self._source = source
        self._prompt = prompt
        self._columns = [columns[word] for word in words]

        def log_probs(golden: Golden) -> FloatArray:
            texts = [str(text) for text in golden.inputs]
            chosen = [columns[word] for word in golden.labels]
            found = label_log_probs(source, self.engine, texts, chosen, golden.prompt or prompt, "report")[0]
            for size in () if needed else sizes:
                alike = [place for place, column in enumerate(chosen) if len(column) == size]
                found[:, alike] += (golden.values - found)[:, alike].mean(axis=1, keepdims=True)
            return found

        check_golden(source, self.engine, log_probs, "log_probs")
        self._baseline = run(self._scores([NO_CONTENT], "report")) if calibrate else np.float32(0.0)

    def work(self, texts: list[str], mode: TruncateMode) -> Work:
        """Return the rows of texts, whose outputs become the probability of each label, float32 [n, labels]."""
        scores = self._scores(texts, mode)
        return replace(scores, finish=lambda outputs: softmax(scores.finish(outputs) - self._baseline))

    def _scores(self, texts: list[str], mode: TruncateMode) -> Work:
        return label_work(self._source, self.engine, texts, self._columns, self._prompt, mode)


def own_prompt(folder: ModelFolder) -> str:
    """Return the prompt of a folder, or the usual one.

    Raises:
        InputError: the folder's has no one place for the word.
    """
    saved = (folder.record.get("topic") or {}).get("prompt")
    return check_prompt(saved or folder.prompts.get(folder.default_prompt_name or "") or DEFAULT_PROMPT)


def check_prompt(prompt: object) -> str:
    """Return a prompt for label words.

    Raises:
        InputError: it is no text with one {} for the word.
    """
    if not isinstance(prompt, str) or prompt.count("{}") != 1:
        raise InputError(
            found=shorten(prompt, 60),
            expected=f'one "{{}}" for the label word, as in "{DEFAULT_PROMPT}"',
            fix="Put {} where the word belongs.",
            where="prompt",
        )
    return prompt


def word_ids(source: Source, word: str) -> list[int]:
    """Return the token ids of a label word.

    Raises:
        InputError: a character of it is not in the vocabulary.
    """
    ids: list[int] = source.tokenizer.ids_of_word(word)
    if not ids or source.tokenizer.unk_id in ids:
        raise InputError(
            found=f"label word {word!r} with characters outside this model's vocabulary",
            expected="words made of known characters",
            fix='Choose another word for the label: labels={"label": "word"}.',
            where="labels",
        )
    return ids


def label_log_probs(
    source: Source,
    engine: Engine,
    texts: list[str],
    columns: list[npt.NDArray[np.int64]],
    prompt: str,
    mode: TruncateMode,
) -> tuple[FloatArray, TruncationReport]:
    """Return how well each label word fits into the prompt before each text, float32 [n, words], and what was cut.

    The arguments are those of `label_work`.
    """
    work = label_work(source, engine, texts, columns, prompt, mode)
    values: FloatArray = run(work)
    return values, work.report


def label_work(
    source: Source,
    engine: Engine,
    texts: list[str],
    columns: list[npt.NDArray[np.int64]],
    prompt: str,
    mode: TruncateMode,
    *,
    open_words: bool = False,
) -> Work:
    """Return the rows that say how well each label word fits into the prompt before each text.

    There is one pass for each length of words.

    Args:
        source: the model.
        engine: its engine with an "mlm" head; without `log_normalizer` the values of words of one length are off by
            the same amount.
        texts: the texts.
        columns: for each word, the columns of its tokens in the engine's output.
        prompt: with {} for the word.
        mode: "report" or "window".
        open_words: `columns` are ids of an engine that scores the whole vocabulary, and it is asked for these alone.

    Returns:
        work whose `finish` gives the mean log-probability per token, float32 [n, words].
    """
    by_length: dict[int, list[int]] = {}
    for place, column in enumerate(columns):
        by_length.setdefault(len(column), []).append(place)
    passes: list[Pass] = []
    at: list[npt.NDArray[np.int64]] = []  # for each pass, the columns [words, length] of its words
    lengths = sorted(by_length)
    rows = source.tokenizer.encode_prompts(
        texts, prompt, lengths, max_length=source.folder.max_length, truncate=mode
    )
    for length, encoded in zip(lengths, rows, strict=True):
        chosen = by_length[length]
        places, words = np.asarray([columns[place] for place in chosen], np.int64), None
        if open_words:
            words = np.unique(places)
            places = np.searchsorted(words, places)
        passes.append(Pass(engine, encoded, source.tokenizer.pad_id, words))
        at.append(places)

    def finish(outputs: list[FloatArray | tuple[FloatArray, FloatArray]]) -> FloatArray:
        result = np.empty((len(texts), len(columns)), np.float32)
        parts = zip(sorted(by_length.items()), passes, at, outputs, strict=True)
        for (length, chosen), part, places, output in parts:
            logits, normaliser = output if isinstance(output, tuple) else (output, None)
            scores = np.sum([logits[:, mask, places[:, mask]] for mask in range(length)], axis=0)
            if normaliser is not None:
                scores = scores - normaliser.sum(axis=1, keepdims=True)
            result[:, chosen] = merge_windows(scores / np.float32(length), part.encoded, len(texts))
        return result

    # The longest word leaves the least room for the text.
    return Work(tuple(passes), finish, passes[-1].encoded.report)
