"""What the outputs of a classifier are called, and which of them means "similar"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.errors import FolderError, shorten
from jinyi.folder.names import CLASSIFIER
from jinyi.folder.tensors import TensorMap

_SIMILAR = frozenset(
    (
        *(
            "similar",
            "similarity",
            "same",
            "equal",
            "duplicate",
            "paraphrase",
            "match",
            "true",
            "yes",
            "1",
            "label_1",
        ),
        *("相似", "近似", "相同", "相等", "同义", "近义", "匹配", "重复", "语义相似", "语义相同", "是", "真"),
    )
)
_DIFFERENT = frozenset(
    (
        *("dissimilar", "different", "unequal", "unrelated", "false", "no", "0", "label_0"),
        *("不是", "不同", "不等", "不同义", "非同义", "无关", "否", "假"),
    )
)
_NOT = ("not_", "not", "non_", "un", "no_", "不", "非", "未")


def output_labels(
    raw: Mapping[str, Any],
    record: Mapping[str, Any],
    tensors: TensorMap,
    root: Path,
    known: Sequence[str],
) -> tuple[str, ...]:
    """Return the names of a classifier's outputs in their order; of a folder without one, its default label words.

    Args:
        raw: `config.json`.
        record: `jinyi.json`.
        tensors: the weights.
        root: the folder, for messages.
        known: names from elsewhere, which count where config.json has none but LABEL_0, LABEL_1...

    Raises:
        FolderError: names for another number of outputs, or id2label and label2id that contradict each other.
    """
    if CLASSIFIER not in tensors:
        return tuple(str(label) for label in record.get("labels") or ())
    count, named = tensors.shape(CLASSIFIER)[0], _names_of_outputs(raw, root)
    if not named:
        return tuple(known) if len(known) == count else tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(named, dict) or {str(key) for key in named} != {str(index) for index in range(count)}:
        raise FolderError(
            where=str(root / "config.json"),
            found=f"id2label = {shorten(named, 120)}",
            expected=f"names for the {count} outputs of {CLASSIFIER}: 0 to {count - 1}",
            fix="config.json and weights do not belong together, or id2label was edited: correct it.",
        )
    by_index = {int(key): str(value) for key, value in named.items()}
    labels = tuple(by_index[index] for index in range(count))
    return tuple(known) if len(known) == count and _only_numbered(by_index) else labels


def _names_of_outputs(raw: Mapping[str, Any], root: Path) -> Any:
    """Return id2label; label2id the other way round where id2label is missing or its names are numbers alone."""
    named, numbered = raw.get("id2label"), raw.get("label2id")
    if not isinstance(numbered, dict) or not isinstance(named or {}, dict):
        return named
    turned = {str(index): str(label) for label, index in numbered.items()}
    stated = {str(index): str(label) for index, label in (named or {}).items()}
    if _only_numbered(stated):
        return turned if len(turned) >= len(stated) else named
    if turned != stated and sorted(turned.values()) == sorted(stated.values()):
        raise FolderError(
            where=str(root / "config.json"),
            found=f"id2label = {shorten(named, 80)} and label2id = {shorten(numbered, 80)}",
            expected="both to say the same",
            fix="One of them was edited by hand: correct it as the model's authors say.",
        )
    return named


def _only_numbered(labels: Mapping[Any, str]) -> bool:
    """Whether the names are those that transformers gives to outputs without names."""
    return all(label == f"LABEL_{index}" for index, label in labels.items())


def find_similar(labels: Sequence[str], count: int, choice: int | str | None, where: str) -> int:
    """Decide which of `count` classifier outputs means "similar".

    In this order: the choice; the only output; of two outputs, the one whose name says similar (similar, same,
    duplicate, 1, LABEL_1, 相似, 相同...) where the other's name does not, or the one beside a name that says different
    (not similar, different, 0, LABEL_0, 不相似...) where its own does not. Their order does not matter.

    Args:
        labels: names of the outputs.
        count: number of outputs.
        choice: name or index (also as text) given by the user or the folder; None leaves it to the names.
        where: the folder, for messages.

    Raises:
        FolderError: the choice is no output, or the names do not tell.
    """
    if isinstance(choice, str) and choice in labels:
        return list(labels).index(choice)
    if isinstance(choice, str) and choice.isdecimal():
        choice = int(choice)
    if isinstance(choice, (int, np.integer)) and 0 <= choice < count:
        return int(choice)
    if choice is None and count == 1:
        return 0
    if choice is None and count == 2:
        says = [_says(label) for label in labels]
        if says[0] != says[1]:
            # One that says something decides over one that says nothing.
            return says.index(True) if True in says else 1 - says.index(False)
    stated = f"similar_label={choice!r} and labels" if choice is not None else "labels"
    raise FolderError(
        where=where,
        found=f"{stated} {list(labels)}",
        expected="to know which label means similar",
        fix=f"Pass similar_label= (--similar-label) with a name or an index from 0 to {count - 1}.",
    )


def _says(label: str) -> bool | None:
    """Whether a label says similar (True), different (False) or neither (None)."""
    name = re.sub(r"[\s_-]+", "_", label.strip().lower())
    if name in _SIMILAR:
        return True
    negated = any(name.startswith(word) and name.removeprefix(word) in _SIMILAR for word in _NOT)
    return False if name in _DIFFERENT or negated else None
