"""What happens to texts that are too long: cut, refused or read in windows, and the account of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, TruncationWarning, shorten

TruncateMode = Literal["error", "warn", "window", "report"]


@dataclass(frozen=True, eq=False)
class TruncationReport:
    """What was not read because it was too long.

    Args:
        total: number of inputs.
        rows: int64 [cut], which inputs were cut, ascending.
        lost: int64 [cut], tokens each of them lost.
    """

    total: int
    rows: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]

    @property
    def cut(self) -> int:
        """Number of inputs that were cut."""
        return len(self.rows)

    @property
    def tokens_lost(self) -> int:
        """Number of tokens that were not read."""
        return int(self.lost.sum())

    def __str__(self) -> str:
        if not self.cut:
            return f"none of {self.total} texts cut"
        named = ", ".join(map(str, self.rows[:5].tolist())) + (", ..." if self.cut > 5 else "")
        rows = "row" if self.cut == 1 else "rows"
        return f"{self.cut} of {self.total} texts cut, {self.tokens_lost} tokens not read ({rows} {named})"


def check_mode(truncate: str, modes: tuple[str, ...]) -> None:
    """Raise InputError for a mode that this call does not have."""
    if truncate not in modes:
        raise InputError(
            found=shorten(truncate),
            expected=" or ".join(map(repr, modes)),
            fix="Pairs are read whole or cut: windows have no meaning for them."
            if truncate == "window"
            else "Choose one of them.",
            where="truncate",
        )


def report_on(over: npt.NDArray[np.int64], count: int) -> TruncationReport:
    """Return the report on `count` texts of which each is `over` tokens too long, if above 0."""
    rows = np.flatnonzero(over > 0)
    return TruncationReport(count, rows, over[rows])


def settle(report: TruncationReport, truncate: str, limit: int, what: str) -> None:
    """Raise or warn as the mode says."""
    if not report.cut or truncate == "report":
        return
    windows = " or truncate='window'" if what == "texts" else ""
    if truncate == "error":
        named = ", ".join(
            f"row {row} has {limit + lost}"
            for row, lost in zip(report.rows[:5].tolist(), report.lost[:5].tolist(), strict=True)
        )
        more = ", ..." if report.cut > 5 else ""
        raise InputError(
            found=f"{report.cut} of {report.total} {what} too long: {named}{more}",
            expected=f"at most {limit} tokens with [CLS] and [SEP]",
            fix=f"Shorten them, or pass truncate='warn'{windows}.",
        )
    warnings.warn(
        f"{report}: the limit is {limit} tokens with [CLS] and [SEP]. truncate='error' refuses such {what}"
        + (", 'window' reads them whole." if what == "texts" else "."),
        TruncationWarning,
        stacklevel=4,  # of who called the tokenizer, which called the frame
    )


def windows_of(row: list[int], room: int) -> list[list[int]]:
    """Cut into full windows, evenly spaced, that overlap by a quarter or more."""
    if len(row) <= room:
        return [row]
    step = max(1, room - room // 4)
    last = len(row) - room
    count = -(-last // step) + 1
    return [row[start : start + room] for start in (index * last // (count - 1) for index in range(count))]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay when together they may have `room`."""
    short = min(first, second, room // 2)
    return (short, room - short) if first <= second else (room - short, short)
