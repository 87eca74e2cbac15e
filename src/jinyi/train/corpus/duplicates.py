"""Text that is in a corpus twice: exactly, or nearly.

Both filters stream: what is met first stays. Memory grows with what stays: about 150 bytes a distinct span of lines
(`ExactSpans`) and 1.4 to 1.7 kB a document (`NearDuplicates`), by benchmarks/corpus.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, shorten

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 1 << 16  # shingles whose permutations are computed at a time


class ExactSpans:
    """Finds runs of lines that came before, as C4 does with three sentences (Raffel et al. 2020, 2.2).

    Args:
        span: how many lines in a row have to be equal. A document with fewer lines is compared as a whole. 1 drops
            every line that came before, greetings and headlines too.
    """

    def __init__(self, span: int = 3) -> None:
        self.span = span
        self._seen: set[bytes] = set()

    def repeated(self, lines: Sequence[str]) -> list[bool]:
        """Whether each line of a document is part of a span that came before, in this document or an earlier one."""
        width = min(self.span, len(lines))
        out = [False] * len(lines)
        for first in range(len(lines) - width + 1 if lines else 0):
            key = _digest("\n".join(lines[first : first + width]))
            if key in self._seen:
                out[first : first + width] = [True] * width
            else:
                self._seen.add(key)
        return out


class NearDuplicates:
    """Finds documents that share most of their text with an earlier one, by MinHash (Broder 1997) and banding.

    A document is the set of its pieces of `size` characters. 60 minima over hashed sets estimate the share of pieces
    two documents have in common (Jaccard); 12 bands of 5 find the pairs worth comparing: a pair of similarity 0.8 is
    met with chance 0.991, 0.9 with 0.9999. The estimate has a standard deviation of 0.05 at 0.8.

    Args:
        threshold: similarity from which a document counts as a duplicate, above 0.4.
        size: characters of a piece.
        seed: of the hash functions.

    Raises:
        InputError: a threshold out of range.
    """

    bands, rows = 12, 5

    def __init__(self, threshold: float = 0.8, *, size: int = 5, seed: int = 0) -> None:
        if not 0.4 < threshold <= 1:
            raise InputError(
                found=f"near={shorten(threshold)}",
                expected="a similarity above 0.4, at most 1",
                fix="0.8 finds copies with small edits; 0 switches the search off on the command line.",
                where="near",
            )
        self.threshold = threshold
        self.size = size
        rng = np.random.default_rng(seed)
        count = self.bands * self.rows
        self._factors = rng.integers(1 << 63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._terms = rng.integers(1 << 63, size=count, dtype=np.uint64)
        self._places: list[dict[bytes, int]] = [{} for _ in range(self.bands)]
        self._signatures: list[bytes] = []

    def duplicate(self, text: str) -> bool:
        """Whether `text` is nearly equal to one that came before; if not, it is remembered."""
        signature = self.signature(text)
        width = self.rows * signature.itemsize
        raw = signature.tobytes()
        keys = [raw[band * width : (band + 1) * width] for band in range(self.bands)]
        found = {places[key] for places, key in zip(self._places, keys, strict=True) if key in places}
        for place in found:
            if (np.frombuffer(self._signatures[place], np.uint32) == signature).mean() >= self.threshold:
                return True
        for places, key in zip(self._places, keys, strict=True):
            places.setdefault(key, len(self._signatures))
        self._signatures.append(raw)
        return False

    def signature(self, text: str) -> npt.NDArray[np.uint32]:
        """Minima of the 60 hash functions over the pieces of a text; equal places estimate the Jaccard similarity."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
        size = max(min(self.size, len(codes)), 1)
        pieces = np.zeros(max(len(codes) - size + 1, 1), np.uint64)
        for place in range(size if len(codes) else 0):
            pieces = (pieces + codes[place : place + len(pieces)]) * _MULTIPLIER
            pieces ^= pieces >> np.uint64(29)
        pieces = np.unique(pieces)
        best = np.full(len(self._factors), np.iinfo(np.uint32).max, np.uint32)
        for first in range(0, len(pieces), _BLOCK // len(best)):
            some = pieces[first : first + _BLOCK // len(best)]
            hashed = (some * self._factors[:, None] + self._terms[:, None]) >> np.uint64(32)
            best = np.minimum(best, hashed.min(1).astype(np.uint32))
        return best


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
