"""Texts behind prompts, as batches for a masked language model.

An input is [CLS] prompt text [SEP] in one segment; the prompt has as many [MASK]s as a label word has tokens. Where all
labels are to be scored and their words differ in length, a text is shown once for each length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from jinyi.tokens import Tokenizer
from jinyi.train.data.masking import Masking
from jinyi.train.data.tensors import pad
from jinyi.train.data.topics import Prompt, Topics

_IntArray = npt.NDArray[np.int64]


class TextMasks(NamedTuple):
    """What of the texts themselves is masked.

    Attributes:
        masking: how.
        key: seed and step.
        numbers: a number for each row of the batch [n].
    """

    masking: Masking
    key: tuple[int, ...]
    numbers: _IntArray


class _Shown(NamedTuple):
    """One input: token ids, places of its masks, place of its text, and which text of the batch it shows."""

    ids: _IntArray
    masks: _IntArray
    text_at: int
    text: int


class _Answers:
    """Places where the vocabulary is scored, the tokens there, and how much each counts."""

    def __init__(self) -> None:
        self.places: list[_IntArray] = []
        self.targets: list[_IntArray] = []
        self.weights: list[npt.NDArray[np.float32]] = []

    def add(self, places: _IntArray, targets: _IntArray, weight: float) -> None:
        self.places.append(places)
        self.targets.append(targets)
        self.weights.append(np.full(len(places), weight, np.float32))


def batch(
    topics: Topics,
    rows: _IntArray,
    prompts: Sequence[Prompt],
    tokenizer: Tokenizer,
    *,
    every_size: bool,
    text_masks: TextMasks | None = None,
) -> tuple[dict[str, Any], int]:
    """Make the inputs of some rows, each seen once with each prompt: R = rows * prompts texts.

    Args:
        topics: the file.
        rows: numbers of its rows.
        prompts: one for each view.
        tokenizer: for control tokens.
        every_size: show a text with the masks of every length of label words, not of its own label's alone.
        text_masks: also mask tokens of the texts, alike in all inputs of a text.

    Returns:
        How many real tokens there are, behind a dict of:

        - `ids` [B, L], `lengths` [B] or None: the inputs;
        - `own` int64 [R]: for each text, its input with as many masks as its label's word has tokens;
        - `topics` int64 [R]: numbers of the texts' topics;
        - `places` int64 [K]: where the vocabulary is scored, in the B * L tokens, first the masks of the prompts
          (`words` of them), then those in texts; `targets` int64 [K], and `weights` float32 [K], which make sums over
          either part the mean over texts of the mean over a text's masks;
        - `scores`: a list for the lengths of label words, empty where not every text is shown with each: which of the K
          places are a text's masks [R, length], the topics with such words [C], and these words [C, length].
    """
    texts = [topics.rows.texts[0][row].astype(np.int64) for row in rows.tolist()] * len(prompts)
    seen, masked = texts, [np.empty(0, np.int64)] * len(texts)
    if text_masks is not None:
        seen, masked = _mask(texts, text_masks, len(topics.rows))
    targets = np.tile(topics.targets[rows], len(prompts))
    answers = [topics.ids[target] for target in targets.tolist()]
    shown: list[_Shown] = []
    own = np.zeros(len(texts), np.int64)
    for size in topics.sizes:
        for text, answer in enumerate(answers):
            if len(answer) == size:
                own[text] = len(shown)
            if every_size or len(answer) == size:
                built = prompts[text // len(rows)].build(seen[text], size)
                shown.append(_Shown(*built, text))
    padded = pad([one.ids for one in shown], tokenizer.pad_id)
    width = padded.ids.shape[1]
    scored = _Answers()
    for place, one in enumerate(shown):
        size = len(one.masks)
        mine = own[one.text] == place
        answer = answers[one.text] if mine else (0,) * size
        scored.add(place * width + one.masks, np.array(answer), mine / (size * len(texts)))
    for text, columns in enumerate(masked):
        columns = columns[columns < prompts[text // len(rows)].room]
        place = int(own[text])
        begin = place * width + shown[place].text_at
        scored.add(begin + columns, texts[text][columns], 1.0 / (max(len(columns), 1) * len(texts)))
    inputs = {
        "ids": padded.ids,
        "lengths": padded.lengths,
        "own": torch.from_numpy(own),
        "topics": torch.from_numpy(targets),
        "places": torch.from_numpy(np.concatenate(scored.places)),
        "targets": torch.from_numpy(np.concatenate(scored.targets)),
        "weights": torch.from_numpy(np.concatenate(scored.weights)),
        "words": sum(len(one.masks) for one in shown),
        "scores": _label_places(topics, shown) if len(shown) == len(texts) * len(topics.sizes) else [],
    }
    return inputs, sum(len(one.ids) for one in shown)


def _label_places(topics: Topics, shown: Sequence[_Shown]) -> list[dict[str, torch.Tensor]]:
    found = []
    begins = np.cumsum([0, *(len(one.masks) for one in shown)])
    for size in topics.sizes:
        first = np.array([begins[place] for place, one in enumerate(shown) if len(one.masks) == size])
        classes, words = topics.words_of(size)
        found.append(
            {
                "at": torch.from_numpy(first[:, None] + np.arange(size)),
                "classes": torch.tensor(classes),
                "words": torch.from_numpy(words),
            }
        )
    return found


def _mask(
    texts: Sequence[_IntArray], text_masks: TextMasks, rows: int
) -> tuple[list[_IntArray], list[_IntArray]]:
    """Texts with masked tokens, and the places of those in each text."""
    lengths = np.array([len(text) for text in texts])
    inside = np.arange(int(lengths.max())) < lengths[:, None]
    ids = np.zeros(inside.shape, np.int64)
    ids[inside] = np.concatenate(texts)
    views = len(texts) // len(text_masks.numbers)
    numbers = np.concatenate([text_masks.numbers + view * rows for view in range(views)])
    masked = text_masks.masking(ids, inside, inside, text_masks.key, numbers)
    text, column = np.divmod(masked.places, inside.shape[-1])
    columns = np.split(column, np.searchsorted(text, np.arange(1, len(texts))))
    return [row[:length] for row, length in zip(masked.ids, lengths, strict=True)], columns
