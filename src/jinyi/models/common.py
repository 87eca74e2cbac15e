"""What the three model classes share: checking inputs, computing equal inputs once, reports."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from jinyi.batches import CHUNK, deduplicate, progress
from jinyi.errors import FolderError, InputError, TruncationWarning, shorten
from jinyi.folder import Golden
from jinyi.models.source import Source as Source
from jinyi.models.work import Pass, run_pass
from jinyi.runtime import Engine
from jinyi.text import check_text
from jinyi.tokens import Encoded, TruncationReport
from jinyi.tokens.cut import check_mode

FloatArray = npt.NDArray[np.float32]
Key = TypeVar("Key", bound=Hashable)
Compute = Callable[[list[Any]], tuple[npt.NDArray[Any], TruncationReport]]

TRUNCATE = ("warn", "error", "window")
GOLDEN_TEXTS = (
    "怎么修改登录密码？",
    "这家店的面条很好吃，就是排队太久。",
    "主队在加时赛里以3比2险胜，球迷们唱着歌走出球场。",
)
_PROGRESS_FROM = 2048  # fewer inputs never get a progress bar, so that one sentence pays nothing for it
_RANGES_TOO = (
    " If it opens in float32, its ranges are of too few or unusual texts: give `jinyi quantize` more."
)
_GOLDEN_TOLERANCE = {
    "float32": 1e-4,
    "bfloat16": 3e-2,
    "int8": 2e-1,
    "int8-weights": 1e-1,
    "int8-dynamic": 1e-1,
}


def as_list(inputs: object, what: str) -> list[Any]:
    """Return any sequence or iterable of inputs as a list.

    Raises:
        InputError: not an iterable, or one whose order or meaning is unclear (dict, set, bytes).
    """
    if isinstance(inputs, np.ndarray):
        return list(inputs.tolist()) if inputs.ndim else [inputs.item()]
    if hasattr(inputs, "columns"):  # a data frame, which yields the names of its columns
        raise InputError(
            found=f"a {type(inputs).__name__} with columns",
            expected=f"{what} in a list",
            fix='Pass one column, frame["text"], or for pairs frame[["a", "b"]].to_numpy().',
        )
    if isinstance(inputs, (bytes, bytearray, Mapping, set, frozenset)) or not isinstance(inputs, Iterable):
        raise InputError(
            found=f"{shorten(inputs)} of type {type(inputs).__name__}",
            expected=f"{what} in a list",
            fix="Pass two texts (a, b), or a list of pairs."
            if what == "pairs"
            else "Pass str, or a list of str.",
        )
    return list(inputs)


def as_texts(inputs: object, start: int = 0) -> tuple[list[str], bool]:
    """Return texts as a checked list, and whether it was one bare string.

    Args:
        inputs: a str, or a list, tuple, array, series or iterator of them.
        start: number of the first row, for messages.

    Raises:
        InputError: not text, or an empty one; names the row.
    """
    if isinstance(inputs, str):
        return [check_text(inputs, "text")], True
    rows = enumerate(as_list(inputs, "texts"), start)
    return [check_text(value, f"row {row}") for row, value in rows], False


def check_truncate(truncate: str, *, windows: bool = True) -> None:
    """Raise InputError if `truncate` is not a mode this call has."""
    check_mode(truncate, TRUNCATE if windows else TRUNCATE[:2])


def compute_once(
    keys: list[Key],
    shape: tuple[int, ...],
    compute: Compute,
    *,
    truncate: str,
    max_length: int,
    label: str,
    show_progress: bool | None,
    start_row: int = 0,
) -> tuple[FloatArray, TruncationReport]:
    """Compute a float32 array [n, *shape], equal keys once and chunk by chunk, and say what was cut.

    Args:
        keys: the inputs.
        shape: shape of one result.
        compute: maps distinct keys to values [m, *shape] and the report on them.
        truncate: "error" raises at the first chunk with a text that is too long.
        max_length: tokens read, for the message.
        label: what the progress bar counts.
        show_progress: True, False, or None for long work on a terminal.
        start_row: number of the first row, for messages.

    Raises:
        InputError: a text is too long and `truncate` is "error".
    """
    count = len(keys)
    if count == 1 and not show_progress:  # it waits for the answer
        values, report = compute(keys)
        if truncate == "error" and report.cut:
            raise _too_long(start_row + report.rows, report.lost, max_length)
        return np.array(values, np.float32), TruncationReport(1, report.rows, report.lost)
    out = np.empty((count, *shape), np.float32)
    unique, inverse = deduplicate(keys)
    # Results are written where a key first appears and copied to its repetitions: no second array.
    first = np.arange(count) if len(unique) == count else np.unique(inverse, return_index=True)[1]
    lost = np.zeros(len(unique), np.int64)
    if count < _PROGRESS_FROM and show_progress is None:
        show_progress = False
    with progress(label, count, show=show_progress) as advance:
        repetitions = np.bincount(inverse, minlength=len(unique)) if show_progress is not False else None
        for start in range(0, len(unique), CHUNK):
            part = slice(start, start + CHUNK)
            values, report = compute(unique[part])
            lost[start + report.rows] = report.lost
            if truncate == "error" and report.cut:
                raise _too_long(start_row + first[start + report.rows], report.lost, max_length)
            out[first[part]] = values
            if repetitions is not None:
                advance(int(repetitions[part].sum()))
    if len(unique) < count:
        repeated = np.flatnonzero(first[inverse] != np.arange(count))
        for start in range(0, len(repeated), CHUNK):
            rows = repeated[start : start + CHUNK]
            out[rows] = out[first[inverse[rows]]]
    lost = lost[inverse]
    rows = np.flatnonzero(lost)
    return out, TruncationReport(total=count, rows=rows, lost=lost[rows])


def refuse_none(inputs: list[Any], what: str) -> None:
    """Raise InputError if there are no inputs: no rows, hence no shape to give a result."""
    if not inputs:
        raise InputError(found=f"no {what}", expected="one at least", fix="Give some.", where=what)


def refuse_cut(report: TruncationReport, truncate: str, max_length: int) -> None:
    """Raise InputError naming the rows if texts were cut and `truncate` is "error"."""
    if truncate == "error" and report.cut:
        raise _too_long(report.rows, report.lost, max_length)


def warn_cut(report: TruncationReport, truncate: str, max_length: int, *, windows: bool = True) -> None:
    """Give one TruncationWarning, in the name of the caller's caller, if texts were cut."""
    if report.cut and truncate == "warn":
        other = "truncate='window' reads the whole text, 'error'" if windows else "truncate='error'"
        warnings.warn(
            f"{report}; the model reads {max_length} tokens ({other} refuses it)",
            TruncationWarning,
            stacklevel=3,
        )


