"""BERT's tokenisation by array look-ups: the ids of `tokenizers`, ten times as fast on Chinese text.

BERT makes every Chinese character and every punctuation mark a word of its own, so most characters of a
Chinese text have one id, whatever stands beside them. These ids are learnt by asking the real tokenizer once
for each character met, and looked up in one array for all texts at a time. What is left, stretches of Latin
letters, digits and other characters that join with their neighbours, goes to the real tokenizer whole, and
its answers are kept.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

# What is known of a character that is not one token by itself. From _JOINS down, the real tokenizer is asked.
_UNSEEN, _BLANK = -1, -2  # not met yet; white space
_JOINS = -3  # part of a word together with its neighbours of this kind
_DROPPED = -4  # control characters, stripped accents: gone before words are made, so neighbours join across
_UNCLEAR = -5  # none of these; no character is known for which BERT's rules give this
_MAX_WORDS = 1 << 16
_MAX_WORD_LENGTH = 32


def is_context_free(backend: Backend) -> bool:
    """Whether a tokenizer treats characters one by one up to its words, so that `TableTokenizer` is exact for
    it.

    That is BERT's normaliser, alone or with replacements of single characters, BERT's splitting, and no added
    words.
    """
    state: dict[str, Any] = (
        {} if backend.normalizer is None else json.loads(backend.normalizer.__getstate__())
    )
    steps = state["normalizers"] if state.get("type") == "Sequence" else [state]
    kinds = [step.get("type") for step in steps]
    replaced = [step["pattern"].get("String", "") for step in steps if step.get("type") == "Replace"]
    return (
        kinds.count("BertNormalizer") == 1
        and kinds.count("Replace") == len(kinds) - 1
        and all(len(pattern) == 1 for pattern in replaced)
        and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


class TableTokenizer:
    """Ids of texts by look-up.

    Args:
        backend: the tokenizer to reproduce, one that `is_context_free`; typed control tokens must be text for
            it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # For each code point its id if it always is a token of its own, or one of the kinds above.
        self._kinds = np.full(0x110000, _UNSEEN, np.int32)
        self._words: dict[str, tuple[int, ...]] = {}
        self._max_word: int = backend.model.max_input_chars_per_word

    def __call__(
        self, text: str, codes: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Tokenise a text, without [CLS] and [SEP].

        Args:
            text: any text.
            codes: its code points.

        Returns:
            ids of the tokens, and for each character how many tokens there are up to and with its own; that
            of a character inside a longer word is without meaning.
        """
        kinds = self._kinds[codes]
        unseen = kinds == _UNSEEN
        if unseen.any():
            self._learn(np.unique(codes[unseen]))
            kinds = self._kinds[codes]
        counts = (kinds >= 0).astype(np.int64)
        rest = np.flatnonzero(kinds <= _JOINS)
        if not rest.size:
            return kinds[kinds >= 0], counts.cumsum()
        starts, stops = _stretches(rest)
        words = self._look_up(
            [
                text[a:b] if b - a <= self._max_word else self._shortened(text[a:b], kinds[a:b])
                for a, b in zip(starts.tolist(), stops.tolist(), strict=True)
            ]
        )
        sizes = np.fromiter(map(len, words), np.int64, len(words))
        counts[starts] = sizes
        ends = counts.cumsum()
        ids = np.empty(int(ends[-1]), np.int32)
        single = kinds >= 0
        ids[ends[single] - 1] = kinds[single]
        total = int(sizes.sum())
        places = np.arange(total) + np.repeat(ends[starts] - sizes.cumsum(), sizes)
        ids[places] = np.fromiter(chain.from_iterable(words), np.int32, total)
        return ids, ends

    def _learn(self, codes: npt.NDArray[np.uint32]) -> None:
        probes = [f"a{chr(code)}a" for code in codes.tolist()]
        encodings = self._backend.encode_batch(probes, add_special_tokens=False)
        for code, encoding in zip(codes.tolist(), encodings, strict=True):
            words = [word or 0 for word in encoding.word_ids]  # None is for control tokens only
            spans = encoding.offsets
            last = max(words)
            apart = (
                last > 0
                and all(span[1] == 1 for word, span in zip(words, spans, strict=True) if word == 0)
                and all(span[0] == 2 for word, span in zip(words, spans, strict=True) if word == last)
            )
            between = [token for token, word in zip(encoding.ids, words, strict=True) if 0 < word < last]
            if last == 0:
                dropped = self._backend.normalizer.normalize_str(f"a{chr(code)}a") == "aa"
                kind = _DROPPED if dropped else _JOINS
            elif apart and len(between) < 2:
                kind = between[0] if between else _BLANK
            else:
                kind = _UNCLEAR
            self._kinds[code] = kind

    def _shortened(self, stretch: str, kinds: npt.NDArray[np.int32]) -> str:
        """Return a short text with the same ids: a megabyte of one letter may not take seconds."""
        if (kinds == _UNCLEAR).any():
            return stretch
        kept = np.flatnonzero(kinds == _JOINS)
        # One word; when it is longer than WordPiece reads, [UNK] stands for all of it, however long it is.
        return "".join(stretch[place] for place in kept[: self._max_word + 1].tolist())

    def _look_up(self, words: list[str]) -> list[tuple[int, ...]]:
        # A full cache is replaced, never emptied: another thread may be reading from it.
        cache = self._words
        missing = [word for word in dict.fromkeys(words) if word not in cache]
        if not missing:
            return [cache[word] for word in words]
        encodings = self._backend.encode_batch_fast(missing, add_special_tokens=False)
        fresh = {word: tuple(encoding.ids) for word, encoding in zip(missing, encodings, strict=True)}
        found = [fresh[word] if word in fresh else cache[word] for word in words]
        short = {word: ids for word, ids in fresh.items() if len(word) <= _MAX_WORD_LENGTH}
        if len(cache) + len(short) > _MAX_WORDS:
            self._words = short if len(short) <= _MAX_WORDS else {}
        else:
            cache.update(short)
        return found


def _stretches(places: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return starts and stops of the runs of neighbouring places."""
    first = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    return places[first], places[np.append(first[1:], len(places)) - 1] + 1
