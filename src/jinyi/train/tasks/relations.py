"""Which texts of a batch belong together, which do not, and how much: what contrastive losses are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer
from jinyi.train.data.rows import Rows
from jinyi.train.data.tensors import pad

_LEARNS = {
    "infonce": "texts, triplets, or pairs with label 1 (the same) and no label beyond 0..1",
    "cosent": "pairs with different labels, or triplets",
    "both": "rows for InfoNCE (label 1) or for CoSENT (different labels)",
}


@dataclass(frozen=True, eq=False)
class Related:
    """Rows of a file with what they say about their texts.

    Args:
        rows: texts, pairs or triplets; n of them.
        grades: float32 [n], labels of pairs, 1 where the file has none; None for texts and triplets.
        similar: bool [n], rows whose first two texts mean the same: all texts (a text and itself), all triplets, and
            pairs of label 1 where all labels of the file are from 0 to 1. Elsewhere labels are grades, and 1 is one of
            many.
    """

    rows: Rows
    grades: npt.NDArray[np.float32] | None
    similar: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Rows) -> Related:
        """Read the labels.

        Raises:
            InputError: a label of a pair is no number; names file and line.
        """
        if rows.kind != "pairs":
            return cls(rows, None, np.ones(len(rows), np.bool_))
        if not rows.labelled:
            return cls(rows, np.ones(len(rows), np.float32), np.ones(len(rows), np.bool_))
        grades = rows.scores()
        if ((grades < 0) | (grades > 1)).any():
            return cls(rows, grades, np.zeros(len(rows), np.bool_))
        return cls(rows, grades, np.asarray(grades == 1))

    @property
    def graded(self) -> bool:
        """Whether CoSENT finds an order: pairs with different labels, or triplets."""
        if self.grades is None:
            return self.rows.kind == "triplets"
        return len(np.unique(self.grades)) > 1

    def check(self, loss: str) -> None:
        """Refuse a file from which a loss ("infonce", "cosent" or "both") learns nothing.

        Raises:
            InputError: names the file.
        """
        if (loss != "cosent" and self.similar.any()) or (loss != "infonce" and self.graded):
            return
        labels = "no labels"
        if self.grades is not None:
            labels = f"labels from {self.grades.min():g} to {self.grades.max():g}"
        raise InputError(
            found=f"{self.rows.kind} with {labels}",
            expected=f"{_LEARNS[loss]}, for loss {loss}",
            fix="Say in the source's `labels` what its labels stand for, or take another loss.",
            where=str(self.rows.path),
        )

    def inputs(self, chosen: npt.NDArray[np.int64], tokenizer: Tokenizer, size: int | None) -> dict[str, Any]:
        """Return a part of a batch: its texts in chunks, and what they are to each other.

        Args:
            chosen: rows of the part, int64 [n].
            tokenizer: for [CLS], [SEP] and padding.
            size: texts of a chunk; None puts all into one.

        Returns:
            `chunks`: each with `ids`, `lengths` (see `pad`), `places` (numpy, numbers of its texts) and `tokens`; texts
            are numbered side by side, all first ones, then all second ones..., and chunks take the longest first.
            `order`: puts the texts of all chunks back in the order of their numbers. `keys`: equal for equal texts.
            For InfoNCE `a`, `b` and `negatives` (or None): numbers of texts; `own_negatives`: whether negatives[i]
            belongs to a[i]. For CoSENT `first`, `second` and `labels` (or None).
        """
        rows, n = self.rows, len(chosen)
        sides = (0, 0) if rows.kind == "texts" else tuple(range(len(rows.texts)))
        texts = [framed(rows, side, row, tokenizer) for side in sides for row in chosen.tolist()]
        longest = np.argsort([-len(text) for text in texts], kind="stable")
        chunks = []
        for start in range(0, len(texts), size or len(texts)):
            places = longest[start : start + (size or len(texts))]
            some = [texts[place] for place in places.tolist()]
            padded = pad(some, tokenizer.pad_id)
            tokens = sum(map(len, some))
            chunks.append({"ids": padded.ids, "lengths": padded.lengths, "places": places, "tokens": tokens})
        each = np.arange(n)
        arrays: dict[str, npt.NDArray[Any] | None] = {
            "a": each[self.similar[chosen]],
            "b": n + each[self.similar[chosen]],
            "negatives": None,
            "labels": None,
            "keys": np.concatenate([rows.keys[chosen, side] for side in sides]),
            "order": np.argsort(longest),
        }
        if self.grades is not None:
            labels = self.grades[chosen]
            arrays |= {
                "labels": labels,
                "first": each,
                "second": n + each,
                "negatives": n + each[labels == 0],
            }
        elif rows.kind == "triplets":
            arrays |= {"labels": np.repeat(np.array([1, 0], np.float32), n), "negatives": 2 * n + each}
            arrays |= {"first": np.tile(each, 2), "second": n + np.arange(2 * n)}
        tensors = {name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()}
        return {**tensors, "chunks": chunks, "own_negatives": rows.kind == "triplets"}


def framed(rows: Rows, side: int, row: int, tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Return [CLS] text [SEP]."""
    ids = rows.texts[side][row]
    return np.concatenate(([tokenizer.cls_id], ids, [tokenizer.sep_id])).astype(np.int64)
