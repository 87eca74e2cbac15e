"""A model with another vocabulary: its embedding rows are carried over."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.folder import Golden, read_folder, write_folder
from jinyi.folder.weights import MLM_BIAS, WORDS
from jinyi.tokens import CONTROL_TOKENS, Tokenizer
from jinyi.tokens.build import wordpiece


@dataclass(frozen=True)
class Carried:
    """Where the rows of the new vocabulary come from.

    Attributes:
        path: the new model folder.
        equal: entries that the old vocabulary has too: their rows are the same.
        composed: new entries that got the mean of the rows of the pieces they were before.
        fresh: new entries of which the old vocabulary knew nothing: they got the mean of all rows.
    """

    path: Path
    equal: int
    composed: list[str]
    fresh: list[str]


def prune_model(
    folder: str | os.PathLike[str],
    vocabulary: Sequence[str],
    target: str | os.PathLike[str],
    *,
    golden: Callable[[Path], Golden] | None = None,
    overwrite: bool = False,
) -> Carried:
    """Write a model again with another vocabulary; text all of whose tokens stay is computed as before.

    The word embeddings and the bias of a masked language model are carried over by token; a token that is new begins
    as the mean of what it was made of. Everything else stays: layers, heads, pooling, prompts, labels, the normaliser
    of the tokenizer. Not carried over, because they were measured with the old vocabulary: calibration, ranges for
    8-bit arithmetic, results.

    Args:
        folder: a model folder.
        vocabulary: the new entries in the order of their ids.
        target: folder to create.
        golden: computes golden sentences from the new folder (`jinyi.models.golden.make_golden`); None leaves them
            out.
        overwrite: replace a model folder that is there already.

    Returns:
        The new folder, and which rows are equal, composed and fresh. Memory: one copy of the word embeddings.

    Raises:
        InputError: an entry comes twice, or a control token is missing.
        FolderError: the folder cannot be read, or the target cannot be written.
    """
    old = read_folder(folder)
    tokenizer = Tokenizer.from_folder(old.tokenizer_file.parent, max_length=old.max_length)
    ids = {token: index for index, token in enumerate(vocabulary)}
    missing = [token for token in CONTROL_TOKENS if token not in ids]
    if missing or len(ids) != len(vocabulary):
        raise InputError(
            found=f"a vocabulary without {', '.join(missing)}" if missing else "an entry that comes twice",
            expected="BERT's control tokens, and each entry once",
            fix="Make it with jinyi vocab prune or jinyi vocab build.",
            where="vocabulary",
        )
    sources, composed, fresh = _sources(tokenizer, vocabulary)
    weights: dict[str, npt.NDArray[Any]] = dict(old.weights())
    for name in (WORDS, MLM_BIAS):
        if name in weights:
            weights[name] = _carry(weights[name], sources)
    record = old.record
    carried = {
        "from": record.get("name") or old.path.name,
        "entries": [old.config.vocab_size, len(vocabulary)],
        "composed": len(composed),
        "fresh": len(fresh),
    }
    path = write_folder(
        target,
        task=old.task,
        config=replace(old.config, vocab_size=len(vocabulary), pad_token_id=ids["[PAD]"]),
        weights=weights,
        tokenizer=wordpiece(ids, tokenizer.backend.normalizer),
        pooling=old.pooling,
        normalize=old.normalize,
        dense=old.dense,
        labels=old.labels,
        similar_label=old.similar_label,
        segment_ids=record.get("segment_ids"),
        problem_type=old.problem_type,
        prompts=old.prompts,
        default_prompt_name=old.default_prompt_name,
        trained_words=record.get("trained_words") or (),
        max_length=old.max_length,
        dtype=old.stored_type,
        summary=record.get("summary"),
        licence=record.get("licence"),
        golden=golden,
        training={**(record.get("training") or {}), "pruned": carried},
        overwrite=overwrite,
    )
    return Carried(path, len(vocabulary) - len(composed) - len(fresh), composed, fresh)


def _sources(tokenizer: Tokenizer, vocabulary: Sequence[str]) -> tuple[list[list[int]], list[str], list[str]]:
    """Old ids behind each new entry: itself, its pieces, or none."""
    known = {token: index for index, token in enumerate(tokenizer.vocab) if token}
    sources: list[list[int]] = []
    composed: list[str] = []
    fresh: list[str] = []
    for token in vocabulary:
        if token in known:
            sources.append([known[token]])
            continue
        pieces = _pieces(tokenizer, token, known)
        (composed if pieces else fresh).append(token)
        sources.append(pieces)
    return sources, composed, fresh


def _pieces(tokenizer: Tokenizer, token: str, known: dict[str, int]) -> list[int]:
    if (
        token.startswith("[") and token.endswith("]") and len(token) > 1
    ):  # a control or spare token is no text
        return []
    if not token.startswith("##"):
        pieces = tokenizer.ids_of_word(token)
        return [] if tokenizer.unk_id in pieces else pieces
    # The longest known pieces from the left, as WordPiece reads the rest of a word.
    rest, pieces = token[2:], []
    while rest:
        end = next((end for end in range(len(rest), 0, -1) if f"##{rest[:end]}" in known), 0)
        if not end:
            return []
        pieces.append(known[f"##{rest[:end]}"])
        rest = rest[end:]
    return pieces


def _carry(rows: npt.NDArray[Any], sources: Sequence[list[int]]) -> npt.NDArray[np.float32]:
    mean = np.asarray(rows, np.float32).mean(0)
    out = np.empty((len(sources), *rows.shape[1:]), np.float32)
    for index, places in enumerate(sources):
        out[index] = np.asarray(rows[places], np.float32).mean(0) if places else mean
    return out
