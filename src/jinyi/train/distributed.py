"""Rows of all processes in one tensor, with gradients that are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, in the order of their ranks.

    Gradients flow back to the process a row came from, summed over all processes that used it. So where the losses of
    the processes add up to the loss of the whole batch, their gradients add up to the gradient that one process with
    the whole batch would have. (A data-parallel wrapper averages: the loop multiplies by the number of processes.)

    It is a meeting of all processes, forward and backward: each must call it, as often and in the same order, and where
    one row has a gradient the result must be part of the loss on every process, else the others wait for ever. Keep it
    out of functions that `torch.utils.checkpoint` computes again.

    Args:
        rows: [n, ...] of any type; n may differ between processes and may be 0, the other sizes may not.

    Returns:
        All rows [N, ...], and the place of this process's first row in them. With one process: `rows` itself and 0.

    Cost: sends world * max(n) rows forwards, and reduces [N, ...] backwards (in float32 at least).
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    sizes = _sizes(rows)
    offset = sum(sizes[: dist.get_rank()])
    gather: Callable[..., Tensor] = _Gather.apply
    return gather(rows, sizes, offset), offset


def _sizes(rows: Tensor) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    return [int(size) for size in every]


class _Gather(torch.autograd.Function):
    """all_gather that also goes back; the one of torch.distributed.nn needs as many rows on every process."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], offset: int) -> Tensor:
        ctx.own = slice(offset, offset + len(rows))
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        total = gradient.to(
            torch.promote_types(gradient.dtype, torch.float32),
            copy=True,
            memory_format=torch.contiguous_format,
        )
        dist.all_reduce(total)
        return total[ctx.own].to(gradient.dtype), None, None
