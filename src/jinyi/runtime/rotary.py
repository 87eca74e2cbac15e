"""Positions as angles: the table that turns RoFormer's queries and keys (Su et al. 2021)."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jinyi.config import EncoderConfig

TABLE = "encoder.embed_positions.weight"
_BASE = 10000.0


def rotary_table(config: EncoderConfig) -> npt.NDArray[np.float32]:
    """Return the sines, then the cosines of position p times 10000^(-2i/d), d the width of a head.

    Returns:
        float32 [max_position_embeddings, d]: column i < d/2 turns channels 2i and 2i + 1 of a head.
    """
    size = config.head_size
    frequency = 1 / _BASE ** (np.arange(0, size, 2) / size)
    angle = np.arange(config.max_position_embeddings)[:, None] * frequency
    return np.concatenate((np.sin(angle), np.cos(angle)), axis=1).astype(np.float32)


def with_rotary_table(
    config: EncoderConfig, weights: Mapping[str, npt.NDArray[Any]]
) -> Mapping[str, npt.NDArray[Any]]:
    """Add the table to a RoFormer's weights that come without it.

    A stored table counts: in a half-precision folder it is rounded, and other readers compute with it.
    """
    if not config.rotary or TABLE in weights:
        return weights
    layers = ({TABLE: rotary_table(config)}, weights)
    return cast(Mapping[str, npt.NDArray[Any]], ChainMap(*cast(Any, layers)))
