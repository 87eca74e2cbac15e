"""Weights of a model folder made to fit a smaller model: chosen layers, another vocabulary, fewer positions.

Needs no PyTorch. `jinyi.train.start` uses it for `start.layers`, `start.config` and `start.tokenizer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.folder.names import MLM_BIAS, POSITIONS, WORDS
from jinyi.runtime.rotary import TABLE
from jinyi.tokens import Tokenizer

_LAYER = "encoder.layer."


def even_layers(count: int, keep: int) -> tuple[int, ...]:
    """Return `keep` of `count` layer numbers, evenly spaced, the first and the last among them.

    Six of twelve are 0, 2, 4, 7, 9, 11, those that DistilBERT starts from (Sanh et al. 2019).
    """
    return tuple(int(number) for number in np.linspace(0, count - 1, keep).round())


def carry_rows(rows: npt.NDArray[Any], old: Tokenizer, new: Tokenizer) -> npt.NDArray[np.float32]:
    """Carry rows of one vocabulary over to another.

    A token both have keeps its row. Any other gets the mean of the rows of the pieces the old tokenizer cuts it into,
    or, where that does not know it, the mean of all rows (Hewitt 2021, "Initializing New Word Embeddings").

    Args:
        rows: one row for each old id [V_old, ...]; rows beyond the old tokenizer's ids are dropped.
        old, new: the tokenizers.

    Returns:
        float32 [V_new, ...].
    """
    entries = old.vocab
    rows = np.asarray(rows[: len(entries)], np.float32)
    place = {token: index for index, token in enumerate(entries) if token}
    average = rows.mean(0)
    out = np.empty((new.vocab_size, *rows.shape[1:]), np.float32)
    for index, token in enumerate(new.vocab):
        if token in place:
            out[index] = rows[place[token]]
            continue
        pieces = old.ids_of_word(token.removeprefix("##"))
        out[index] = average if not pieces or old.unk_id in pieces else rows[pieces].mean(0)
    return out


class FittedWeights(Mapping[str, npt.NDArray[Any]]):
    """The weights of a model folder as a smaller model has them; each is made when it is asked for.

    Args:
        weights: tensors by the folder's names.
        layers: numbers of the layers to keep, in their new order; a number may come twice.
        positions: how many position embeddings (RoFormer: rows of its table) to keep, the first ones.
        vocabularies: (old, new) tokenizer where the vocabulary changes: see `carry_rows`.
        without: tensors whose names begin so are left out.
    """

    def __init__(
        self,
        weights: Mapping[str, npt.NDArray[Any]],
        *,
        layers: Sequence[int],
        positions: int,
        vocabularies: tuple[Tokenizer, Tokenizer] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        self._weights, self._positions, self._vocabularies = weights, positions, vocabularies
        self._names = {name: name for name in weights if not name.startswith((_LAYER, *without))}
        for number, layer in enumerate(layers):
            before = f"{_LAYER}{layer}."
            self._names |= {
                f"{_LAYER}{number}.{name.removeprefix(before)}": name
                for name in weights
                if name.startswith(before)
            }

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        array = self._weights[self._names[name]]
        if name in (POSITIONS, TABLE):
            return array[: self._positions]
        if name in (WORDS, MLM_BIAS) and self._vocabularies is not None:
            return carry_rows(array, *self._vocabularies)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
