"""Which tokens begin a word: what whole-word masking needs, computed once for a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from jinyi.text import split_words
from jinyi.tokens import Tokenizer
from jinyi.wordpiece import TableTokenizer, is_context_free

Segmenter = Callable[[str], Iterable[str]]


class WordEncoder:
    """Tokenises texts and marks the tokens that begin a word.

    A word here is what the segmenter says, in the characters of the text as it was given: 修改 is two tokens, of
    which the first begins a word; "tokenizers" may be three, ##-pieces included. A token that spans several words
    counts to the first of them. The first token of a text always begins a word.

    Args:
        tokenizer: text to ids; control tokens typed in a text are text.
        words: a function from a text to its words in order, which together are the text; None takes rjieba.
    """

    def __init__(self, tokenizer: Tokenizer, words: Segmenter | None = None) -> None:
        self._backend = tokenizer.backend
        self._words = words
        self._table = TableTokenizer(self._backend) if is_context_free(self._backend) else None
        self._offsets = lru_cache(maxsize=1 << 16)(self._ask_offsets)

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Tokenise texts, one sentence or line each.

        Returns:
            ids of all texts one after the other, without [CLS] and [SEP] [T]; whether a token begins a word [T];
            number of tokens of each text [len(texts)], which may be 0.

        Raises:
            MissingExtraError: no segmenter was given and rjieba is not installed.
            InputError: the segmenter's words do not join to the text.
        """
        # All texts as one line of characters, a blank behind each: the words of two texts never meet.
        sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
        ends = np.cumsum(sizes)
        ids, places = self._places(texts, ends - sizes)
        begins = np.zeros(int(sizes.sum()) + 1, np.int64)
        for offset, text in zip((ends - sizes).tolist(), texts, strict=True):
            words = split_words(text, self._words)
            begins[offset] = 1
            begins[offset + np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))] = 1
        word = np.cumsum(begins)[places]
        counts = np.diff(np.searchsorted(places, ends), prepend=0)
        return ids, np.diff(word, prepend=0) != 0, counts

    def _places(
        self, texts: Sequence[str], first: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Ids of all texts, and the place of each token's first character in their line of characters."""
        if self._table is None:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
            counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
            total = int(counts.sum())
            ids = np.fromiter((index for e in encodings for index in e.ids), np.uint32, total)
            places = np.fromiter((start for e in encodings for start, _ in e.offsets), np.int64, total)
            return ids, places + np.repeat(first, counts)
        line = " ".join(texts) + " "
        codes = np.frombuffer(line.encode("utf-32-le"), np.uint32)
        found, until = self._table(line, codes)
        # The table says of most characters that they are a token, and of a stretch of letters, digits or signs that
        # join only how many tokens it makes; where these begin is asked of the tokenizer, once for each stretch.
        places = np.searchsorted(until, np.arange(len(found)), side="right")
        heads = np.flatnonzero(np.diff(places, prepend=-1))
        spans = np.diff(places[heads], append=len(line))
        for index in np.flatnonzero(spans > 1).tolist():
            start = int(places[heads[index]])
            stretch = line[start : start + int(spans[index])].rstrip()
            if len(stretch) > 1:
                inside = self._offsets(stretch)
                places[heads[index] : heads[index] + len(inside)] = start + np.array(inside)
        return found.astype(np.uint32), places

    def _ask_offsets(self, text: str) -> tuple[int, ...]:
        return tuple(start for start, _ in self._backend.encode(text, add_special_tokens=False).offsets)


def segmenter_name(words: Segmenter | None) -> str:
    """What a shard folder says of the segmenter: "rjieba VERSION", or module and name of the function."""
    if words is None:
        split_words("")  # without rjieba, say so now
        return f"rjieba {version('rjieba')}"
    return f"{getattr(words, '__module__', None)}.{getattr(words, '__qualname__', type(words).__qualname__)}"
