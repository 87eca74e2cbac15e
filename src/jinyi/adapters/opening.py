"""What adapters share: the model behind them."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder

Model = TypeVar("Model", SentenceEncoder, PairScorer)


def opened(kind: type[Model], model: str | os.PathLike[str] | Model | None, options: dict[str, Any]) -> Model:
    """Return an opened model as it is, and open any other.

    Raises:
        TypeError: an option for a model that is open already, or something else than a model.
    """
    if model is None or isinstance(model, (str, os.PathLike)):
        return kind.load(model, **options)
    if not isinstance(model, kind):
        raise TypeError(f"found a {type(model).__name__}; expected a name, a folder or a {kind.__name__}")
    if options:
        raise TypeError(f"{next(iter(options))} is an option for opening a model, and this one is open")
    return model
