"""Losses in float32 at least: sums of exponentials and cosines lose too much in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is when it is float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def exactly(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off on that device: it would take matrix products of float32 tensors in bfloat16."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
