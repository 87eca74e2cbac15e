"""Attention in PyTorch, for rows of one length and for rows packed without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from jinyi.runtime.torch_dropout import clear, draw_kept, fast, gain
from jinyi.runtime.torch_packing import Packing, collect, spread


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention.

    Training on a processor multiplies the matrices out where PyTorch's fused kernel is slower: its backward pass is
    for short texts, in bfloat16 most of all (benchmarks/attention.py), and with dropout it has none.

    Args:
        query: [B, heads, Q, size].
        key, value: [B, heads, L, size].
        mask: broadcasts to [B, heads, Q, L]; True = may look. None for no mask.
        dropout: share of the attention weights that is dropped.

    Returns:
        [B, heads, Q, size].
    """
    short = 16 if query.dtype == torch.float32 else 128
    multiplied = fast(query, dropout) or key.shape[-2] <= short
    if query.device.type != "cpu" or not query.requires_grad or not multiplied:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    mixed: Tensor = _Products.apply(query, key, value, mask, dropout)  # type: ignore[no-untyped-call]
    return mixed


class _Products(torch.autograd.Function):
    """Softmax attention with its products multiplied out.

    Keeps the weights before dropout and one byte an element of what was dropped; PyTorch's own operators would keep
    the weights twice.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        rows, heads, count, size = query.shape
        ctx.scale = size**-0.5
        ctx.gain = gain(dropout) if dropout else 1.0
        query = torch.mul(query, ctx.scale, out=query.new_empty(query.shape)).flatten(0, 1)
        key, value = (x.reshape(rows * heads, -1, size) for x in (key, value))
        scores = torch.bmm(query, key.transpose(1, 2)).view(rows, heads, count, -1)
        if mask is not None:
            hidden = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
            scores += hidden
        weights = scores.softmax(-1).view(rows * heads, count, -1)
        kept = draw_kept(weights.shape, dropout) if dropout else None
        mixed = torch.bmm(weights if kept is None else clear(weights, kept), value)
        if kept is not None:
            mixed.mul_(ctx.gain)
        ctx.save_for_backward(query, key, value, weights, kept)
        return mixed.view(rows, heads, count, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, weights, kept = ctx.saved_tensors
        shape = slope.shape
        slope = torch.mul(slope, ctx.gain, out=slope.new_empty(shape)).flatten(0, 1)
        used = weights if kept is None else clear(weights, kept)
        to_value = torch.bmm(used.transpose(1, 2), slope)
        to_weights = torch.bmm(slope, value.transpose(1, 2))
        if kept is not None:
            to_weights = clear(to_weights, kept)
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        to_query = torch.bmm(to_scores, key).mul_(ctx.scale)
        to_key = torch.bmm(to_scores.transpose(1, 2), query)
        rest = (*shape[:2], -1, shape[-1])
        return to_query.view(shape), to_key.view(rest), to_value.view(rest), None, None


def attend_packed(query: Tensor, key_value: Tensor, packing: Packing, heads: int, dropout: float) -> Tensor:
    """Attention inside each row of packed tokens.

    Rows of about one length are computed together; only there, and only inside attention, something is padded.

    Args:
        query: [T, width], or [B, width] when only the rows' first tokens look.
        key_value: keys and values side by side [T, 2 * width].
        packing: where the rows are.
        heads: number of attention heads.
        dropout: share of the attention weights that is dropped.

    Returns:
        [T, width] or [B, width], in the order of `query`.
    """
    width = query.shape[-1]
    size = width // heads
    first = len(query) != len(key_value)
    sizes = [group.rows if first else group.tokens for group in packing.groups]
    queries = torch.split(query, sizes)
    sides = torch.split(key_value, [group.tokens for group in packing.groups])
    mixed = []
    for group, asks, side in zip(packing.groups, queries, sides, strict=True):
        places = None if first else group.places
        rows, length = group.rows, group.length
        asks = spread(asks, places, asks.shape[0] if first else rows * length)
        asks = asks.view(rows, -1, heads, size).transpose(1, 2)
        side = spread(side, group.places, rows * length).view(rows, length, 2, heads, size)
        key, value = side.permute(2, 0, 3, 1, 4)
        seen = attend(asks, key, value, group.mask, dropout)
        mixed.append(collect(seen.transpose(1, 2).reshape(-1, width), places))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)
