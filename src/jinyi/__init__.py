"""Chinese sentence similarity, sentence embeddings and topic classification.

    import jinyi
    jinyi.PairScorer.load().predict([("怎么改密码", "如何修改登录密码")])      # P(similar) in [0, 1]
    jinyi.SentenceEncoder.load().encode(["怎么改密码", "如何修改登录密码"])    # float32 [2, d]
    jinyi.TopicClassifier.load(labels=["体育", "财经"]).predict(["主队加时赛险胜"])

Importing the package is cheap: each name below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinyi.errors import (
        FolderError,
        InputError,
        JinyiError,
        MissingExtraError,
        ModelNotFoundError,
        NotFittedError,
        TruncationWarning,
    )
    from jinyi.models.pair_scorer import PairScorer
    from jinyi.models.sentence_encoder import SentenceEncoder
    from jinyi.models.topic_classifier import TopicClassifier
    from jinyi.models.whitening import Whitening
    from jinyi.pipelines import pipeline

__version__ = "0.1.0"

_HOME = {
    "FolderError": "jinyi.errors",
    "InputError": "jinyi.errors",
    "JinyiError": "jinyi.errors",
    "MissingExtraError": "jinyi.errors",
    "ModelNotFoundError": "jinyi.errors",
    "NotFittedError": "jinyi.errors",
    "PairScorer": "jinyi.models.pair_scorer",
    "SentenceEncoder": "jinyi.models.sentence_encoder",
    "TopicClassifier": "jinyi.models.topic_classifier",
    "TruncationWarning": "jinyi.errors",
    "Whitening": "jinyi.models.whitening",
    "pipeline": "jinyi.pipelines",
}

__all__ = [
    "FolderError",
    "InputError",
    "JinyiError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NotFittedError",
    "PairScorer",
    "SentenceEncoder",
    "TopicClassifier",
    "TruncationWarning",
    "Whitening",
    "__version__",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jinyi' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
