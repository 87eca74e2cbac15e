"""Pair similarity by a cross-encoder: both texts are read together, P(similar) comes out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from jinyi.arguments import whole_number
from jinyi.errors import InputError, shorten
from jinyi.folder import RECORD, Golden
from jinyi.folder.model import SEGMENT_IDS
from jinyi.models.calibration import PairCalibration
from jinyi.models.common import (
    FloatArray,
    as_list,
    check_golden,
    compute_once,
    refuse_cut,
    refuse_none,
    warn_cut,
)
from jinyi.models.familiar import FamiliarPredict, as_asked, check_names, most_rows, renamed
from jinyi.models.operating_points import OperatingPoint, OperatingPoints
from jinyi.models.pair_rows import PairOptions, Pairs, as_pairs, pair_work
from jinyi.models.source import Opener, Source
from jinyi.models.work import Work, run
from jinyi.runtime import Head
from jinyi.text import check_text
from jinyi.tokens import TruncationReport

if TYPE_CHECKING:
    from typing_extensions import Unpack

SegmentIds = Literal["pair", "zeros"]


class PairScorer:
    """Says how likely two sentences mean the same.

    Open one with `PairScorer.load`. A cross-encoder reads (a, b) and (b, a) differently; by default both orders are
    scored and their logits averaged, so that the score does not depend on the order.

    A folder that `jinyi calibrate` was run on gives calibrated probabilities and knows thresholds (`threshold`).

    A scorer never changes, so a copy is the same object. It can be pickled: the pickle holds the folder's name or path
    and the options, no weights. It works on in a forked process.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._similar = source.folder.similar
        _check_segments(source.segment_ids, source)
        self._segment_ids = source.segment_ids or source.folder.segment_ids
        self._calibration, self._points = _calibration(source, self._similar)
        self._engine = source.engine(Head("classes"))
        check_golden(source, self._engine, self._golden_scores, "scores")

    def __reduce__(self) -> tuple[type[PairScorer], tuple[Source]]:
        return type(self), (self._source,)

    def __copy__(self) -> PairScorer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PairScorer:
        return self

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        similar_label: int | str | None = None,
        segment_ids: SegmentIds | None = None,
        opener: Opener | None = None,
    ) -> PairScorer:
        """Open a model.

        Args:
            model: None for the shipped one, a name (`jinyi models list`) or a folder; one or two outputs as a rule.
            precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32
                (docs/large-models.md says what each of them is).
            threads: processor threads; None takes the cores really available.
            device: "cpu" or "cuda" (extra `train`).
            similar_label: index or name of the output that means similar, where the folder's labels do not tell.
            segment_ids: "pair" marks the second text by segment 1, "zeros" gives all tokens segment 0, as a model
                trained without them needs it; None does what the folder or the registry says, and "pair" where they
                say nothing. A calibration of the folder is left out where this says otherwise than the folder.
            opener: makes the engine in place of one in this process (see `jinyi.models.source.Opener`).

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is incomplete or damaged, is no pair model, does not tell which output means
                similar (or has none that is `similar_label`), or its golden pairs come out differently.
            InputError: a precision, device, number of threads or `segment_ids` that does not exist or that this
                machine or folder does not have; "int8" also for a folder without ranges (`jinyi quantize` measures
                them) or with too great a measured loss.
            MissingExtraError: device "cuda" without PyTorch.
        """
        return cls(
            Source.open(
                model,
                "pair",
                as_task="pair",
                similar_label=similar_label,
                precision=precision,
                threads=threads,
                device=device,
                segment_ids=segment_ids,
                opener=opener,
            )
        )

    @property
    def max_length(self) -> int:
        """Tokens read of a pair, [CLS] and both [SEP] included."""
        return self._source.folder.max_length

    @property
    def source(self) -> Source:
        """The opened folder with its tokenizer."""
        return self._source

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._source.folder.path

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._engine.info()

    def fingerprint(self) -> str:
        """Return a hash that tells scorers apart: by tokenizer, weights, output and segments."""
        state = f"{self._source.fingerprint()} {self._similar} {self._segment_ids}"
        return hashlib.sha256(state.encode()).hexdigest()

    def predict(
        self,
        pairs: Any,
        *,
        symmetric: bool = True,
        raw_scores: bool = False,
        calibrated: bool = True,
        segment_ids: SegmentIds | None = None,
        truncate: str = "warn",
        show_progress: bool | None = None,
        return_report: bool = False,
        **familiar: Unpack[FamiliarPredict],
    ) -> Any:
        """Return P(similar) of pairs.

        Args:
            pairs: one pair `(a, b)`, one string `"a[SEP]b"`, or a list of either. A list of exactly two strings
                without "[SEP]" is one pair.
            symmetric: average the logits of both orders; False reads the pair once as given, in half the time.
            raw_scores: return the model's own logits, never calibrated, in place of P.
            calibrated: put logits through the folder's calibration, if it has one; False gives the sigmoid of the
                model's own.
            segment_ids: "pair" marks the second text by segment 1, "zeros" gives all tokens segment 0, as
                ModelScope's pipeline does for one-string pairs; None does as the model was loaded (`segment_ids`).
            truncate: what happens to pairs longer than `max_length`: "warn" cuts the longer side first and gives
                one TruncationWarning with the count, "error" refuses them. There are no windows: a part of one text
                against a part of the other answers another question.
            show_progress: True, False, or None for a bar on a terminal when it takes more than a second.
            return_report: also return a TruncationReport: how many pairs were cut, which, by how much.
            **familiar: names that sentence-transformers uses; see `FamiliarPredict`.

        Returns:
            float32 [n] in [0, 1]; a float for one pair. With `return_report` a tuple of it and the report.

        Raises:
            InputError: not a pair, a side missing or empty, a pair too long with truncate="error"; names the row.
                Another value of `segment_ids` or `truncate`, or an option given under both its names.
            TypeError: a keyword that this call does not have.
            MissingExtraError: convert_to_tensor=True without PyTorch.
        """
        check_names(familiar, FamiliarPredict, "predict")
        show_progress = renamed(familiar, "show_progress_bar", "show_progress", show_progress, None)
        _check_segments(segment_ids, self._source)
        checked, single = as_pairs(pairs)
        options = PairOptions(symmetric, segment_ids or self._segment_ids, truncate, most_rows(familiar))
        logits, report = self._logits(checked, options, show_progress)
        warn_cut(report, truncate, self.max_length, windows=False)
        values = logits if raw_scores else self.probabilities(logits, calibrated)
        result = float(values[0]) if single else as_asked(values, familiar)
        return (result, report) if return_report else result

    def prepare(
        self,
        pairs: Any,
        *,
        symmetric: bool = True,
        raw_scores: bool = False,
        calibrated: bool = True,
        segment_ids: SegmentIds | None = None,
        truncate: str = "warn",
    ) -> Work:
        """Return the rows that `predict` would compute, for those who compute rows of many callers together.

        Args:
            pairs: as in `predict`; equal pairs are not merged.
            symmetric: as in `predict`.
            raw_scores: as in `predict`.
            calibrated: as in `predict`.
            segment_ids: as in `predict`.
            truncate: as in `predict`; cut pairs are in the work's report, there is no warning.

        Returns:
            work whose `finish` gives float32 [n].

        Raises:
            InputError: as `predict`.
        """
        _check_segments(segment_ids, self._source)
        options = PairOptions(symmetric, segment_ids or self._segment_ids, truncate)
        checked, _ = as_pairs(pairs)
        refuse_none(checked, "pairs")
        logits = self._work(options.keys(checked), options)
        refuse_cut(logits.report, truncate, self.max_length)
        if raw_scores:
            return logits

        def finish(outputs: list[FloatArray]) -> FloatArray:
            return self.probabilities(logits.finish(outputs), calibrated)

        return replace(logits, finish=finish)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        return_documents: bool = True,
        calibrated: bool = True,
        truncate: str = "warn",
        show_progress: bool | None = None,
        **familiar: Unpack[FamiliarPredict],
    ) -> list[dict[str, Any]]:
        """Return documents by how similar they are to a query, best first.

        Args:
            query: one text.
            documents: texts to compare it with.
            top_k: number of results; None returns all.
            return_documents: False leaves "text" out of the results.
            calibrated: as in `predict`; the order is the same.
            truncate: as in `predict`.
            show_progress: as in `predict`.
            **familiar: as in `predict`; scores are Python floats, also with convert_to_tensor.

        Returns:
            list of {"corpus_id": place in `documents`, "score": P(similar), "text": the document}; equal scores
            keep the order of `documents`.

        Raises:
            InputError: as `predict`, or `top_k` is not a positive number.
            TypeError: a keyword that this call does not have.
        """
        if top_k is not None:
            top_k = whole_number(top_k, "top_k", fix="Leave it out for all.")
        check_names(familiar, FamiliarPredict, "rank")
        show_progress = renamed(familiar, "show_progress_bar", "show_progress", show_progress, None)
        options = PairOptions(True, self._segment_ids, truncate, most_rows(familiar))
        question = check_text(query, "query")
        texts = as_list(documents, "documents") if not isinstance(documents, str) else [documents]
        pairs = [(question, check_text(text, f"document {row}")) for row, text in enumerate(texts)]
        logits, report = self._logits(pairs, options, show_progress)
        warn_cut(report, truncate, self.max_length, windows=False)
        scores = self.probabilities(logits, calibrated)
        order = np.argsort(-logits, kind="stable")[:top_k]
        return [
            {
                "corpus_id": row,
                "score": float(scores[row]),
                **({"text": texts[row]} if return_documents else {}),
            }
            for row in order.tolist()
        ]

    def threshold(self, *, precision: float | None = None, recall: float | None = None) -> float:
        """Return the P(similar) from which on to take pairs for similar: `predict(pairs) >= threshold(precision=0.95)`.

        Args:
            precision: the least share of similar pairs among those taken; the lowest threshold that reaches it.
            recall: the least share of the similar pairs that is found; the threshold with the highest precision then.
                Without either: the threshold with the best F1.

        Raises:
            InputError: the folder has no calibration, both are given, or no threshold reaches this precision on the
                labelled rows; says which is reached.
        """
        return self.operating_point(precision=precision, recall=recall).threshold

    def operating_point(
        self, *, precision: float | None = None, recall: float | None = None
    ) -> OperatingPoint:
        """Return the threshold of `threshold` with what it did on the rows that `jinyi calibrate` was given.

        Args:
            precision: as in `threshold`.
            recall: as in `threshold`.

        Returns:
            threshold, precision and recall with 95% intervals, and the numbers of rows they rest on.

        Raises:
            InputError: as `threshold`.
        """
        if self._points is None:
            raise InputError(
                found="a model without thresholds",
                expected="one that was calibrated on labelled pairs",
                fix=f"Run `jinyi calibrate --model {self.path} --data dev.jsonl`, with --output FOLDER for a copy.",
                where=str(self.path),
            )
        return self._points.at(precision=precision, recall=recall)

    @property
    def operating_points(self) -> OperatingPoints | None:
        """All thresholds that `jinyi calibrate` has put into the folder; None where it has none for this scorer."""
        return self._points

    @property
    def segment_ids(self) -> str:
        """How the two texts of a pair are marked: "pair" or "zeros"; see `load`."""
        return self._segment_ids

    @property
    def similar(self) -> int:
        """Index of the model's output that means similar."""
        return self._similar

    @property
    def calibration(self) -> str | None:
        """How `predict` calibrates: "isotonic" or "platt"; None where the folder has no calibration."""
        return None if self._calibration is None else self._calibration.method

    def probabilities(self, logits: FloatArray, calibrated: bool = True) -> FloatArray:
        """Return P(similar) of the model's own logits.

        Args:
            logits: float32 [n], as `predict(..., raw_scores=True)` gives them.
            calibrated: put them through the folder's calibration, if it has one; False gives their sigmoid.

        Returns:
            float32 [n] in [0, 1].
        """
        if calibrated and self._calibration is not None:
            return sigmoid(self._calibration.apply(logits))
        return sigmoid(logits)

    def _golden_scores(self, golden: Golden) -> FloatArray:
        pairs = [(str(pair[0]), str(pair[1])) for pair in golden.inputs]
        # What they were computed with is the folder's own habit, whatever this scorer was asked for.
        options = PairOptions(False, self._source.folder.segment_ids, "warn")
        return sigmoid(self._logits(pairs, options, False)[0])

    def _work(self, pairs: Pairs, options: PairOptions) -> Work:
        return pair_work(self._source, self._engine, self._similar, pairs, options)

    def _logits(
        self, pairs: Pairs, options: PairOptions, show_progress: bool | None
    ) -> tuple[FloatArray, TruncationReport]:
        def compute(part: Pairs) -> tuple[FloatArray, TruncationReport]:
            work = self._work(part, options)
            return run(work, options.most_rows), work.report

        return compute_once(
            options.keys(pairs),
            (),
            compute,
            truncate=options.truncate,
            max_length=self.max_length,
            label="pairs",
            show_progress=show_progress,
        )


