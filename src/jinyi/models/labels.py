"""Checks of labels: the label words of zero-shot classification, and the labels that `fit` learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten
from jinyi.models.common import as_list
from jinyi.text import surrogate_error

_MOST_NUMBER = 1 << 53  # from which on whole numbers among fractions would no longer be told apart

Labels = Sequence[str] | Mapping[Any, str]


def label_words(labels: Labels) -> dict[Any, str]:
    """Return {label: word}; words without the blanks around them, labels as they were given.

    Raises:
        InputError: fewer than two words, a word twice or not text, or labels that are neither all str nor all int.
    """
    if isinstance(labels, str) or not isinstance(labels, (Mapping, Iterable)):
        raise InputError(
            found=shorten(labels),
            expected='a list of label words such as ["体育", "财经"], or {label: word}',
            fix="Pass a list.",
            where="labels",
        )
    given = list(labels.values()) if isinstance(labels, Mapping) else as_list(labels, "labels")
    words = [word.strip() if isinstance(word, str) else "" for word in given]
    names = list(labels) if isinstance(labels, Mapping) else words
    problem = ""
    if not all(words):
        problem = "a label word that is not text"
    elif len(set(words)) < len(words):
        problem = "a label word twice"
    elif len(words) < 2:
        problem = "too few labels"
    elif not (all(isinstance(name, str) for name in names) or all(map(_is_int, names))):
        problem = "labels that are neither all str nor all int"
        given = names
    if problem:
        raise InputError(
            found=f"{problem} in {shorten(given, 80)}",
            expected="at least two different words",
            fix="Correct the labels.",
            where="labels",
        )
    return {
        name if isinstance(name, str) else int(name): word for name, word in zip(names, words, strict=True)
    }


def class_numbers(y: Iterable[Any], texts: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the distinct labels, sorted, and for each text the number of its own, int64 [n].

    Args:
        y: the labels of the training texts.
        texts: how many texts there are.

    Raises:
        InputError: a label is missing or neither text nor a number, some are text and some are not, their number is
            not that of the texts, or there is one class only.
    """
    given = [
        _plain(label, row) for row, label in enumerate(as_list([y] if isinstance(y, str) else y, "labels"))
    ]
    if len({isinstance(label, str) for label in given}) > 1:
        raise InputError(
            found="labels of which some are text and some are not",
            expected="all str, or all int",
            fix="Pass [str(label) for label in labels].",
        )
    labels = np.asarray(given)
    if len(labels) != texts or labels.ndim != 1:
        raise InputError(
            found=f"{texts} texts and labels of shape {labels.shape}",
            expected="one label for each text",
            fix="Check that both come from the same rows.",
        )
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            found=f"{len(classes)} class in {texts} texts",
            expected="at least two classes",
            fix="Add texts with other labels.",
        )
    return classes, targets


def _plain(label: Any, row: int) -> str | int | float:
    """Return a label as it can be compared, sorted and written down."""
    if isinstance(label, str):
        text = str.__str__(label)  # of an enumeration the value
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise surrogate_error(text, f"row {row}, label", error.start) from None
        if text.endswith("\0"):  # which numpy leaves out
            raise InputError(
                found=f"the label {shorten(text)}",
                expected="text without NUL at the end",
                fix="Correct the label.",
                where=f"row {row}",
            )
        return text
    if label is None or (isinstance(label, (float, np.floating)) and label != label):
        raise InputError(
            found=f"{label}, a missing label",
            expected="a label for each text",
            fix="Drop the row or fill in its label.",
            where=f"row {row}",
        )
    number = label.item() if isinstance(label, np.generic) else label
    if not isinstance(number, (int, float)) or abs(number) >= _MOST_NUMBER:
        raise InputError(
            found=f"{shorten(label)} of type {type(label).__name__}",
            expected="a label: str or int",
            fix="Pass [str(label) for label in labels].",
            where=f"row {row}",
        )
    return number


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
