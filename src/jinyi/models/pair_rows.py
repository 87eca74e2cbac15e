"""Pairs on their way to P(similar): the forms they are given in, the options of a call, their rows and logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jinyi.errors import InputError, shorten
from jinyi.models.common import FloatArray, as_list, check_truncate
from jinyi.models.source import Source
from jinyi.models.work import Pass, Work
from jinyi.runtime import Engine
from jinyi.text import check_text
from jinyi.tokens import TruncationReport, split_pair

SEPARATOR = "[SEP]"
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PairOptions:
    """The options of one call for pairs; `PairScorer.predict` says what they mean.

    Args:
        symmetric: both orders are read and their logits averaged.
        segments: "pair" or "zeros".
        truncate: "warn" or "error".
        most_rows: most rows in a batch; None leaves it to the tokens.

    Raises:
        InputError: another `truncate`.
    """

    symmetric: bool
    segments: str
    truncate: str
    most_rows: int | None = None

    def __post_init__(self) -> None:
        check_truncate(self.truncate, windows=False)

    def keys(self, pairs: Pairs) -> Pairs:
        """Return pairs so that equal questions are equal: with both orders averaged, (a, b) and (b, a) are one."""
        return [(a, b) if a <= b else (b, a) for a, b in pairs] if self.symmetric else pairs


def as_pairs(pairs: Any) -> tuple[Pairs, bool]:
    """Return pairs as a checked list, and whether it was a single one; forms as in `PairScorer.predict`.

    Raises:
        InputError: not a pair, or a side missing or empty; names the row.
    """
    if isinstance(pairs, str):
        return [_as_pair(pairs, "pair")], True
    rows = as_list(pairs, "pairs")
    texts = [side for side in rows if isinstance(side, str)]
    # ("a", None) is a pair too, one without its second side.
    alone = texts and not any(isinstance(side, (tuple, list, np.ndarray)) for side in rows)
    if (
        len(rows) == 2
        and alone
        and (isinstance(pairs, tuple) or not any(SEPARATOR in side for side in texts))
    ):
        return [_as_pair(tuple(rows), "pair")], True
    return [_as_pair(pair, f"row {row}") for row, pair in enumerate(rows)], False


def _as_pair(pair: Any, where: str) -> tuple[str, str]:
    if isinstance(pair, str):
        first, second = split_pair(pair, where)
    elif isinstance(pair, (tuple, list, np.ndarray)) and len(pair) == 2:
        first, second = pair
    else:
        size = f" of {len(pair)}" if isinstance(pair, (tuple, list, np.ndarray)) else ""
        raise InputError(
            found=f"{shorten(pair)}, a {type(pair).__name__}{size}",
            expected='two texts (a, b), or one string "a[SEP]b"',
            fix="Give both sides of the pair.",
            where=where,
        )
    return check_text(first, f"{where}, first text"), check_text(second, f"{where}, second text")


def pair_work(source: Source, engine: Engine, similar: int, pairs: Pairs, options: PairOptions) -> Work:
    """Return the rows of pairs, whose outputs become logits of "similar", float32 [n].

    Args:
        source: the model.
        engine: its encoder with a head of classes.
        similar: index of the output that means similar.
        pairs: checked pairs.
        options: of the call.
    """
    tokenizer, symmetric = source.tokenizer, options.symmetric
    both = pairs + [(b, a) for a, b in pairs] if symmetric else pairs
    encoded = tokenizer.encode_pairs(
        both, max_length=source.folder.max_length, truncate="report", segment_ids=options.segments
    )
    report = encoded.report
    if symmetric:
        once = report.rows < len(pairs)
        report = TruncationReport(len(pairs), report.rows[once], report.lost[once])

    def finish(outputs: list[FloatArray]) -> FloatArray:
        logits = _similar_logit(outputs[0], similar)
        return logits.reshape(2, -1).mean(axis=0) if symmetric else logits

    return Work((Pass(engine, encoded, tokenizer.pad_id),), finish, report)


def _similar_logit(logits: FloatArray, similar: int) -> FloatArray:
    """Log-odds of "similar": the output itself, or its distance to the log-sum of the others."""
    own = logits[:, similar]
    if logits.shape[1] == 1:
        return own
    others: FloatArray = np.logaddexp.reduce(np.delete(logits, similar, axis=1), axis=1)
    return own - others