def _calibration(source: Source, similar: int) -> tuple[PairCalibration | None, OperatingPoints | None]:
    """Read the folder's calibration; it says nothing about another output or other segments than it was fitted for."""
    saved, where = source.folder.record.get("calibration"), str(source.folder.path / RECORD)
    other_segments = source.segment_ids not in (None, source.folder.segment_ids)
    if not saved or saved.get("output", similar) != similar or other_segments:
        return None, None
    return PairCalibration.from_dict(saved, where), OperatingPoints.from_dict(saved.get("thresholds"), where)


def _check_segments(asked: str | None, source: Source) -> None:
    """Refuse other marks of pairs than those the weights know; None is what the model was loaded with."""
    segments = source.folder.config.type_vocab_size
    known = SEGMENT_IDS if segments > 1 else ("zeros",)
    if asked is not None and asked not in known:
        raise InputError(
            found=shorten(asked),
            expected=" or ".join(map(repr, known))
            + (", for the weights know one segment alone" if segments == 1 else ""),
            fix="Choose one, or leave it out.",
            where="segment_ids",
        )


def sigmoid(logits: npt.NDArray[Any]) -> FloatArray:
    """Return 1 / (1 + exp(-logits)), without overflow."""
    small = np.exp(-np.abs(logits, dtype=np.float64))
    values: npt.NDArray[np.float32] = (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)
    return values
