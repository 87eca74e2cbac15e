"""RoFormer's positions in PyTorch: queries and keys turned by angles (Su et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from jinyi.runtime.rotary import rotary_table

if TYPE_CHECKING:
    from jinyi.config import EncoderConfig


class Angles(NamedTuple):
    """Sines and cosines of positions, half a head wide: [1 or B, L, size / 2] each, or packed [T, size / 2]."""

    sines: Tensor
    cosines: Tensor


class PositionTable(nn.Module):
    """The table of `jinyi.runtime.rotary`, not trained, under Hugging Face's name of it."""

    weight: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(rotary_table(config)))

    def forward(self, places: Tensor) -> Angles:
        """The angles of position ids."""
        return Angles(*self.weight[places].chunk(2, -1))


def turn(x: Tensor, angles: Angles, heads: int) -> Tensor:
    """Turn each pair of neighbouring channels of the heads by the angle of its position.

    Args:
        x: queries, keys or values [..., width]; the leading sizes are those of `angles`.
        angles: of their positions.
        heads: number of attention heads.

    Returns:
        [..., width], of the type of `x` (under autocast the products are float32).
    """
    even, odd = torch.unflatten(x, -1, (heads, -1, 2)).unbind(-1)
    sines, cosines = angles.sines.unsqueeze(-2), angles.cosines.unsqueeze(-2)
    turned = torch.stack((even * cosines - odd * sines, odd * cosines + even * sines), -1)
    return turned.flatten(-3).to(x.dtype)
