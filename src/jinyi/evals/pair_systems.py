"""Systems that score pairs: cross-encoders, cosines of sentence vectors, shared characters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from jinyi.errors import TruncationWarning
from jinyi.evals.baselines import BASELINES
from jinyi.evals.labelled_pairs import LabelledPairs
from jinyi.evals.naming import POOLING_NAMES
from jinyi.evals.pair_scores import Scores
from jinyi.evals.vectors import pair_cosines
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of one set.

    Args:
        scores: [n], higher for similar.
        asymmetry: mean and largest |s(a, b) - s(b, a)| when the order of a pair counts, None where it cannot.
        cut: pairs that were cut to the model's length.
    """

    scores: Scores
    asymmetry: tuple[float, float] | None = None
    cut: int = 0


class System(Protocol):
    """Something that scores pairs.

    Attributes:
        name: in tables.
        protocol: how it is used.
        probability: whether scores are P(similar).
        settings: for programs.
    """

    name: str
    protocol: str
    probability: bool
    settings: Mapping[str, Any]

    def score(self, data: LabelledPairs) -> Scored:
        """Score a set."""


@dataclass(slots=True)
class CrossEncoder:
    """A pair model: the logits of both orders are averaged, as `PairScorer.predict` does by default."""

    name: str
    scorer: PairScorer
    show: bool | None
    fitted_on: frozenset[str] = frozenset()
    """SHA-256 of the files it was calibrated on."""
    protocol: str = "both orders averaged"
    probability: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        method = self.scorer.calibration
        if method is not None:
            self.protocol += f", calibrated ({method})"
        self.settings = {
            "symmetric": True,
            "calibration": method,
            "max_length": self.scorer.max_length,
            "precision": self.scorer.info()["precision"],
            **self.settings,
        }

    def score(self, data: LabelledPairs) -> Scored:
        """Return P(similar); each order is computed once, for the mean and for the difference."""
        logits, cut = [], 0
        for pairs in (zip(data.a, data.b, strict=True), zip(data.b, data.a, strict=True)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)
                found, report = self.scorer.predict(
                    list(pairs), symmetric=False, raw_scores=True, return_report=True, show_progress=self.show
                )
            logits.append(found)
            cut = max(cut, report.cut)
        scores = self.scorer.probabilities(np.stack(logits).mean(axis=0))
        first, second = (self.scorer.probabilities(each).astype(np.float64) for each in logits)
        gaps = np.abs(first - second)
        return Scored(scores=scores, asymmetry=(float(gaps.mean()), float(gaps.max())), cut=cut)


@dataclass(slots=True)
class Cosine:
    """A model for sentence vectors: the cosine, which is no probability."""

    name: str
    encoder: SentenceEncoder
    pooling: str
    show: bool | None
    protocol: str = ""
    probability: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.protocol = f"cosine, {POOLING_NAMES.get(self.pooling, self.pooling)}"
        self.settings = {
            "pooling": self.pooling,
            "max_length": self.encoder.max_length,
            "precision": self.encoder.info()["precision"],
            **self.settings,
        }

    def score(self, data: LabelledPairs) -> Scored:
        """Return cosines."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            vectors, report = self.encoder.encode(
                [*data.a, *data.b], return_report=True, show_progress=self.show
            )
        pairs = np.unique(report.rows % len(data))
        cosines = pair_cosines(vectors[: len(data)], vectors[len(data) :])
        return Scored(scores=cosines, cut=len(pairs))


@dataclass(slots=True)
class Characters:
    """A baseline: TF-IDF cosine or BM25 of shared characters."""

    name: str
    protocol: str
    function: Any
    probability: bool = False
    settings: Mapping[str, Any] = field(default_factory=lambda: {"baseline": True})

    def score(self, data: LabelledPairs) -> Scored:
        """Return similarities; document frequencies are those of the set's own texts."""
        return Scored(scores=self.function(data.a, data.b))


def open_system(
    model: str | None, name: str, *, precision: str, threads: int | None, progress: bool
) -> System:
    """Open a model for pairs, or one for sentence vectors, by what its folder was made for.

    Raises:
        ModelNotFoundError, FolderError: it cannot be opened, or is neither.
    """
    folder = Source.open(model, "pair").folder
    show, settings = None if progress else False, {"model": model or name}
    if folder.task == "embed":
        encoder = SentenceEncoder.load(model, precision=precision, threads=threads)
        return Cosine(name, encoder, folder.asked_pooling or "", show, settings=settings)
    scorer = PairScorer.load(model, precision=precision, threads=threads)
    files = (folder.record.get("calibration") or {}).get("data") or ()
    fitted_on = frozenset(str(file.get("sha256")) for file in files) if scorer.calibration else frozenset()
    return CrossEncoder(name, scorer, show, fitted_on, settings=settings)


def baseline_systems() -> Sequence[System]:
    """Return the baselines."""
    return [Characters(*each) for each in BASELINES]
