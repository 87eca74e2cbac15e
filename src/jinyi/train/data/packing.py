"""From token shards to the rows a language model is trained on.

`DocumentRows`: rows of exactly the wanted length, cut from the stream of documents. `LineRows`: a line a row.
`OrderRows`: two segments of a document, in their order or swapped. All give [CLS] and [SEP], read only the tokens that
are asked for from the memory-mapped shards, and hold a few bytes for each document or line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.tokens import Tokenizer
from jinyi.train.corpus import Shards
from jinyi.train.data.chance import below, uniform

SHORTEST_LINE = 4
"""Lines of fewer tokens are left out: there is hardly anything to predict from."""

_SHIFT, _SWAP = range(2)
_IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, side by side.

    Args:
        ids: token ids, filled up with [PAD], int64 [R, L].
        text: tokens that are not [CLS], [SEP] or [PAD], [R, L].
        starts: tokens that begin a word, [R, L].
        lengths: real tokens of each row, int64 [R].
        segments: int64 [R, L] of 0 and 1; None where all are 0.
        swapped: whether the second segment stands first in the document, [R]; None for rows of one segment.
    """

    ids: _IntArray
    text: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]
    lengths: _IntArray
    segments: _IntArray | None = None
    swapped: npt.NDArray[np.bool_] | None = None


