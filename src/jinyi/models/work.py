"""Rows to compute for some inputs, and what becomes of their outputs.

The three model classes cut their path in two here: `prepare` makes rows of tokens, `Work.finish` makes results of the
rows' outputs. Between the two, `run` computes them in this process; a server computes the rows of many requests
together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import make_batches
from jinyi.runtime import Engine, Output
from jinyi.tokens import Encoded, TruncationReport

FloatArray = npt.NDArray[np.float32]
RowOutputs = FloatArray | tuple[FloatArray, FloatArray] | list[FloatArray]
"""Outputs of an engine by row: [rows, ...]; scores [rows, m, words] with log-normalisers [rows, m]; or, for the head
"tokens", an array [L, hidden_size] for each row of L tokens."""


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """Rows for one engine.

    Args:
        engine: what computes them.
        encoded: the rows.
        pad_id: token id that fills up the shorter rows of a batch.
        words: for an engine that scores the whole vocabulary at masks: the ids whose scores are wanted, int64 [words];
            None wants all that it gives.
    """

    engine: Engine
    encoded: Encoded
    pad_id: int
    words: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """What some inputs need of engines, and how results are made of it.

    Args:
        passes: the rows; none where results need no encoder.
        finish: makes the results of the inputs, in their order, from the outputs of each pass. It may write into the
            arrays it is given.
        report: which inputs were cut.
    """

    passes: tuple[Pass, ...]
    finish: Callable[[list[Any]], Any]
    report: TruncationReport

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows, [CLS] and [SEP] included."""
        return sum(len(ids) for part in self.passes for ids in part.encoded.ids)


def run(work: Work, most_rows: int | None = None) -> Any:
    """Compute the results of a work in this process.

    Args:
        work: from a model's `prepare`.
        most_rows: most rows in a batch; None leaves it to the tokens.
    """
    return work.finish([run_pass(part, most_rows) for part in work.passes])


def run_pass(part: Pass, most_rows: int | None = None) -> RowOutputs:
    """Run rows, at most so many at a time, and return their outputs in order."""
    encoded = part.encoded
    gathered = Outputs(len(encoded.ids), ragged=encoded.masks is None)
    for batch, output in part.engine.run(make_batches(encoded, pad_id=part.pad_id, most_rows=most_rows)):
        gathered.put(batch.rows, batch.lengths, pick(output, part.words))
    return gathered.rows()


def pick(output: Output, words: npt.NDArray[np.int64] | None) -> Output:
    """Return an output with the scores of these words alone; None leaves it as it is."""
    if words is None:
        return output
    if isinstance(output, tuple):
        return output[0][:, :, words], output[1]
    return output[:, :, words]


class Outputs:
    """Puts the outputs of batches where their rows belong.

    Args:
        count: number of rows.
        ragged: whether outputs with three dimensions are states of tokens, [B, L, hidden_size], whose rows are cut to
            their real lengths, and not scores at masks.
    """

    def __init__(self, count: int, *, ragged: bool) -> None:
        self._count = count
        self._ragged = ragged
        self._out: tuple[FloatArray, ...] | None = None
        self._states: list[FloatArray] | None = None

    def put(self, rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32], output: Output) -> None:
        """Store the output of a batch.

        Args:
            rows: int64 [B], which row each batch row is.
            lengths: int32 [B], real tokens of each.
            output: of the engine, picked.
        """
        parts = output if isinstance(output, tuple) else (output,)
        if self._ragged and parts[0].ndim == 3:
            if self._states is None:
                self._states = [np.empty((0, parts[0].shape[2]), np.float32)] * self._count
            for place, row in enumerate(rows.tolist()):
                self._states[row] = parts[0][place, : lengths[place]]
            return
        if self._count == 1 and len(rows) == 1:  # it waits for the answer
            self._out = tuple(np.array(part, np.float32) for part in parts)
            return
        if self._out is None:
            self._out = tuple(np.empty((self._count, *part.shape[1:]), np.float32) for part in parts)
        for whole, part in zip(self._out, parts, strict=True):
            whole[rows] = part

    def rows(self) -> RowOutputs:
        """Return what was stored; an array [0, 0] where there were no rows."""
        if self._states is not None:
            return self._states
        if self._out is None:
            return np.empty((0, 0), np.float32)
        return self._out[0] if len(self._out) == 1 else (self._out[0], self._out[1])
