"""Dynamic masking: what a masked language model has to predict, drawn anew each time a row is seen.

Tokens, whole words or n-grams of words are chosen (Devlin et al. 2019; Cui et al. 2021; Joshi et al. 2020), then become
[MASK], a random token, or stay. Everything is a function of (seed, step) and the row, in NumPy without a loop over
rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jinyi.tokens import Tokenizer
from jinyi.train.data.chance import below, uniform

_CONTROL = re.compile(r"\[[^\[\]]+\]$")
_COUNT, _ORDER, _LENGTH, _FATE, _TOKEN = range(5)


@dataclass(frozen=True, eq=False)
class Masked:
    """Rows after masking.

    Args:
        ids: what the model sees, int64 [R, L].
        places: where it has to predict, int64 [n], positions in the R * L tokens row after row, ascending.
        targets: the tokens that stood there, int64 [n].
    """

    ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Masking:
    """How rows are masked.

    Args:
        mask_id: id of [MASK].
        tokens: ids that a random token is drawn from, see `ordinary_tokens`.
        rate: share of the units that is predicted; with it, the share of the tokens.
        units: "tokens", "words" or "ngrams".
        ngram: longest n-gram in words; the length n has a chance in proportion to 1/n.
        kept, random: shares of the chosen tokens that stay, and that become a random token; the rest is [MASK].
    """

    mask_id: int
    tokens: npt.NDArray[np.int64]
    rate: float = 0.15
    units: str = "words"
    ngram: int = 3
    kept: float = 0.1
    random: float = 0.1

    def __call__(
        self,
        ids: npt.NDArray[np.int64],
        text: npt.NDArray[np.bool_],
        starts: npt.NDArray[np.bool_],
        key: Sequence[int],
        rows: npt.NDArray[np.int64],
    ) -> Masked:
        """Mask some rows.

        Args:
            ids: token ids [R, L].
            text: which of them may be chosen [R, L]: not [CLS], [SEP] and padding.
            starts: which of them begin a word [R, L]; not looked at when the units are tokens.
            key: seed and step.
            rows: a number for each row [R], different for different rows of a step.

        Returns:
            the masked rows; about 0.1 microseconds a token.
        """
        chosen = self.choose(text, starts, key, rows)
        row, column = np.nonzero(chosen)
        targets = ids[row, column]
        fate = uniform((*key, _FATE), rows[row], column)
        drawn = self.tokens[below(len(self.tokens), (*key, _TOKEN), rows[row], column)]
        new = np.where(fate < self.random, drawn, self.mask_id)
        masked = ids.copy()
        masked[row, column] = np.where(fate >= 1.0 - self.kept, targets, new)
        return Masked(masked, row * ids.shape[1] + column, targets)

    def choose(
        self,
        text: npt.NDArray[np.bool_],
        starts: npt.NDArray[np.bool_],
        key: Sequence[int],
        rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Which tokens are predicted [R, L]; arguments as for a call.

        In a row of m units, `rate` * m of them are drawn, rounded up or down at random so that every token has the
        chance `rate`; but one at least, as in BERT.
        """
        begins = text.copy()
        if self.units != "tokens":
            begins[:, 1:] &= starts[:, 1:] | ~text[:, :-1]  # a row may begin inside a word
        unit = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
        if self.units == "ngrams":
            unit = np.take_along_axis(self._groups(text.shape, key, rows), unit, axis=1)
        counts = np.where(text.any(axis=1), np.where(text, unit, 0).max(axis=1) + 1, 0)
        wanted = np.floor(self.rate * counts + uniform((*key, _COUNT), rows)).astype(np.int64)
        wanted = np.clip(wanted, 1, np.maximum(counts, 1))
        units = np.arange(text.shape[1])
        order = uniform((*key, _ORDER), rows[:, None], units)
        order[units >= counts[:, None]] = 2.0
        last = np.take_along_axis(np.sort(order, axis=1), wanted[:, None] - 1, axis=1)
        return np.take_along_axis(order <= last, unit, axis=1) & text

    def _groups(
        self, shape: tuple[int, ...], key: Sequence[int], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Number of the n-gram each word of a row belongs to [R, L]: the row's words, cut into n-grams one after
        the other."""
        words = np.arange(shape[1])
        share = np.cumsum(1.0 / np.arange(1, self.ngram + 1))
        drawn = uniform((*key, _LENGTH), rows[:, None], words) * share[-1]
        ends = np.cumsum(np.searchsorted(share, drawn, side="right") + 1, axis=1)
        first = np.zeros((shape[0], shape[1] + 1), np.int64)
        np.put_along_axis(first, np.minimum(ends, shape[1]), 1, axis=1)
        groups: npt.NDArray[np.int64] = np.cumsum(first[:, :-1], axis=1)
        return groups


def ordinary_tokens(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Ids of all entries that stand for text: not [PAD], [MASK], [unused1] and their like."""
    controls = (index for index, entry in enumerate(tokenizer.vocab) if not entry or _CONTROL.match(entry))
    return np.setdiff1d(np.arange(tokenizer.vocab_size), np.fromiter(controls, np.int64))