class RowSource(Protocol):
    """Rows of one shard folder.

    Attributes:
        lengths: tokens of each row, [CLS] and [SEP] included, [rows].
    """

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each row."""

    def read(self, rows: _IntArray, epoch: int | None) -> Rows:
        """Return rows by their numbers, as they are in an epoch; None for those of dev files."""


class DocumentRows:
    """Rows of exactly `length` tokens, without padding (FULL-SENTENCES of RoBERTa, Liu et al. 2019).

    All documents follow each other in one stream with a [SEP] behind each, and the stream is cut into rows of
    `length` - 2 tokens, which may begin and end inside a sentence. The stream is a circle that begins at another token
    in every epoch, so the cuts move, and every epoch leaves out other tokens, fewer than a row has.

    Args:
        shards: the corpus.
        length: tokens of a row.
        tokenizer: for the ids of [CLS], [SEP] and [PAD].
        seed: of where an epoch begins.

    Raises:
        InputError: the corpus does not fill one row.

    Memory: 16 bytes a document.
    """

    def __init__(self, shards: Shards, length: int, tokenizer: Tokenizer, seed: int) -> None:
        self._shards, self._tokenizer, self._seed = shards, tokenizer, seed
        self._room = length - 2
        self._begins = shards.sentences[shards.documents]  # places in the ids
        self._at = self._begins + np.arange(len(self._begins))  # places in the stream
        self._total = int(self._at[-1])
        _check(self._total // self._room, shards, f"enough for one row of {length} tokens")
        self.lengths = np.full(self._total // self._room, length, np.int32)

    def read(self, rows: _IntArray, epoch: int | None) -> Rows:
        """Return rows by their numbers; see `RowSource`."""
        first = 0 if epoch is None else int(below(self._total, (self._seed, _SHIFT), np.array([epoch]))[0])
        places = (first + rows[:, None] * self._room + np.arange(self._room)) % self._total
        document = np.searchsorted(self._at, places, side="right") - 1
        inside = places - self._at[document]
        begin, end = self._begins[document], self._begins[document + 1]
        text = inside < end - begin
        at = np.where(text, begin + inside, begin)
        return _framed(self._shards, self._tokenizer, at, text, [np.ones_like(text)])


class LineRows:
    """A row for each line; lines longer than a row become several.

    Lines and rests of lines of fewer than `SHORTEST_LINE` tokens are left out.

    Args:
        shards: the corpus.
        length: most tokens of a row.
        tokenizer: for the ids of [CLS], [SEP] and [PAD].

    Raises:
        InputError: there is no line left.

    Memory: 12 bytes a row.
    """

    def __init__(self, shards: Shards, length: int, tokenizer: Tokenizer) -> None:
        self._shards, self._tokenizer = shards, tokenizer
        begins, room = np.asarray(shards.sentences[:-1]), length - 2
        sizes = np.diff(shards.sentences)
        pieces = -(-sizes // room)
        number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        left = np.minimum(np.repeat(sizes, pieces) - number * room, room)
        kept = left >= SHORTEST_LINE
        self._begins = (np.repeat(begins, pieces) + number * room)[kept]
        self.lengths = (left[kept] + 2).astype(np.int32)
        _check(len(self._begins), shards, f"a line of {SHORTEST_LINE} tokens")

    def read(self, rows: _IntArray, epoch: int | None) -> Rows:
        """Return rows by their numbers; see `RowSource`. Every epoch has the same."""
        sizes = self.lengths[rows].astype(np.int64) - 2
        columns = np.arange(int(sizes.max()))
        real = columns < sizes[:, None]
        at = self._begins[rows][:, None] + np.where(real, columns, 0)
        return _framed(self._shards, self._tokenizer, at, real, [real])


class OrderRows:
    """Two segments of one document, half of the time swapped (sentence-order prediction, Lan et al. 2020).

    A row is a run of whole sentences of a document, as many as fit, cut into two segments at the sentence boundary
    next to its middle: [CLS] first [SEP] second [SEP], segment ids 0 and 1. Sentences that no other one fits beside
    are left out. Which rows are swapped changes with the epoch.

    Args:
        shards: the corpus.
        length: most tokens of a row.
        tokenizer: for the ids of [CLS], [SEP] and [PAD].
        seed: of what is swapped.

    Raises:
        InputError: no document has two sentences that fit into a row.

    Memory: 28 bytes a row; opening takes about a second for ten million sentences.
    """

    def __init__(self, shards: Shards, length: int, tokenizer: Tokenizer, seed: int) -> None:
        self._shards, self._tokenizer, self._seed = shards, tokenizer, seed
        bounds, room = np.asarray(shards.sentences), length - 3
        last = np.repeat(shards.documents[1:], np.diff(shards.documents))
        # The sentence behind the longest run that begins at each sentence; the sentence itself where none fits.
        behind = np.minimum(np.searchsorted(bounds, bounds[:-1] + room, side="right") - 1, last)
        following = np.maximum(behind, np.arange(len(behind)) + 1).tolist()
        firsts, sentence = [], 0
        while sentence < len(following):
            firsts.append(sentence)
            sentence = following[sentence]
        first = np.array(firsts)
        first = first[behind[first] - first >= 2]
        _check(
            len(first),
            shards,
            f"a document with two sentences next to each other that fit into {length} tokens",
        )
        self._begins, self._ends = bounds[first], bounds[behind[first]]
        middle = np.searchsorted(bounds, (self._begins + self._ends) // 2)
        middle = np.clip(middle, first + 1, behind[first] - 1)
        before = np.clip(middle - 1, first + 1, behind[first] - 1)
        twice = self._begins + self._ends
        nearer = np.abs(2 * bounds[before] - twice) < np.abs(2 * bounds[middle] - twice)
        self._splits = np.where(nearer, bounds[before], bounds[middle])
        self.lengths = (self._ends - self._begins + 3).astype(np.int32)

    def read(self, rows: _IntArray, epoch: int | None) -> Rows:
        """Return rows by their numbers; see `RowSource`."""
        begins, splits, ends = self._begins[rows], self._splits[rows], self._ends[rows]
        key = (0, _SWAP, 0) if epoch is None else (self._seed, _SWAP, epoch + 1)
        swapped = uniform(key, rows) < 0.5
        starts = np.stack((np.where(swapped, splits, begins), np.where(swapped, begins, splits)))
        sizes = np.stack((splits - begins, ends - splits))
        sizes = np.where(swapped, sizes[::-1], sizes)
        columns = np.arange(int((ends - begins).max()) + 1)
        first = columns < sizes[0][:, None]
        inside = columns - (sizes[0] + 1)[:, None]
        second = (inside >= 0) & (inside < sizes[1][:, None])
        at = np.where(first, starts[0][:, None] + columns, starts[1][:, None] + np.where(second, inside, 0))
        at = np.where(first | second, at, begins[:, None])
        segments = [columns <= sizes[0][:, None], second]
        return _framed(self._shards, self._tokenizer, at, first | second, segments, swapped)


def stack(parts: Sequence[Rows], pad_id: int) -> Rows:
    """Put rows of several sources below each other, filled up to one width."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.ids.shape[1] for part in parts)

    def join(arrays: Sequence[npt.NDArray[Any]], fill: int = 0) -> npt.NDArray[Any]:
        return np.concatenate(
            [np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=fill) for a in arrays]
        )

    segments = [part.segments for part in parts if part.segments is not None]
    swapped = [part.swapped for part in parts if part.swapped is not None]
    return Rows(
        join([part.ids for part in parts], pad_id),
        join([part.text for part in parts]),
        join([part.starts for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        join(segments) if segments else None,
        np.concatenate(swapped) if swapped else None,
    )


def _framed(
    shards: Shards,
    tokenizer: Tokenizer,
    at: _IntArray,
    text: npt.NDArray[np.bool_],
    segments: list[npt.NDArray[np.bool_]],
    swapped: npt.NDArray[np.bool_] | None = None,
) -> Rows:
    """Read tokens and put [CLS] and [SEP] around them.

    Args:
        at: places in the ids [R, L - 2].
        text: where they count; elsewhere in a segment stands [SEP].
        segments: which columns belong to each segment, [R, L - 2] each; what belongs to none is behind the end.
    """
    inside = np.any(segments, axis=0)
    ids = np.where(text, shards.ids[at], np.where(inside, tokenizer.sep_id, tokenizer.pad_id))
    count = len(ids)
    edge = np.zeros((count, 1), bool)
    lengths = inside.sum(axis=1) + 2
    framed = np.concatenate(
        (np.full((count, 1), tokenizer.cls_id), ids, np.full((count, 1), tokenizer.pad_id)), axis=1
    )
    framed[np.arange(count), lengths - 1] = tokenizer.sep_id
    types = None
    if len(segments) == 2:
        types = np.concatenate((edge, segments[1], edge), axis=1).astype(np.int64)
        types[np.arange(count), lengths - 1] = 1
    starts = (shards.starts[at] != 0) & text
    return Rows(
        framed.astype(np.int64),
        np.concatenate((edge, text, edge), axis=1),
        np.concatenate((edge, starts, edge), axis=1),
        lengths.astype(np.int64),
        types,
        swapped,
    )


def _check(rows: int, shards: Shards, expected: str) -> None:
    if rows == 0:
        raise InputError(
            found=f"a corpus of {shards.tokens} tokens in {len(shards.documents) - 1} documents",
            expected=expected,
            fix="Take more text or a smaller data.max_length.",
            where=str(shards.path),
        )
