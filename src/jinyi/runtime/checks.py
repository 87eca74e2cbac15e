"""What both engines check: weights against the configuration, batches before and outputs after computing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError


def checked_weight(
    weights: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Return a weight as it is stored.

    Raises:
        FolderError: it is missing or has another shape.
    """
    if name not in weights:
        found, expected = "no such weight", f"an array of shape {shape}"
    else:
        array = np.asarray(weights[name])
        if array.shape == shape:
            return array
        found, expected = f"shape {array.shape}", f"{shape}, as config.json says"
    raise FolderError(
        found=found,
        expected=expected,
        fix="Take model.safetensors and config.json from the same model.",
        where=f"weight {name}",
    )


def check_batch(config: EncoderConfig, batch: Batch, *, masks: bool) -> None:
    """Check that a batch fits the model before it is computed.

    Raises:
        InputError: ids or segments are outside their tables, rows are longer than the positions, or mask
            positions are outside the row or, where `masks` are to be scored, missing.
    """
    if masks and batch.positions is None:
        raise InputError(
            found="rows without mask positions",
            expected="one or more in each row",
            fix="Encode the texts with a prompt.",
            where=f"the batch of row {int(batch.rows[0])}",
        )
    limits = [
        ("tokens in a row", int(batch.lengths.max()), config.max_position_embeddings),
        ("token id", int(batch.ids.max()), config.vocab_size - 1),
        ("segment", 0 if batch.segments is None else int(batch.segments.max()), config.type_vocab_size - 1),
    ]
    if batch.positions is not None:
        limits.append(("mask position", int(batch.positions.max()), batch.ids.shape[1] - 1))
    for name, greatest, limit in limits:
        if greatest > limit:
            raise InputError(
                found=f"{name}: {greatest}",
                expected=f"at most {limit}",
                fix="Use the tokenizer and max_length of this model.",
                where=f"the batch of row {int(batch.rows[0])}",
            )


def check_finite(batch: Batch, output: npt.NDArray[np.float32]) -> None:
    """Raise a FolderError that names the rows if the output holds NaN or infinity."""
    if np.isfinite(output.sum()):
        return
    bad = batch.rows[~np.isfinite(output).reshape(len(output), -1).all(axis=1)]
    if len(bad):  # else the sum overflowed and the values did not
        raise FolderError(
            found=f"NaN or infinity in the output of {len(bad)} rows, the first of them row {int(bad[0])}",
            expected="finite numbers",
            fix="The weights are damaged or overflow in this precision: take the files anew or use float32.",
            where="model output",
        )
