"""Whether two models say the same: both computed on the same sentences, compared, and refused if they differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from jinyi.batches import make_batches
from jinyi.errors import FolderError
from jinyi.models.common import GOLDEN_TEXTS, FloatArray, run_rows
from jinyi.models.golden import PAIRS, known_words
from jinyi.models.heads import softmax
from jinyi.models.pair_scorer import SegmentIds, sigmoid
from jinyi.models.source import Source
from jinyi.models.zero_shot import label_log_probs, word_ids
from jinyi.runtime import Head

VECTORS, HIDDEN = "vectors", "hidden states"
PROBABILITIES, LOG_PROBS = "probabilities", "log-probabilities of words"
TEXTS: Final = (
    *GOLDEN_TEXTS,
    "好",
    "The iPhone 15 Pro 256GB 现在卖 7999 元，比上个月便宜了 12%。",
    "受冷空气影响，预计今天夜间到明天白天，全省大部分地区有小到中雨，气温下降四到六度，请市民注意添衣保暖，出行带好雨具。"
    * 3,
    "？？！……（——）",
    "花呗分期的款项可以提前一次性还清吗，手续费退不退",
)
TEXT_PAIRS: Final = (*PAIRS, *zip(TEXTS, TEXTS[1:], strict=False))
_PROMPT = "{}："
# Rounding each weight to 11 or 8 bits moves every layer's output a little, and layers add up. Five times what was
# measured with random weights of many layers; a wrong weight, label or token is far outside.
_LEAST_COSINE = {"float32": 1 - 1e-6, "float16": 0.9999, "bfloat16": 0.999}
_LARGEST = {
    PROBABILITIES: {"float32": 1e-6, "float16": 5e-3, "bfloat16": 3e-2},
    LOG_PROBS: {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1},
}


@dataclass(frozen=True)
class Parity:
    """How far a written model is from the one it was made of.

    Args:
        reader: what computed the written model: "jinyi", or another runtime with its version.
        compared: "vectors", "hidden states", "probabilities", "log-probabilities of words"; of an exported graph the
            name of its output, and what was made of it.
        rows: number of rows compared: of texts, pairs, or their tokens.
        largest_difference: of any two numbers.
        least_cosine: of any two rows; None for rows of a few probabilities.
        most_allowed: of the difference; None where the cosine alone counts.
        least_allowed: of the cosine; None where the difference alone counts.
    """

    reader: str
    compared: str
    rows: int
    largest_difference: float
    least_cosine: float | None
    most_allowed: float | None
    least_allowed: float | None

    @property
    def same(self) -> bool:
        """Whether both are within what is allowed; NaN is not."""
        near = self.most_allowed is None or self.largest_difference <= self.most_allowed
        cosine = 1.0 if self.least_cosine is None else self.least_cosine
        return near and (self.least_allowed is None or cosine >= self.least_allowed)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        found, allowed = [], []
        if self.least_cosine is not None:
            found.append(f"least cosine {self.least_cosine:.7f}")
        if self.least_allowed is not None:
            allowed.append(f"at least {self.least_allowed:g}")
        found.append(f"largest difference {self.largest_difference:.2g}")
        if self.most_allowed is not None:
            allowed.append(f"at most {self.most_allowed:g}")
        return f"{self.compared} of {self.rows} rows: {', '.join(found)} ({', '.join(allowed)} allowed)"


def outputs(source: Source) -> tuple[str, FloatArray]:
    """Compute what a model is for on `TEXTS` or `TEXT_PAIRS`.

    Args:
        source: an opened folder of any task.

    Returns:
        what it is, and the numbers, float32 [rows, columns].
    """
    folder, tokenizer = source.folder, source.tokenizer
    cut: dict[str, Any] = {"max_length": folder.max_length, "truncate": "report"}
    if folder.task in ("topic", "mlm"):
        words = known_words(tokenizer)
        ids = [np.asarray(word_ids(source, word), np.int64) for word in words]
        known = np.unique(np.concatenate(ids))
        engine = source.engine(Head("mlm", label_ids=known, log_normalizer=True))
        columns = [np.searchsorted(known, value) for value in ids]
        values, _ = label_log_probs(source, engine, list(TEXTS), columns, _PROMPT, "report")
        return LOG_PROBS, values
    if folder.task in ("pair", "classes"):
        paired = folder.task == "pair"
        if paired:
            segments: SegmentIds = "zeros" if folder.segment_ids == "zeros" else "pair"
            encoded = tokenizer.encode_pairs(list(TEXT_PAIRS), segment_ids=segments, **cut)
        else:
            encoded = tokenizer.encode(list(TEXTS), **cut)
        logits = run_rows(source.engine(Head("classes")), encoded, tokenizer.pad_id)
        values = sigmoid(logits) if logits.shape[1] == 1 else softmax(logits)
        if paired:
            values = values[:, [folder.similar]]
        return PROBABILITIES, values
    encoded = tokenizer.encode(list(TEXTS), **cut)
    if folder.pooling is not None:
        head = Head("vector", pooling=folder.pooling, dense=folder.dense)
        return VECTORS, run_rows(source.engine(head), encoded, tokenizer.pad_id)
    rows: dict[int, FloatArray] = {}
    for batch, hidden in source.engine(Head("tokens")).run(make_batches(encoded, pad_id=tokenizer.pad_id)):
        for place, row in enumerate(batch.rows.tolist()):
            rows[row] = np.asarray(hidden)[place, : int(batch.lengths[place])]
    return HIDDEN, np.concatenate([rows[row] for row in sorted(rows)])


def compare(
    before: tuple[str, FloatArray], after: tuple[str, FloatArray], *, rounding: str, where: str
) -> Parity:
    """Compare the outputs of a source with those of what was written of it.

    Args:
        before: `outputs` of the source.
        after: `outputs` of the written folder, of the same kind.
        rounding: the type to which weights were rounded: "float16" or "bfloat16"; "float32" if they are the same.
        where: the written folder, for messages.

    Raises:
        FolderError: they differ by more than rounding weights to this type explains.
    """
    (kind, one), (_, other) = before, after
    alike, numbers = one.shape == other.shape, kind in _LARGEST
    parity = Parity(
        reader="jinyi",
        compared=kind,
        rows=len(one),
        largest_difference=float(np.abs(one - other).max()) if alike else np.inf,
        least_cosine=None if numbers else least_cosine(one, other) if alike else -1.0,
        most_allowed=_LARGEST[kind][rounding] if numbers else None,
        least_allowed=None if numbers else _LEAST_COSINE[rounding],
    )
    if not parity.same:
        raise FolderError(
            where=where,
            found=f"a converted model that says something else: {parity}",
            expected="the same as its source",
            fix="Weights that this type cannot hold: write them with dtype='float32' (--dtype float32)."
            if rounding != "float32"
            else "This is a defect of jinyi: please report it with the source of the model.",
        )
    return parity


def least_cosine(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Return the least cosine of two arrays' rows; NaN where one holds NaN."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Two zero vectors are the same; one alone is not.
    same = (lengths == 0) & (a == b).all(axis=1)
    dots = np.einsum("nd,nd->n", a, b)
    return float(np.minimum(1.0, np.where(same, 1.0, dots / np.where(lengths == 0, 1.0, lengths)).min()))
