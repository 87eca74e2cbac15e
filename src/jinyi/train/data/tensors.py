"""Rows of token ids as rectangles of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jinyi.batches import make_batches


class Padded(NamedTuple):
    """Rows of different lengths side by side; B rows, L columns.

    Attributes:
        ids: int64 [B, L], token ids, filled up with the padding id.
        lengths: int64 [B], real tokens of each row; None when all rows fill the width.
        segments: int64 [B, L] of 0 and 1; None where all are 0.
    """

    ids: Tensor
    lengths: Tensor | None
    segments: Tensor | None = None


def pad(
    rows: Sequence[npt.ArrayLike], pad_id: int, splits: Sequence[int] | npt.NDArray[Any] | None = None
) -> Padded:
    """Put rows of ids side by side.

    Args:
        rows: token ids of each row, at least one row.
        pad_id: id that fills up the shorter rows.
        splits: number of leading tokens of each row that are of segment 0; None where all are.
    """
    arrays = [np.asarray(row) for row in rows]
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    columns = np.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.concatenate(arrays)
    segments = None
    if splits is not None:
        behind = (columns >= np.asarray(splits)[:, None]) & real
        segments = torch.from_numpy(behind.astype(np.int64))
    full = bool(real.all())
    return Padded(torch.from_numpy(ids), None if full else torch.from_numpy(lengths), segments)


@dataclass(frozen=True, eq=False)
class _Encoded:
    ids: Sequence[Sequence[int]]
    splits: Sequence[int]
    masks: None = None


def runs(
    rows: Sequence[Sequence[int] | npt.NDArray[Any]],
    pad_id: int,
    splits: Sequence[int] | None = None,
    *,
    tokens: int = 4096,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[npt.NDArray[np.int64], Padded]]:
    """Yield rows in batches of nearly equal length, longest first, for scoring without gradient.

    Args:
        rows: token ids of each row.
        pad_id: id that fills up the shorter rows of a batch.
        splits: as for `pad`.
        tokens: most tokens of a batch, padding included.
        device: where the tensors go.

    Yields:
        The numbers of the rows in the batch, int64 [B], and the batch; together they hold every row once.
    """
    ids: Any = rows
    sizes = [len(row) for row in rows] if splits is None else splits
    for batch in make_batches(_Encoded(ids, sizes), pad_id=pad_id, token_budget=tokens):
        width = batch.ids.shape[1]
        full = bool((batch.lengths == width).all())
        yield (
            batch.rows,
            Padded(
                torch.from_numpy(batch.ids).long().to(device),
                None if full else torch.from_numpy(batch.lengths).long().to(device),
                None if batch.segments is None else torch.from_numpy(batch.segments).long().to(device),
            ),
        )
