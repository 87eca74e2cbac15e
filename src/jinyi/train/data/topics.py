"""Topic files with their label words and prompts (TCBert, arXiv 2211.11304)."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, TruncationWarning, shorten
from jinyi.files.labels import label_name
from jinyi.label_words import label_words
from jinyi.models.labels import label_words as check_words
from jinyi.tokens import Tokenizer
from jinyi.train.data.rows import Rows

_IntArray = npt.NDArray[np.int64]
_SLOTS = re.compile(r"(\{\}|\{text\})")


class Prompt:
    """A prompt as token ids around the places of the masks and of the text.

    Args:
        text: with {} for the label word; the text of a row follows, or stands where {text} is.
        tokenizer: text to ids.
        masks: tokens of the longest label word.
        max_length: most tokens of a row.

    Raises:
        InputError: not one {}, more than one {text}, or no room for a text.
    """

    def __init__(self, text: str, tokenizer: Tokenizer, masks: int, max_length: int) -> None:
        tokenizer.encode_prompt(["。"], text, masks, max_length=max_length)  # refuses what cannot be used
        pieces = _SLOTS.split(text if "{text}" in text else text + "{text}")
        self._pieces = [
            piece if piece in ("{}", "{text}") else tokenizer.ids_of_word(piece) for piece in pieces
        ]
        self._cls, self._sep, self._mask = tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
        self.text = text
        self.size = 2 + masks + sum(len(piece) for piece in self._pieces if not isinstance(piece, str))
        self.room = max_length - self.size

    def build(self, text: npt.NDArray[Any], masks: int) -> tuple[_IntArray, _IntArray, int]:
        """Put masks and a text into the prompt.

        Args:
            text: token ids; what is beyond `room` is cut.
            masks: how many [MASK]s.

        Returns:
            Token ids, the places of the masks in them [masks], and the place of the text's first token.
        """
        parts: list[Any] = [[self._cls]]
        size, mask_at, text_at = 1, 0, 0
        for piece in self._pieces:
            if piece == "{}":
                mask_at, part = size, np.full(masks, self._mask)
            elif piece == "{text}":
                text_at, part = size, text[: self.room]
            else:
                part = np.array(piece, np.int64)
            parts.append(part)
            size += len(part)
        parts.append([self._sep])
        return np.concatenate(parts).astype(np.int64), mask_at + np.arange(masks), text_at


@dataclass(frozen=True, eq=False)
class Topics:
    """One file of texts with topics.

    Args:
        rows: the texts.
        labels: names of the topics, in their order.
        words: label word of each.
        ids: token ids of each word.
        targets: number of each row's topic, int64 [rows].
        prompts: the file's prompts.
    """

    rows: Rows
    labels: tuple[str, ...]
    words: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    targets: _IntArray
    prompts: tuple[Prompt, ...]

    @classmethod
    def of(cls, rows: Rows, tokenizer: Tokenizer, max_length: int, like: Topics | None = None) -> Topics:
        """Find out labels, words and prompts of a file.

        Args:
            rows: of kind "topics".
            tokenizer: text to ids.
            max_length: most tokens of an input.
            like: takes the place of what `rows.source` does not say: for a dev file, the training file of that name.

        Raises:
            InputError: a row without label or with one outside the list, words or prompts that cannot be used.
        """
        labels, words, known = _labels(rows, like)
        targets = np.empty(len(rows), np.int64)
        for row, label in enumerate(rows.labels):
            place = None if label is None else known.get(label_name(label))
            if place is None:
                raise InputError(
                    where=rows.where(row),
                    found=f"label {shorten(label)}",
                    expected=f"one of {shorten(list(known), 80)}",
                    fix="Correct the row, or add the label to the source's `words` or `labels` (null leaves rows out).",
                )
            targets[row] = place
        ids = tuple(_word_ids(tokenizer, word, rows) for word in words)
        prompts = rows.source.prompts
        if not prompts and rows.source.label_words:
            prompts = label_words(rows.source.label_words).prompts
        if not prompts and like is not None:
            prompts = tuple(prompt.text for prompt in like.prompts)
        if not prompts:
            raise InputError(
                where=str(rows.path),
                found="no prompts",
                expected="prompts with {} for the label word",
                fix="Give the source prompts, for example [下面是一则关于{}的新闻：], or label_words.",
            )
        longest = max(map(len, ids))
        made = tuple(Prompt(prompt, tokenizer, longest, max_length) for prompt in prompts)
        over = np.maximum(rows.lengths - min(prompt.room for prompt in made), 0) + rows.lost
        if over.any():
            warnings.warn(
                f"{rows.path}: {np.count_nonzero(over)} of {len(rows)} texts cut, {over.sum()} tokens not read: "
                f"data.max_length is {max_length} with the prompt",
                TruncationWarning,
                stacklevel=4,
            )
        return cls(rows, labels, words, ids, targets, made)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of tokens that label words have, ascending."""
        return tuple(sorted({len(word) for word in self.ids}))

    def words_of(self, size: int) -> tuple[list[int], _IntArray]:
        """Return the topics whose word has so many tokens, and their token ids [topics, size]."""
        classes = [number for number, word in enumerate(self.ids) if len(word) == size]
        return classes, np.array([self.ids[number] for number in classes], np.int64)


def _labels(rows: Rows, like: Topics | None) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Names of the topics, their words, and the number of everything that a label in the file may be."""
    source = rows.source
    if source.words is None and source.label_words is not None:
        known = label_words(source.label_words)
        return tuple(known.words), tuple(known.words.values()), known.places
    if source.words is None and like is not None:
        places = {label: number for number, label in enumerate(like.labels)}
        if like.rows.source.label_words is not None:
            places = label_words(like.rows.source.label_words).places | places
        return like.labels, like.words, places
    given = source.words
    if given is None:
        found = sorted({label_name(label) for label in rows.labels if label is not None})
        given = dict(zip(found, found, strict=True))
    words = check_words(given)
    return tuple(words), tuple(words.values()), {label: number for number, label in enumerate(words)}


def _word_ids(tokenizer: Tokenizer, word: str, rows: Rows) -> tuple[int, ...]:
    ids = tokenizer.ids_of_word(word)
    if not ids or tokenizer.unk_id in ids:
        raise InputError(
            where=str(rows.path),
            found=f"label word {word!r} with characters outside the vocabulary",
            expected="words made of known characters",
            fix="Say another word for the label in the source's `words`.",
        )
    return tuple(ids)
