"""What the tests of losses share. Needs PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x: Tensor, y: Tensor) -> float:
    dot = sum(float(i) * float(j) for i, j in zip(x, y, strict=True))
    return dot / math.sqrt(sum(float(i) ** 2 for i in x)) / math.sqrt(sum(float(j) ** 2 for j in y))


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    point = at.clone().requires_grad_()
    loss(point).backward()
    assert point.grad is not None
    return point.grad
