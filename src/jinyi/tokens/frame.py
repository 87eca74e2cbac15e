"""From the ids of texts to the rows that a model reads: control tokens and prompts around them, too long ones cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from jinyi.tokens.cut import TruncationReport, check_mode, longest_first, report_on, settle, windows_of

Ids = list[int]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids ready for batching; one entry for each input, or for each window of it.

    Args:
        ids: token ids of each entry, [CLS] and [SEP] included.
        splits: number of leading tokens of each entry that are of segment 0; all of them for single texts.
        masks: places in `ids` of the [MASK]s a prompt put in, equally many in each entry; None without a
            prompt.
        owners: int64, the input row of each entry; entry i belongs to row i unless texts were cut into
            windows.
        report: what was cut.
    """

    ids: list[list[int]]
    splits: list[int]
    masks: list[list[int]] | None
    owners: npt.NDArray[np.int64]
    report: TruncationReport


def frame_texts(
    tokens: list[Ids], prefix: Ids, suffix: Ids, *, limit: int, truncate: str, mask_id: int | None = None
) -> Encoded:
    """Put each text between `prefix` and `suffix`.

    Args:
        tokens: ids of whole texts; they stay as they are.
        prefix: ids before each text, [CLS] first; never cut.
        suffix: ids behind each text, [SEP] last; never cut.
        limit: most tokens of an entry, more than `prefix` and `suffix` have.
        truncate: see `Tokenizer.encode`.
        mask_id: of the [MASK]s in `prefix` and `suffix` that are to be scored; None without a prompt.

    Raises:
        InputError: an unknown mode; a text is too long with "error".
    """
    check_mode(truncate, ("error", "warn", "window", "report"))
    room = limit - len(prefix) - len(suffix)
    count = len(tokens)
    over = np.fromiter(map(len, tokens), np.int64, count) - room
    owners = np.arange(count)
    if truncate == "window" and (over > 0).any():
        parts = [windows_of(row, room) for row in tokens]
        owners = np.repeat(owners, list(map(len, parts)))
        tokens = list(chain.from_iterable(parts))
        over = np.zeros(count, np.int64)
    report = report_on(over, count)
    settle(report, truncate, limit, "texts")
    tokens = [row[:room] for row in tokens] if report.cut else tokens
    ids = [[*prefix, *row, *suffix] for row in tokens]
    masks = None
    if mask_id is not None:
        ahead = [place for place, token in enumerate(prefix) if token == mask_id]
        behind = [len(prefix) + place for place, token in enumerate(suffix) if token == mask_id]
        masks = [[*ahead, *(len(row) + place for place in behind)] for row in tokens]
    return Encoded(ids, list(map(len, ids)), masks, owners, report)


def frame_pairs(
    firsts: list[Ids], seconds: list[Ids], cls: int, sep: int, *, limit: int, truncate: str, segments: bool
) -> Encoded:
    """Put each pair together as [CLS] first [SEP] second [SEP].

    Args:
        firsts: ids of whole texts.
        seconds: as many.
        cls: id of [CLS].
        sep: id of [SEP].
        limit: most tokens of a pair, the three control tokens included.
        truncate: "error", "warn" or "report"; see `Tokenizer.encode_pairs`.
        segments: the second text is of segment 1; else all is of segment 0.

    Raises:
        InputError: a pair is too long with "error".
    """
    lengths = np.array([list(map(len, firsts)), list(map(len, seconds))], np.int64)
    report = report_on(lengths.sum(0) - (limit - 3), len(firsts))
    settle(report, truncate, limit, "pairs")
    if report.cut:
        firsts, seconds = firsts.copy(), seconds.copy()
    for row in report.rows.tolist():
        keep = longest_first(len(firsts[row]), len(seconds[row]), limit - 3)
        firsts[row], seconds[row] = firsts[row][: keep[0]], seconds[row][: keep[1]]
    ids = [[cls, *first, sep, *second, sep] for first, second in zip(firsts, seconds, strict=True)]
    splits = [len(first) + 2 for first in firsts] if segments else list(map(len, ids))
    return Encoded(ids, splits, None, np.arange(len(ids)), report)
