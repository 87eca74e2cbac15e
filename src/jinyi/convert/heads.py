"""Changes of heads that keep what a model says: two logits of a pair model as one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jinyi.errors import FolderError
from jinyi.folder import ModelFolder
from jinyi.folder.weights import CLASSIFIER

_BIAS = CLASSIFIER.replace("weight", "bias")


def one_logit(folder: ModelFolder) -> dict[str, np.ndarray]:
    """Return the classifier of a pair model with two outputs as one with a single output that says the same.

    softmax(z)[s] = sigmoid(z[s] - z[d]), so the row w = W[s] - W[d] with the bias b[s] - b[d] gives the same
    P(similar); s is the output that means similar. Readers that need one label (`CrossEncoder.rank`, the /rerank of
    text-embeddings-inference) take it, and sentence-transformers applies the sigmoid.

    Args:
        folder: a pair model.

    Returns:
        `classifier.weight` [1, hidden_size] and `classifier.bias` [1], float32; {} where there is one output already.

    Raises:
        FolderError: the model has more than two outputs, or its labels do not tell which means similar.
    """
    if folder.n_labels == 1:
        return {}
    if folder.n_labels != 2 or folder.task != "pair":
        raise FolderError(
            where=str(folder.path),
            found=f"a model of task {folder.task!r} with {folder.n_labels} outputs",
            expected="a pair model with two",
            fix="One logit says the same as two and no more: leave logits= (--logits) out.",
        )
    similar, weights = folder.similar, folder.weights()
    return {name: _difference(weights[name], similar) for name in (CLASSIFIER, _BIAS)}


def one_label(labels: tuple[str, ...], similar: int) -> str:
    """Return the name of the one output that is left: that of the similar one, unless it has no real name."""
    name = labels[similar]
    return "similar" if name.lower().startswith("label_") or name in ("1", "0") else name


def _difference(values: np.ndarray, similar: int) -> np.ndarray:
    rows = values.astype(np.float64)
    result: np.ndarray = (rows[similar] - rows[1 - similar])[None].astype(np.float32)
    return result


def pick(weights: Mapping[str, np.ndarray], *, encoder: bool) -> dict[str, np.ndarray]:
    """Return the weights to be written; with `encoder` those of the encoder alone, without pooler and heads."""
    heads = ("pooler.", "classifier.", "cls.") if encoder else ()
    return {name: weights[name] for name in weights if not name.startswith(heads)}
