"""Runs an encoder and its head on batches of ids: OpenVINO on processors, PyTorch on CUDA, one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jinyi.arguments import whole_number
from jinyi.batches import Batch
from jinyi.config import EncoderConfig
from jinyi.errors import InputError, shorten

FloatArray = npt.NDArray[np.float32]
Output = FloatArray | tuple[FloatArray, FloatArray]

KINDS = ("vector", "tokens", "classes", "mlm")
POOLINGS = ("cls", "mean", "first_last", "max")
PRECISIONS = ("auto", "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, eq=False)
class Head:
    """What is computed from the encoder's last hidden states.

    Args:
        kind: "vector" one vector per row, float32 [B, d];
            "tokens" the last hidden states, float32 [B, L, hidden_size] (columns from `Batch.lengths` on are
            padding and mean nothing);
            "classes" logits, float32 [B, n_labels], from the pooler (if there is one) and `classifier`;
            "mlm" scores of words at the mask positions, float32 [B, m, n_words].
        pooling: how "vector" pools positions: "cls" the first one, "mean" over all real ones, "max" over all
            real ones, "first_last" the mean over the averaged outputs of the first and the last layer
            (Su et al. 2021, BERT-whitening).
        dense: linear maps after pooling, in order, as (weight [out, in], bias [out] or None), for instance
            whitening.
        normalize: divide each vector by its Euclidean length (after `dense`).
        label_ids: vocabulary ids scored by "mlm", in the order of the output; None scores all.
        log_normalizer: "mlm" also returns the log of the sum of exponentials over the whole vocabulary,
            float32 [B, m], so that `scores - log_normalizer[..., None]` are log-probabilities.

    Raises:
        InputError: an unknown kind or pooling.
    """

    kind: str = "vector"
    pooling: str = "cls"
    dense: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] = field(default_factory=tuple)
    normalize: bool = False
    label_ids: npt.NDArray[np.integer[Any]] | None = None
    log_normalizer: bool = False

    def __post_init__(self) -> None:
        _choose("kind", self.kind, KINDS)
        _choose("pooling", self.pooling, POOLINGS)


class Engine(Protocol):
    """An encoder with its head, loaded and ready to run."""

    precision: str

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        """Yield each batch with its output, in the order they are done; see `Head` for the shapes.

        Batches are drawn from the iterable only as fast as they are computed.

        Args:
            batches: what to compute.
            shared: other calls run at the same time. A few short rows are then computed on one core, where each
                alone would spread over all of them: slower for the one, half as much again for all.

        Raises:
            InputError: a row is longer than the model's positions or holds ids outside the vocabulary.
            FolderError: an output holds NaN or infinity: damaged weights, or a precision that overflows.
        """
        ...

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why they were chosen."""
        ...


def open_engine(
    config: EncoderConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    head: Head,
    *,
    precision: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    ranges: Mapping[str, FloatArray] | None = None,
) -> Engine:
    """Build the encoder and its head from weights and make it ready to run.

    Args:
        config: sizes of the encoder.
        weights: arrays by their Hugging Face names without the leading "bert."; any float type.
        head: what to compute from the hidden states.
        precision: "float32"; "bfloat16" where the processor has it; "int8"; "int8-weights" for the matrices of the
            layers in 8 bits and everything else in float32; "int8-dynamic" for these, and activations that are rounded
            to 8 bits as they come, in groups of 32; "auto" for the fastest that keeps the promise of the same vector
            within 1e-5 whatever the batch: float32.
        threads: processor threads; None takes the cores really available (see `jinyi.runtime.cores`).
        device: "cpu" or "cuda" (needs the extra `train`).
        ranges: ranges of activations for "int8", from `jinyi.runtime.int8.measure_ranges`.

    Returns:
        an engine; it keeps `weights`, so give memory-mapped arrays where there are many.

    Raises:
        InputError: an unknown precision or device, or one this machine does not have.
        FolderError: a weight is missing or has the wrong shape.
        MissingExtraError: device "cuda" without PyTorch.
    """
    _choose("precision", precision, PRECISIONS)
    _choose("device", device, DEVICES)
    if threads is not None:
        threads = whole_number(
            threads, "threads", most=1024, fix="Leave it out: the cores available are taken."
        )
    if device == "cuda":
        from jinyi.runtime.torch_engine import TorchEngine

        return TorchEngine(config, weights, head, precision=precision)
    from jinyi.runtime.engine import OpenVinoEngine

    return OpenVinoEngine(config, weights, head, precision=precision, threads=threads, ranges=ranges)


def _choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            found=shorten(value),
            expected=f"one of {', '.join(choices)}",
            fix="Choose one of them.",
            where=name,
        )
