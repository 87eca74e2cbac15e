"""feature-extraction: the last hidden states of every token."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any, Literal

import numpy as np

from jinyi.batches import deduplicate, make_batches, progress
from jinyi.errors import InputError, MissingExtraError, shorten
from jinyi.models.common import FloatArray, as_texts, warn_cut
from jinyi.models.source import Source
from jinyi.pipelines.base import Pipeline, Reading, device_name
from jinyi.runtime import Head
from jinyi.tokens import TruncationReport


@dataclass(frozen=True)
class FeatureExtractionOptions(Reading):
    """Options of the feature-extraction pipeline; see `Reading` for those that all pipelines have.

    Args:
        return_tensors: None or False for nested lists; "np" for float32 arrays [1, L, H]; True or "pt" for torch
            tensors of that shape, which needs PyTorch.
    """

    return_tensors: bool | Literal["np", "pt"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.return_tensors not in (None, False, True, "np", "pt"):
            raise InputError(
                found=shorten(self.return_tensors),
                expected='None for lists, "np", "pt" or True',
                fix="Choose one of them.",
                where="return_tensors",
            )
        if self.return_tensors in (True, "pt") and util.find_spec("torch") is None:
            raise MissingExtraError(
                found="no PyTorch",
                expected=f"it for return_tensors={self.return_tensors!r}",
                fix='Take return_tensors="np", or install it: pip install "jinyi[train]".',
                where="return_tensors",
            )


class FeatureExtractionPipeline(Pipeline[FeatureExtractionOptions]):
    """Gives the encoder's last hidden states of texts: for one text [1][L][H], with [CLS] first and [SEP] last.

    For sentence vectors take `SentenceEncoder`, which pools them as the model was trained.

    Args:
        model: None for the shipped embedding model, a name (`jinyi models list`) or a folder of any task.
        precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda".
        options: those of `FeatureExtractionOptions`.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged.
    """

    task = "feature-extraction"
    options = FeatureExtractionOptions

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
        device: Any = "cpu",
        **options: Any,
    ) -> None:
        source = Source.open(model, "embed", precision=precision, threads=threads, device=device_name(device))
        super().__init__(source, options)
        self._engine = source.engine(Head("tokens"))

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._engine.info()

    def answers(self, rows: list[Any], chosen: FeatureExtractionOptions) -> list[Any]:
        """Return [1][L][H] of each text."""
        if chosen.truncate == "window":
            raise InputError(
                found="'window'",
                expected="'warn' or 'error'",
                fix="Tokens of several windows are no one row: split long texts yourself.",
                where="truncate",
            )
        texts, _ = as_texts(rows)
        tokenizer, limit = self._source.tokenizer, chosen.limit(self._source)
        if chosen.truncate == "error":
            tokenizer.encode(texts, max_length=limit, truncate="error")  # all of them, to name the rows
        unique, inverse = deduplicate(texts)
        encoded = tokenizer.encode(unique, max_length=limit, truncate="report")
        lost = np.zeros(len(unique), np.int64)
        lost[encoded.report.rows] = encoded.report.lost
        lost = lost[inverse]
        cut = np.flatnonzero(lost)
        warn_cut(TruncationReport(len(texts), cut, lost[cut]), chosen.truncate, limit, windows=False)
        states: list[FloatArray] = [np.empty(0, np.float32)] * len(unique)
        with progress("texts", len(unique), show=chosen.show_progress) as advance:
            batches = make_batches(encoded, pad_id=tokenizer.pad_id, most_rows=chosen.batch_size)
            for batch, values in self._engine.run(batches):
                assert isinstance(values, np.ndarray)  # noqa: S101 - the head "tokens" has one output
                for place, row in enumerate(batch.rows.tolist()):
                    states[row] = values[place, None, : batch.lengths[place]]
                advance(len(batch.rows))
        return [self._as_asked(states[place], chosen) for place in inverse.tolist()]

    def _as_asked(self, states: FloatArray, chosen: FeatureExtractionOptions) -> Any:
        if not chosen.return_tensors:
            return states.tolist()
        own = states.copy()  # equal texts share what was computed
        return own if chosen.return_tensors == "np" else import_module("torch").from_numpy(own)
