"""Which labelled texts an encoder has learnt from, as far as its folder tells.

Vectors of such texts lie as their labels do, those of new texts do not, so whoever fits on them trusts vectors too
much. A folder keeps a few thousand hashes, enough to estimate what share of a set its encoder knows (a bottom-k
sketch, Cohen and Kaplan 2007): of a set of n texts, n times `MOST_HASHES` by all texts of the training can be told.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError, shorten
from jinyi.folder import RECORD, ModelFolder
from jinyi.models.source import Source

ENTRY = "seen_texts"
"""The entry of `jinyi.json`."""
MOST_HASHES = 8192
TOKENS = 32
"""Tokens of a text that tell it from others; training may have cut what comes later."""
_LOOKED_AT = 20_000  # texts of a set, by chance
_FEWEST = 4  # of them with a hash in the sketch's range, or else nothing can be said
_MOST_OF_THEM = 0.5

_Hashes = npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class SeenTexts:
    """A sketch of a set of texts: the smallest hashes of all.

    Args:
        hashes: uint32, sorted, each once, at most `MOST_HASHES`.
    """

    hashes: _Hashes

    @classmethod
    def of(cls, tokens: Iterable[Sequence[int] | npt.NDArray[Any]]) -> SeenTexts:
        """Return the sketch of texts, given as token ids without control tokens."""
        return cls(np.unique(_hashes(tokens))[:MOST_HASHES])

    def merged(self, other: SeenTexts) -> SeenTexts:
        """Return the sketch of the texts of both."""
        return SeenTexts(np.union1d(self.hashes, other.hashes)[:MOST_HASHES])

    def share(self, tokens: Iterable[Sequence[int] | npt.NDArray[Any]]) -> float | None:
        """Return the share of these texts that are among those of the sketch, 0 to 1; None if too few can be told."""
        hashes = np.unique(_hashes(tokens))
        if len(self.hashes) == MOST_HASHES:
            hashes = hashes[hashes <= self.hashes[-1]]
        return float(np.isin(hashes, self.hashes).mean()) if len(hashes) >= _FEWEST else None

    def to_text(self) -> str:
        """Return what `jinyi.json` keeps: little-endian numbers in Base64."""
        return base64.b64encode(self.hashes.astype("<u4").tobytes()).decode()

    @classmethod
    def from_text(cls, text: str, where: str) -> SeenTexts:
        """Read what `to_text` wrote.

        Raises:
            FolderError: it is something else.
        """
        try:
            found = np.frombuffer(base64.b64decode(text, validate=True), "<u4").astype(np.uint32)
        except (TypeError, ValueError, binascii.Error):
            found = np.empty(0, np.uint32)
        if not 0 < len(found) <= MOST_HASHES or np.any(found[1:] <= found[:-1]):
            raise FolderError(
                where=where,
                found=f"{ENTRY} = {shorten(text)}",
                expected=f"up to {MOST_HASHES} sorted hashes of four bytes in Base64",
                fix="Take the file again from where the model came from, or remove the entry.",
            )
        return cls(found)


def seen_texts(folder: ModelFolder) -> SeenTexts | None:
    """Return the sketch of the labelled texts that a folder's encoder was trained on; None where it does not tell.

    Raises:
        FolderError: the entry is damaged.
    """
    text = folder.record.get(ENTRY)
    return SeenTexts.from_text(text, str(folder.path / RECORD)) if text else None


def known_share(source: Source, texts: Sequence[str]) -> float | None:
    """Return the share of these texts that an encoder was trained on with labels; None where its folder does not tell.

    Cost: the tokens of up to 20,000 of the texts.

    Raises:
        FolderError: the folder's sketch is damaged.
    """
    seen = seen_texts(source.folder)
    if seen is None or not texts:
        return None
    some = np.random.default_rng(0).permutation(len(texts))[:_LOOKED_AT]
    return seen.share(source.tokenizer.read([texts[row] for row in some.tolist()]))


def knows(source: Source, texts: Sequence[str]) -> bool:
    """Whether an encoder was trained on half of these texts or more, with labels; see `known_share`."""
    share = known_share(source, texts)
    return share is not None and share >= _MOST_OF_THEM


def _hashes(tokens: Iterable[Sequence[int] | npt.NDArray[Any]]) -> _Hashes:
    digests = b"".join(
        blake2b(np.asarray(ids[:TOKENS], "<i4").tobytes(), digest_size=4).digest() for ids in tokens
    )
    return np.frombuffer(digests, "<u4").astype(np.uint32)
