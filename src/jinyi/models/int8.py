"""Prepares a model folder for 8-bit arithmetic: measures the ranges of its activations on sample inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from jinyi.batches import make_batches
from jinyi.folder import read_folder
from jinyi.runtime.int8 import Ranges, measure_ranges
from jinyi.tokens import Tokenizer


def measure(path: str | os.PathLike[str], inputs: Sequence[str] | Sequence[tuple[str, str]]) -> Ranges:
    """Measure the ranges that precision "int8" rounds to, for `write_folder(ranges=...)`.

    Args:
        path: a model folder.
        inputs: about 200 texts, or pairs for a pair model, like those of later use. Cost: one float32 pass each.

    Returns:
        least and greatest value of each channel, float32 [2, channels], by the name of the linear map.

    Raises:
        InputError: no inputs, or some that are not text.
    """
    folder = read_folder(path)
    tokenizer = Tokenizer.from_folder(folder.tokenizer_file.parent, max_length=folder.max_length)
    if inputs and not isinstance(inputs[0], str):
        encoded = tokenizer.encode_pairs(inputs, truncate="report", segment_ids=folder.segment_ids)
    else:
        encoded = tokenizer.encode([str(text) for text in inputs], truncate="report")
    return measure_ranges(folder.config, folder.weights(), make_batches(encoded, pad_id=tokenizer.pad_id))
