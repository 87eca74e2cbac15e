"""What 8-bit arithmetic costs a model, measured on labelled files; `jinyi quantize` stores it in the folder.

measured = measure_loss("my-model", {"bq": Path("bq/dev.jsonl")})
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from jinyi import metrics
from jinyi.errors import InputError
from jinyi.evals.labelled_pairs import read_labelled_pairs
from jinyi.evals.result import Evaluation, Row
from jinyi.evals.topic_calibration import own_words
from jinyi.evals.topic_data import read_topic_data
from jinyi.folder import read_folder
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.topic_classifier import TopicClassifier

PRECISIONS: Final = ("float32", "int8")
_Score = Callable[[str, Path], tuple[float, int, str]]
"""The metric, rows and SHA-256 of a labelled file, by its name and path."""
METRIC: Final = {"embed": "spearman", "pair": "auc", "topic": "accuracy"}


def measure_loss(
    path: str | os.PathLike[str], data: Mapping[str, Path], *, threads: int | None = None
) -> tuple[dict[str, Any], Evaluation]:
    """Score a model in float32 and in 8 bits.

    Args:
        path: a model folder with ranges of activations, for vectors, pairs or topics (by label words).
        data: labelled files by name that took no part in training.
        threads: processor threads; None takes the cores really available.

    Returns:
        The folder's `int8` entry: {"loss": float32 - int8 of the mean over the files, "metric", "data": sha256 by
        name}; and the table. Vectors: Spearman x100 of cosine; pairs: area under the ROC curve x100; topics: accuracy
        x100 by label words.

    Raises:
        InputError: a model of another task, or files without labels that fit it.
    """
    folder = read_folder(path)
    if folder.task not in METRIC:
        raise InputError(
            found=f"a model of task {folder.task!r}",
            expected=f"one of {', '.join(METRIC)}",
            fix="What 8 bits cost shows in scores: train the encoder for a task first.",
            where=str(folder.path),
        )
    metric = METRIC[folder.task]
    scores_of = {"embed": _vectors, "pair": _pairs, "topic": _topics}[folder.task]
    rows, means, sums = [], [], {}
    for precision in PRECISIONS:
        scores, score = [], scores_of(folder.path, precision, threads)
        for name, file in data.items():
            value, n, digest = score(name, file)
            rows.append(
                Row(
                    data=name,
                    system=folder.path.name,
                    protocol=precision,
                    scores={metric: 100 * value},
                    n=n,
                    data_sha256=digest,
                    settings={"precision": precision},
                )
            )
            scores.append(100 * value)
            sums[name] = digest
        means.append(float(np.mean(scores)))
    loss = round(means[0] - means[1], 3)
    told = f"{metric} x100" + (f", mean of {', '.join(data)}" if len(data) > 1 else f" on {next(iter(data))}")
    table = Evaluation(
        title=f"What 8 bits cost {folder.path.name}",
        kind={"embed": "sts", "pair": "pairs", "topic": "topics"}[folder.task],
        rows=rows,
        layout="sets across",
        across=(metric,),
        averages={"mean": tuple(data)} if len(data) > 1 else {},
        notes=[f"Loss: {loss:+.3f} points ({told})."],
    )
    return {"loss": loss, "metric": told, "data": sums}, table


def _vectors(path: Path, precision: str, threads: int | None) -> _Score:
    encoder = SentenceEncoder.load(path, precision=precision, threads=threads)

    def score(name: str, file: Path) -> tuple[float, int, str]:
        rows = read_labelled_pairs(name, file, graded=True)
        cosines = encoder.similarity_pairwise(rows.a, rows.b)
        return metrics.spearman(rows.labels, cosines), len(rows), rows.sha256

    return score


def _pairs(path: Path, precision: str, threads: int | None) -> _Score:
    scorer = PairScorer.load(path, precision=precision, threads=threads)

    def score(name: str, file: Path) -> tuple[float, int, str]:
        rows = read_labelled_pairs(name, file, graded=False)
        logits = scorer.predict(list(zip(rows.a, rows.b, strict=True)), raw_scores=True)
        return metrics.roc_auc(rows.labels, logits), len(rows), rows.sha256

    return score


def _topics(path: Path, precision: str, threads: int | None) -> _Score:
    def score(name: str, file: Path) -> tuple[float, int, str]:
        read = read_topic_data(file, name=name)
        rows = read.folds[0].scored
        words = own_words(file)  # each file has labels of its own
        classifier = TopicClassifier.load(path, labels=words, precision=precision, threads=threads)
        expected = [read.labels.codes[target] for target in rows.targets.tolist()]
        return metrics.accuracy(expected, classifier.predict(rows.texts)), len(rows.texts), rows.sha256

    return score
