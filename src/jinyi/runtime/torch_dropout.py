"""Dropout for training on processors: the function of `torch.nn.functional.dropout`, several times as fast.

PyTorch draws a Bernoulli number for each element, which in a small encoder costs more than its matrix products
(docs/training-speed.md). Here 16 random bits decide, and dropped elements are cleared by a bitwise and.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_STEPS = 1 << 16


def draw_kept(shape: torch.Size, rate: float) -> Tensor:
    """Which elements stay: int8 on the CPU, -1 (all bits) for those that stay and 0 for the dropped ones.

    The seed comes from PyTorch's default generator, so `torch.manual_seed` and activation checkpointing hold for it.

    Args:
        shape: of the tensor that is thinned out.
        rate: share that is dropped; met to 1/65536.
    """
    count = shape.numel()
    seed = int(torch.randint(2**63 - 1, ()))
    bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.uint16)[:count]
    kept = torch.from_numpy(bits < _dropped_below(rate)).view(torch.int8)
    return kept.neg_().view(shape)


def gain(rate: float) -> float:
    """What the kept elements are multiplied by, so that the expectation stays."""
    return _STEPS / _dropped_below(rate)


def _dropped_below(rate: float) -> int:
    return min(max(round((1 - rate) * _STEPS), 1), _STEPS - 1)


def clear(x: Tensor, kept: Tensor) -> Tensor:
    """`x` with its dropped elements set to 0, unscaled; `kept` as from `draw_kept`."""
    whole = _WHOLE[x.element_size()]
    return x.view(whole).bitwise_and(kept.to(whole)).view(x.dtype)


def fast(x: Tensor, rate: float) -> bool:
    """Whether this module does the dropout of `x` itself: on processors, at rates strictly between 0 and 1."""
    return x.device.type == "cpu" and 0 < rate < 1 and x.element_size() in _WHOLE


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        kept = draw_kept(x.shape, rate)
        ctx.save_for_backward(kept)
        ctx.gain = gain(rate)
        return clear(x, kept).mul_(ctx.gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return clear(slope, kept).mul_(ctx.gain), None


class _AddedDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, rate: float) -> Tensor:
        kept = draw_kept(branch.shape, rate)
        ctx.save_for_backward(kept)
        ctx.gain, ctx.dtype = gain(rate), branch.dtype
        return torch.add(x, clear(branch, kept), alpha=ctx.gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        (kept,) = ctx.saved_tensors
        return slope, clear(slope.to(ctx.dtype), kept).mul_(ctx.gain), None


def dropout(x: Tensor, rate: float) -> Tensor:
    """`x` with a share `rate` of its elements set to 0 and the others scaled up."""
    if fast(x, rate):
        dropped: Tensor = _Dropped.apply(x, rate)  # type: ignore[no-untyped-call]
        return dropped
    return F.dropout(x, rate)


def add_dropped(x: Tensor, branch: Tensor, rate: float) -> Tensor:
    """`x + dropout(branch)` in one pass; both of one shape, `branch` may be of lower precision."""
    if fast(branch, rate):
        added: Tensor = _AddedDropped.apply(x, branch, rate)  # type: ignore[no-untyped-call]
        return added
    return x + F.dropout(branch, rate)
