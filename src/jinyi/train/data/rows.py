"""Training and dev files as tokenised rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import chunks
from jinyi.errors import InputError, TruncationWarning, shorten
from jinyi.files.labels import label_name, label_number, place_of
from jinyi.text import empty_error
from jinyi.tokens import Tokenizer
from jinyi.train.data.records import SIDES, Record, read_records
from jinyi.train.recipe import Data, Source

_SPLITS = {"train", "dev", "valid", "validation", "test", "test_public", "val"}


class Ragged:
    """Token ids of many texts in one array; no [CLS], no [SEP].

    Args:
        ids: all ids one after the other, unsigned [tokens].
        bounds: int64 [n + 1], where each text begins, and the end.
    """

    def __init__(self, ids: npt.NDArray[Any], bounds: npt.NDArray[np.int64]) -> None:
        self.ids, self.bounds = ids, bounds

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        ids: npt.NDArray[Any] = self.ids[self.bounds[row] : self.bounds[row + 1]]
        return ids

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, int64 [n]."""
        lengths: npt.NDArray[np.int64] = np.diff(self.bounds)
        return lengths


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one file; n rows of k texts each (pairs 2, triplets 3, others 1).

    Args:
        name: what logs call the file.
        path: the file.
        kind: "pairs", "triplets", "texts" or "topics".
        source: the section of the recipe.
        texts: the k sides, token ids without control tokens.
        keys: int64 [n, k], equal where the model reads the same text.
        labels: what stands in the file or what `Source.labels` makes of it; None in a row without a label.
        lines: int64 [n], line of each row in the file, from 1.
        lost: int64 [n], tokens of each row that `data.max_length` has cut off.
    """

    name: str
    path: Path
    kind: str
    source: Source
    texts: tuple[Ragged, ...]
    keys: npt.NDArray[np.int64]
    labels: list[Any]
    lines: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of all texts of a row together, int64 [n]."""
        total: npt.NDArray[np.int64] = np.sum([side.lengths for side in self.texts], axis=0)
        return total

    @property
    def labelled(self) -> bool:
        """Whether any row has a label."""
        return any(label is not None for label in self.labels)

    def where(self, row: int) -> str:
        """Return the place of a row, for messages."""
        return place_of(self.path, int(self.lines[row]))

    def scores(self, least: float = -np.inf, most: float = np.inf) -> npt.NDArray[np.float32]:
        """Return the labels as numbers, float32 [n].

        Raises:
            InputError: a label is no number from `least` to `most`; names file and line.
        """
        values = np.empty(len(self), np.float32)
        for row, label in enumerate(self.labels):
            number = label_number(label)
            if number is None or not least <= number <= most:
                limits = "" if least == -np.inf else f" from {least:g} to {most:g}"
                raise InputError(
                    found=f"label {shorten(label)}",
                    expected=f"a number{limits}",
                    fix="Correct the row, or say in the source's `labels` what it stands for (null leaves rows out).",
                    where=self.where(row),
                )
            values[row] = number
        return values

    def classes(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of each row's class, int64 [n].

        A label is a name, or the number of a class where no name is a number.

        Raises:
            InputError: a label is none of `names`; names file and line.
        """
        numbers: dict[str, int] = {name: number for number, name in enumerate(names)}
        if not any(label_number(name) is not None for name in names):
            numbers |= {str(number): number for number in range(len(names))}
        values = np.empty(len(self), np.int64)
        for row, label in enumerate(self.labels):
            number = numbers.get(label_name(label))
            if number is None:
                raise InputError(
                    found=f"label {shorten(label)}",
                    expected=f"one of {shorten(list(names), 80)}",
                    fix="Add it to the recipe's labels, or say in the source's `labels` what it stands for "
                    "(null leaves rows out).",
                    where=self.where(row),
                )
            values[row] = number
        return values


def source_path(source: Source, data: Data) -> Path:
    """Return where a file of the recipe lies."""
    return Path(data.folder or ".", source.file).expanduser()


def source_name(source: Source) -> str:
    """Return what logs call a file: its name, or its folder's where it is called train, dev or test."""
    if source.name is not None:
        return source.name
    path = Path(source.file)
    stem = path.name.split(".")[0]
    return path.parent.name if stem in _SPLITS and path.parent.name else stem


def read_rows(
    source: Source,
    data: Data,
    tokenizer: Tokenizer,
    kind: str,
    *,
    limit: int | None = None,
    together: bool = False,
    halved: bool = False,
    tell: bool = True,
) -> Rows:
    """Read and tokenise one file.

    Each text is kept up to `data.max_length` tokens, [CLS] and [SEP] counted; a TruncationWarning tells how many were
    longer. Memory: two bytes a token (four where the vocabulary is larger than 65,536) and some 100 a row.

    Args:
        source: which file, and how to read it.
        data: for `folder` and `max_length`.
        tokenizer: text to ids.
        kind: "pairs", "triplets", "texts" or "topics"; what is read where `source.kind` is None.
        limit: only the first so many rows, beside `source.limit`.
        together: the texts of a row will be one input, of at most `data.max_length` tokens; decides what is counted as
            cut.
        halved: read a triplet as two pairs, anchor and positive with label 1, anchor and negative with label 0.
        tell: give the warning; False where the caller does, who knows that more is cut.

    Raises:
        InputError: file missing or damaged, a column missing, an empty text, a label that `source.labels` does not
            know, or no row at all; names file and line.
    """
    kind = source.kind or kind
    path = source_path(source, data)
    records = read_records(path, source, kind)
    if halved and kind == "triplets":
        records, kind = _halves(records), "pairs"
    limits = [most for most in (source.limit, limit) if most is not None]
    most = min(limits, default=None)
    sides = len(SIDES[kind])
    builders = [_Builder(tokenizer, path, data.max_length) for _ in range(sides)]
    lines: list[int] = []
    labels: list[Any] = []
    for part in chunks(islice(records, most)):
        lines += [line for line, _, _ in part]
        labels += [label for _, _, label in part]
        for side, builder in enumerate(builders):
            builder.add([texts[side] for _, texts, _ in part], lines[-len(part) :])
    if not lines:
        raise InputError(
            found="no row that is left" if source.labels else "no row",
            expected="at least one row",
            fix="Check the file, and which labels the source maps to null.",
            where=str(path),
        )
    full = np.array([np.concatenate(builder.full) for builder in builders])
    if tell:
        _warn_cut(path, full.sum(0) if together else full, data.max_length, sides if together else 1)
    texts = tuple(builder.finish() for builder in builders)
    lost = full.sum(0) - np.sum([text.lengths for text in texts], axis=0)
    keys = np.stack([np.concatenate(builder.keys) for builder in builders], axis=1)
    return Rows(source_name(source), path, kind, source, texts, keys, labels, np.array(lines), lost)


def _halves(records: Iterable[Record]) -> Iterator[Record]:
    for line, (anchor, positive, negative), _ in records:
        yield line, (anchor, positive), 1
        yield line, (anchor, negative), 0


class _Builder:
    """One side of the rows, chunk by chunk: ids, sizes, keys, and lengths before anything was cut."""

    def __init__(self, tokenizer: Tokenizer, path: Path, max_length: int) -> None:
        self.tokenizer, self.path, self.max_length = tokenizer, path, max_length
        self.type = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        self.ids: list[npt.NDArray[Any]] = []
        self.sizes: list[npt.NDArray[np.int64]] = []
        self.full: list[npt.NDArray[np.int64]] = []
        self.keys: list[npt.NDArray[np.int64]] = []

    def add(self, texts: list[str], lines: list[int]) -> None:
        encoded = self.tokenizer.encode(
            texts, max_length=self.max_length, truncate="report", allow_empty=True
        )
        sizes = np.fromiter(map(len, encoded.ids), np.int64, len(texts)) - 2  # [CLS], [SEP]
        if not sizes.all():
            row = int(np.flatnonzero(sizes == 0)[0])
            raise empty_error(texts[row], place_of(self.path, lines[row]))
        ids = np.fromiter(chain.from_iterable(row[1:-1] for row in encoded.ids), self.type, int(sizes.sum()))
        digests = [
            blake2b(part.tobytes(), digest_size=8).digest() for part in np.split(ids, np.cumsum(sizes)[:-1])
        ]
        full = sizes.copy()
        full[encoded.report.rows] += encoded.report.lost
        self.ids.append(ids)
        self.sizes.append(sizes)
        self.full.append(full)
        self.keys.append(np.frombuffer(b"".join(digests), "<i8").astype(np.int64))

    def finish(self) -> Ragged:
        bounds = np.concatenate([[0], *self.sizes]).cumsum()
        return Ragged(np.concatenate(self.ids), bounds)


def _warn_cut(path: Path, lengths: npt.NDArray[np.int64], max_length: int, texts: int) -> None:
    """Tell how many inputs of so many texts each are too long."""
    over = lengths - (max_length - 1 - texts)
    cut = int((over > 0).sum())
    if cut:
        warnings.warn(
            f"{path}: {cut} of {over.size} {'texts' if texts == 1 else 'rows'} cut, {int(over[over > 0].sum())} tokens "
            f"not read: data.max_length is {max_length} with [CLS] and [SEP]",
            TruncationWarning,
            stacklevel=3,
        )
