"""Cosines of pairs under every pooling and whitening asked for, each text computed once a pooling."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.arguments import whole_number
from jinyi.errors import InputError, TruncationWarning
from jinyi.evals.labelled_pairs import LabelledPairs, read_plain_texts
from jinyi.evals.naming import POOLING_NAMES
from jinyi.hashes import file_sha256
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.source import Source
from jinyi.models.whitening import Whitening

Vectors = npt.NDArray[np.float32]
NONE, TRANSDUCTIVE = "none", "transductive"


@dataclass(frozen=True, slots=True)
class WhiteningTexts:
    """A file of texts that whitening is fitted on.

    Args:
        path: the file.
        name: what protocols call it.
        texts: what it holds.
        sha256: of the file.
    """

    path: Path
    name: str
    texts: list[str]
    sha256: str

    @classmethod
    def read(cls, path: Path, others: Sequence[Path] = ()) -> WhiteningTexts:
        """Read a file of texts or pairs; it is called by file and folder, or by its whole path if another is too."""
        name = "/".join(path.parts[-2:])
        taken = any("/".join(other.parts[-2:]) == name for other in others if other != path)
        return cls(path, str(path) if taken else name, read_plain_texts(path), file_sha256(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosines:
    """Cosines of a data set under one protocol.

    Args:
        protocol: in words.
        values: float64 [n].
        settings: for programs.
    """

    protocol: str
    values: npt.NDArray[np.float64]
    settings: Mapping[str, Any] = field(default_factory=dict)


def pair_cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """Return the cosine of each a with the b in the same place, float64 [n].

    From the distance of the unit vectors, so that equal vectors have exactly 1: as a sum of products they would differ
    in the last digit, and ranks would order them by chance.

    Args:
        a, b: [n, d], any length but 0.
    """
    first, second = (_unit(np.asarray(vectors, np.float64)) for vectors in (a, b))
    gaps = first - second
    return np.asarray(1 - np.einsum("nd,nd->n", gaps, gaps) / 2)


def open_encoder(model: Any, pooling: str, precision: str, threads: int | None) -> SentenceEncoder:
    """Open a model for vectors; pooling "own" is the one its folder states."""
    stated = None if pooling == "own" else pooling
    return SentenceEncoder.load(model, pooling=stated, precision=precision, threads=threads)


def own_pooling(model: Any) -> str | None:
    """Return the pooling that a model's folder states, None where it states none."""
    return Source.open(model, "embed").folder.asked_pooling


class PooledVectors:
    """One model under one pooling.

    Args:
        encoder: the model.
        pooling: "cls", "mean", "first_last", "max" or "pooler", for the name of the protocol.
        whitening: "none", "transductive" or a file of texts, each once.
        k: dimensions kept by whitening; None keeps all.
        progress: whether a bar may be shown.

    Raises:
        InputError: a `k` larger than the vectors, or fewer different texts in a file than dimensions to keep.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        pooling: str,
        whitening: Sequence[str | WhiteningTexts],
        k: Sequence[int | None],
        *,
        progress: bool,
    ) -> None:
        self.encoder = encoder
        self.notes: list[str] = []
        self._show = None if progress else False
        self._whitening = whitening
        width = encoder.dimension
        fix = f"Vectors of {encoder.path.name} have {width} numbers."
        kept = [
            width if each is None else whole_number(each, "k", most=width, unit="dimensions", fix=fix)
            for each in k
        ]
        self._kept = list(dict.fromkeys(kept))
        self._settings = {
            "pooling": pooling,
            "dimension": width,
            "max_length": encoder.max_length,
            "precision": encoder.info()["precision"],
        }
        self._pooling = POOLING_NAMES.get(pooling, pooling)
        self._fitted = [
            (source, each, Whitening(each).fit(vectors))
            for source in whitening
            if isinstance(source, WhiteningTexts)
            for vectors in [self._encode(source.texts, source.name)]
            for each in self._kept
        ]

    def cosines(self, data: LabelledPairs) -> Iterator[Cosines]:
        """Yield the cosines of a data set under each whitening."""
        vectors = self._encode([*data.a, *data.b], data.name)
        half = len(data)

        def result(values: Vectors, protocol: str, **settings: Any) -> Cosines:
            cosines = pair_cosines(values[:half], values[half:])
            return Cosines(protocol=protocol, values=cosines, settings={**self._settings, **settings})

        for kind in self._whitening:
            if kind == NONE:
                yield result(vectors, self._pooling, whitening=NONE)
            elif kind == TRANSDUCTIVE:
                for each in self._kept:
                    try:
                        white = Whitening(each).fit_transform(vectors)
                    except InputError as error:  # this set is too small for it; others may not be
                        self.notes.append(
                            f"{data.name}: transductive whitening to k={each} left out, {error.found}."
                        )
                        continue
                    protocol = f"{self._pooling}, transductive whitening, k={each}"
                    yield result(white, protocol, whitening=TRANSDUCTIVE, k=each)
            else:
                if isinstance(kind, WhiteningTexts) and kind.sha256 == data.sha256:
                    self.notes.append(
                        f"{data.name}: whitening fitted on {kind.name} is transductive here, that is the scored file."
                    )
                for source, each, fitted in self._fitted:
                    if source is kind:
                        yield result(
                            fitted.transform(vectors),
                            f"{self._pooling}, whitening fitted on {source.name}, k={each}",
                            whitening=str(source.path),
                            whitening_sha256=source.sha256,
                            k=each,
                        )

    def _encode(self, texts: list[str], name: str) -> Vectors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            vectors, report = self.encoder.encode(
                texts, normalize=False, return_report=True, show_progress=self._show
            )
        if report.cut:
            self.notes.append(
                f"{name}: {report.cut:,} of {report.total:,} texts cut to the {self.encoder.max_length} tokens "
                f"that {self.encoder.path.name} reads."
            )
        return vectors


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