def _too_long(rows: npt.NDArray[np.int64], lost: npt.NDArray[np.int64], max_length: int) -> InputError:
    more = " ..." if len(rows) > 5 else ""
    error = InputError(
        found=f"{', '.join(str(max_length + cut) for cut in lost[:5])}{more} tokens",
        expected=f"at most {max_length} tokens, [CLS] and [SEP] included",
        fix="Shorten the texts, or pass truncate='warn' (for single texts also 'window').",
        where=", ".join(f"row {row}" for row in rows[:5]) + more,
    )
    error.rows = tuple(rows.tolist())
    return error


def run_rows(
    engine: Engine, encoded: Encoded, pad_id: int, most_rows: int | None = None
) -> npt.NDArray[np.float32]:
    """Run encoded rows, at most so many at a time, and return the outputs in their order, float32 [n, ...]."""
    rows = run_pass(Pass(engine, encoded, pad_id), most_rows)
    assert isinstance(rows, np.ndarray)  # noqa: S101 - no head used here returns a pair, or states of tokens
    return rows


def merge_windows(values: FloatArray, encoded: Encoded, count: int) -> FloatArray:
    """Average the windows of each text, weighted by their tokens: float32 [n windows, ...] to [count, ...]."""
    if len(values) == count:
        return values
    weights = np.fromiter(map(len, encoded.ids), np.float64, len(encoded.ids))
    total = np.zeros((count, *values.shape[1:]), np.float64)
    np.add.at(total, encoded.owners, values * weights.reshape(-1, *(1,) * (values.ndim - 1)))
    sums = np.bincount(encoded.owners, weights, minlength=count)
    return (total / sums.reshape(-1, *(1,) * (values.ndim - 1))).astype(np.float32)


def normalise_rows(vectors: FloatArray) -> FloatArray:
    """Divide rows by their Euclidean length, in place; a zero vector stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    if lengths.all():
        vectors /= lengths
    else:
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return vectors


def check_golden(
    source: Source, engine: Engine, compute: Callable[[Golden], npt.ArrayLike], kind: str
) -> None:
    """Compare the folder's golden inputs with what this machine computes for them.

    Raises:
        FolderError: they differ by more than the precision explains: damaged weights, or other settings.
    """
    golden = source.folder.golden
    if golden is None or golden.kind != kind:
        return
    difference = float(np.abs(np.asarray(compute(golden)) - golden.values).max())
    tolerance = _GOLDEN_TOLERANCE[engine.precision]
    if not difference <= tolerance:
        raise FolderError(
            found=f"golden sentences that come out {difference:.2g} away from their stored {kind}",
            expected=f"at most {tolerance:g} in {engine.precision}",
            fix="Weights, tokenizer or settings are not those the folder was written with: copy it again."
            + (_RANGES_TOO if engine.precision == "int8" else ""),
            where=str(source.folder.path),
        )


def resolve_prompt(prompts: Mapping[str, str], prompt: str | None, name: str | None) -> str | None:
    """Return the text of a prompt given literally or by name.

    Raises:
        InputError: both given, or no prompt of that name.
    """
    if prompt is not None and name is not None:
        raise InputError(
            found="prompt and prompt_name", expected="one of them", fix="Leave one out.", where="prompt"
        )
    if name is None:
        return None if prompt is None or prompt == "" else check_text(prompt, "prompt")
    if name not in prompts:
        raise InputError(
            found=shorten(name),
            expected=f"one of {', '.join(prompts) or '(this model has no prompts)'}",
            fix="Choose one of them or pass the text itself as prompt=.",
            where="prompt_name",
        )
    return prompts[name]
