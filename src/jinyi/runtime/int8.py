"""Ranges of activations, measured once on sample rows, that the 8-bit graph rounds to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch
from jinyi.config import EncoderConfig
from jinyi.errors import InputError
from jinyi.runtime.graph import INPUTS, build_graph
from jinyi.runtime.openvino_api import load_openvino

Ranges = dict[str, npt.NDArray[np.float32]]


def measure_ranges(
    config: EncoderConfig, weights: Mapping[str, npt.NDArray[Any]], batches: Iterable[Batch]
) -> Ranges:
    """Run rows in float32 and note what goes into the encoder's linear maps.

    Args:
        config: sizes of the encoder.
        weights: its arrays by Hugging Face names without the leading "bert.".
        batches: about 200 rows like those of later use; padding is left out.

    Returns:
        least and greatest value of each channel, float32 [2, channels], by the name of the linear map (the
        three maps of an attention share "encoder.layer.N.attention.self").

    Raises:
        InputError: there are no rows.
    """
    from jinyi.runtime import Head

    openvino = load_openvino()
    model = build_graph(config, weights, Head(kind="tokens"), observe=True)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]
    ranges: Ranges = {}
    for batch in batches:
        segments = np.zeros_like(batch.ids) if batch.segments is None else batch.segments
        for row, length in enumerate(batch.lengths):
            part = slice(row, row + 1), slice(0, int(length))
            inputs = (batch.ids[part], batch.lengths[row : row + 1], segments[part])
            outputs = compiled(
                {name: np.ascontiguousarray(value) for name, value in zip(INPUTS[:3], inputs, strict=True)}
            )
            for name, span in zip(names, outputs.values(), strict=True):
                least, greatest = span if name not in ranges else _widen(ranges[name], span)
                ranges[name] = np.stack((least, greatest))
    if not ranges:
        raise InputError(
            found="no rows",
            expected="about 200 rows like those of later use",
            fix="Give some.",
            where="int8 ranges",
        )
    return ranges


def _widen(
    old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return np.minimum(old[0], new[0]), np.maximum(old[1], new[1])
