"""Rows of different lengths as one list of tokens, so that nothing is computed for padding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WORTH = 0.9  # a batch with a larger share of real tokens stays padded
_STEP, _SHARE = 4, 4  # rows of one group differ by at most 4 tokens or a quarter of the shortest


class Group(NamedTuple):
    """Neighbouring rows of about one length.

    Attributes:
        rows: number of rows.
        length: tokens of the longest.
        tokens: tokens of all.
        places: where the tokens are in the padded rows, flat [tokens]; None when all rows are equally long.
        mask: real tokens of the padded rows [rows, 1, 1, length]; None when all rows are equally long.
    """

    rows: int
    length: int
    tokens: int
    places: Tensor | None
    mask: Tensor | None


class Packing:
    """Where the tokens of a padded batch go when its rows, sorted by length, are laid end to end.

    Args:
        lengths: real tokens of each row [B], at least 1, on the CPU.
        width: tokens of the padded rows, L.

    Attributes:
        places: place of each packed token in the flat padded batch [T].
        columns: position of each packed token in its row [T].
        firsts: the packed rows' first tokens [B], in the packed order.
        order: packed place of each row [B].
        groups: rows that attention computes together.
    """

    def __init__(self, lengths: Tensor, width: int) -> None:
        every = lengths.numpy()
        order = np.argsort(every, kind="stable")
        found = every[order]
        ends = found.cumsum()
        starts = ends - found
        columns = np.arange(ends[-1]) - starts.repeat(found)
        self.columns = torch.from_numpy(columns)
        self.places = torch.from_numpy(columns + (order * width).repeat(found))
        self.firsts = torch.from_numpy(starts)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self.order = torch.from_numpy(place)
        self.groups = []
        begin = 0
        while begin < len(found):
            longest = found[begin] + max(_STEP, found[begin] // _SHARE)
            end = int(np.searchsorted(found, longest, side="right"))
            self.groups.append(_group(found[begin:end]))
            begin = end


def _group(lengths: np.ndarray[Any, Any]) -> Group:
    length, tokens = int(lengths[-1]), int(lengths.sum())
    if length == lengths[0]:
        return Group(len(lengths), length, tokens, None, None)
    mask = torch.from_numpy(np.arange(length) < lengths[:, None])
    places = mask.flatten().nonzero()[:, 0]
    return Group(len(lengths), length, tokens, places, mask[:, None, None])


def pays(lengths: Tensor, width: int) -> bool:
    """Whether packing saves more than it costs: on processors, where padding would be a tenth or more."""
    return lengths.device.type == "cpu" and int(lengths.sum()) < WORTH * lengths.numel() * width


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(count, x.shape[1]).index_copy_(0, places, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return slope.index_select(0, *ctx.saved_tensors), None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(x)
        return x.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return slope.new_zeros(ctx.count, slope.shape[1]).index_copy_(0, places, slope), None


def spread(x: Tensor, places: Tensor | None, count: int) -> Tensor:
    """Put the rows of `x` [n, width] at distinct `places` of [count, width], zeros elsewhere; None keeps `x`."""
    if places is None:
        return x
    wide: Tensor = _Spread.apply(x, places, count)  # type: ignore[no-untyped-call]
    return wide


def collect(x: Tensor, places: Tensor | None) -> Tensor:
    """Take the rows of `x` [count, width] at distinct `places` [n]; None keeps `x`."""
    if places is None:
        return x
    narrow: Tensor = _Collect.apply(x, places)  # type: ignore[no-untyped-call]
    return narrow
