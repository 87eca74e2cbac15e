"""Argument names of sentence-transformers, accepted so that code moves over; docs/programs.md has the table."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np

from jinyi.arguments import whole_number
from jinyi.errors import InputError, MissingExtraError


class FamiliarPredict(TypedDict, total=False):
    """What `CrossEncoder.predict` calls its options.

    Attributes:
        batch_size: most rows computed at a time. Batches are sized by tokens anyway; smaller ones are slower.
        show_progress_bar: `show_progress`.
        convert_to_numpy: True is what happens anyway.
        convert_to_tensor: return a torch tensor in place of an array; needs PyTorch.
    """

    batch_size: int
    show_progress_bar: bool | None
    convert_to_numpy: bool
    convert_to_tensor: bool


class FamiliarEncode(FamiliarPredict, total=False):
    """What `SentenceTransformer.encode` calls its options.

    Attributes:
        normalize_embeddings: `normalize`; there the default is False.
    """

    normalize_embeddings: bool


class EncodeOptions(FamiliarEncode, total=False):
    """The options of `SentenceEncoder.encode`, which says what each of them does, under all their names."""

    normalize: bool
    truncate: str
    prompt: str | None
    prompt_name: str | None
    max_length: int | None
    truncate_dim: int | None
    show_progress: bool | None


def renamed(familiar: Any, name: str, ours: str, value: Any, default: Any) -> Any:
    """Return the option `ours`, given under either name.

    Raises:
        InputError: both are given.
    """
    if name not in familiar:
        return value
    if value is not default:
        raise InputError(
            found=f"{ours} and {name}", expected="one of them: they mean the same", fix="Leave one out."
        )
    return familiar[name]


def most_rows(familiar: Any) -> int | None:
    """Return `batch_size`, or None where it is not given.

    Raises:
        InputError: not a whole number from 1.
    """
    size = familiar.get("batch_size")
    return None if size is None else whole_number(size, "batch_size", fix="Leave it out: tokens are counted.")


def check_names(familiar: Any, known: Any, call: str) -> None:
    """Raise TypeError, as Python does, for a keyword that no argument has."""
    unknown = sorted(set(familiar) - set(known.__annotations__) - set(FamiliarPredict.__annotations__))
    if unknown:
        raise TypeError(f"{call}() got an unexpected keyword argument {unknown[0]!r}")
    if not familiar.get("convert_to_numpy", True) and not familiar.get("convert_to_tensor"):
        raise InputError(
            found="convert_to_numpy=False without convert_to_tensor=True",
            expected="an array or a tensor to be wanted",
            fix="Leave it out for a numpy array; list(array) gives one row after the other.",
            where=call,
        )


def as_asked(values: Any, familiar: Any) -> Any:
    """Return an array, or the torch tensor on its memory if that is asked for.

    Raises:
        MissingExtraError: a tensor is asked for without PyTorch.
    """
    if not familiar.get("convert_to_tensor"):
        return values
    from importlib import import_module, util

    if util.find_spec("torch") is None:
        raise MissingExtraError(
            found="no PyTorch",
            expected="it for convert_to_tensor=True",
            fix='Install it: pip install "jinyi[train]"; or take the numpy array.',
            where="convert_to_tensor",
        )
    return import_module("torch").from_numpy(np.atleast_1d(np.asarray(values, np.float32)))
