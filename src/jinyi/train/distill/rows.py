"""What distillation reads: the same rows as ids of the student and of the teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer
from jinyi.tokens.cut import longest_first
from jinyi.train.data import packing
from jinyi.train.data.rows import Rows, read_rows
from jinyi.train.distill.teacher import Teacher
from jinyi.train.recipe import Data, Source

_IntArray = npt.NDArray[np.int64]


class Framed:
    """Rows of one file with control tokens around them, for one tokenizer.

    Args:
        rows: the file.
        tokenizer: that made its ids.
        limit: most tokens of an input.
        prefix: ids put before every text; never cut.
        pairs: a row is one input [CLS] a [SEP] b [SEP], instead of an input for each of its texts.
    """

    def __init__(
        self, rows: Rows, tokenizer: Tokenizer, limit: int, *, prefix: list[int], pairs: bool
    ) -> None:
        self.rows, self._tokenizer, self._limit = rows, tokenizer, limit
        self._prefix, self._pairs = prefix, pairs
        if limit <= len(prefix) + 2:
            raise InputError(
                where="objective.teacher",
                found=f"{limit} tokens, of which [CLS], [SEP] and the teacher's prompt take {len(prefix) + 2}",
                expected="room for text",
                fix="Take a teacher with more positions or without a default prompt.",
            )

    @property
    def inputs_per_row(self) -> int:
        """How many inputs a row gives."""
        return 1 if self._pairs else len(self.rows.texts)

    def lengths(self) -> _IntArray:
        """Tokens of each row, all its inputs together."""
        if self._pairs:
            return np.minimum(self.rows.lengths + 3, self._limit)
        return self.rows.lengths + (2 + len(self._prefix)) * self.inputs_per_row

    def inputs(self, numbers: _IntArray) -> tuple[list[_IntArray], list[int]]:
        """Inputs of some rows, row after row, and how many of their leading tokens are of segment 0."""
        ids, splits = [], []
        for number in numbers.tolist():
            texts = [np.asarray(side[number], np.int64) for side in self.rows.texts]
            if self._pairs:
                row, split = self._joined(*texts)
                ids.append(row)
                splits.append(split)
                continue
            for text in texts:
                ids.append(self._alone(text))
                splits.append(len(ids[-1]))
        return ids, splits

    def _alone(self, text: _IntArray) -> _IntArray:
        front = [self._tokenizer.cls_id, *self._prefix]
        return np.concatenate((front, text[: self._limit - len(front) - 1], [self._tokenizer.sep_id]))

    def _joined(self, first: _IntArray, second: _IntArray) -> tuple[_IntArray, int]:
        room = self._limit - 3
        if len(first) + len(second) > room:
            keep = longest_first(len(first), len(second), room)
            first, second = first[: keep[0]], second[: keep[1]]
        cls, sep = [self._tokenizer.cls_id], [self._tokenizer.sep_id]
        return np.concatenate((cls, first, sep, second, sep)), len(first) + 2


def read_for_both(
    source: Source,
    data: Data,
    tokenizer: Tokenizer,
    teacher: Teacher,
    *,
    pairs: bool,
    limit: int | None = None,
) -> tuple[Framed, Framed]:
    """Read a file for the student and for the teacher.

    Args:
        source: the file.
        data: for `folder` and `max_length`; the teacher reads as much, if it has as many positions.
        tokenizer: the student's.
        teacher: the teacher.
        pairs: rows are pairs for a cross-encoder.
        limit: only the first so many rows.

    Returns:
        Student's and teacher's inputs; one and the same object where both read the same ids.
    """
    kind = "pairs" if pairs else "texts"
    rows = read_rows(source, data, tokenizer, kind, limit=limit, together=pairs)
    student = Framed(rows, tokenizer, data.max_length, prefix=[], pairs=pairs)
    longest = min(data.max_length + len(teacher.prefix), teacher.tokenizer.max_length)
    if same_ids(tokenizer, teacher) and longest == data.max_length:
        return student, student
    theirs = rows
    if not same_tokenizer(tokenizer, teacher.tokenizer):
        shorter = replace(data, max_length=min(data.max_length, longest))
        theirs = read_rows(source, shorter, teacher.tokenizer, kind, limit=limit, together=pairs)
    return student, Framed(theirs, teacher.tokenizer, longest, prefix=teacher.prefix, pairs=pairs)


def same_tokenizer(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether both give the same ids for every text."""
    return one.vocab == other.vocab and one.to_str() == other.to_str()


def same_ids(tokenizer: Tokenizer, teacher: Teacher) -> bool:
    """Whether student and teacher read the same ids at the same places."""
    return not teacher.prefix and same_tokenizer(tokenizer, teacher.tokenizer)


class TextRows:
    """Texts of a file as rows to be masked; as `jinyi.train.data.packing.LineRows`, without word boundaries.

    Args:
        rows: the file, one text in each row.
        length: most tokens of a row.
        tokenizer: for the ids of [CLS], [SEP] and [PAD].
    """

    def __init__(self, rows: Rows, length: int, tokenizer: Tokenizer) -> None:
        self._texts, self._tokenizer, self._room = rows.texts[0], tokenizer, length - 2
        self.lengths = (np.minimum(self._texts.lengths, self._room) + 2).astype(np.int32)

    def read(self, rows: _IntArray, epoch: int | None) -> packing.Rows:
        """Return rows by their numbers; see `jinyi.train.data.packing.RowSource`. Every epoch has the same."""
        lengths = self.lengths[rows].astype(np.int64)
        ids = np.full((len(rows), int(lengths.max())), self._tokenizer.pad_id, np.int64)
        columns = np.arange(ids.shape[1])
        text = (columns > 0) & (columns < lengths[:, None] - 1)
        ids[:, 0] = self._tokenizer.cls_id
        ids[text] = np.concatenate([np.asarray(self._texts[row][: self._room], np.int64) for row in rows])
        ids[np.arange(len(rows)), lengths - 1] = self._tokenizer.sep_id
        return packing.Rows(ids, text, text, lengths)


def labels_of(rows: Rows, classes: tuple[str, ...] | None) -> npt.NDArray[Any] | None:
    """Labels of a file: numbers, classes by their names, or None in a file without labels.

    Args:
        rows: the file.
        classes: names of the classes; one name alone stands for P(similar) from 0 to 1. None: any numbers.

    Raises:
        InputError: some rows have a label and others none, or it is no such label; names file and line.
    """
    if not rows.labelled:
        return None
    if classes is None:
        return rows.scores()
    return rows.scores(0.0, 1.0) if len(classes) == 1 else rows.classes(classes)
