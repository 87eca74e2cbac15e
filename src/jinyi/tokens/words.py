"""Words as tokens: the tokenizer of RoFormer, which cuts a text by jieba before it looks into the vocabulary.

Its vocabulary holds Chinese words beside characters. jieba (dictionary alone, no model for new words) cuts the text;
a word that the vocabulary holds is one token, any other falls into characters and WordPieces as with BERT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tokenizers import AddedToken, NormalizedString, PreTokenizedString, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from jinyi.errors import MissingExtraError

WORD_TOKENIZERS: Final = ("RoFormerTokenizer", "RoFormerTokenizerFast", "WoBertTokenizer")
_MAX_WORDS = 1 << 16
_MAX_WORD_LENGTH = 32


def holds_words(entries: Iterable[str]) -> bool:
    """Whether a vocabulary holds Chinese words: entries of two or more Chinese characters, none a ##-piece."""
    return any(
        len(entry) > 1 and not entry.startswith("##") and sum(map(_is_han, entry)) > 1 for entry in entries
    )


def cuts_words(normalizer: Mapping[str, Any], entries: Iterable[str]) -> bool:
    """Whether a tokenizer reads words, by the content of its file.

    The file cannot name jieba. It is known by BERT's normaliser with `handle_chinese_chars` off, as RoFormer's
    tokenizer writes it, above a vocabulary of words, most of which BERT's own reading could not reach.

    Args:
        normalizer: the normaliser as `tokenizer.json` holds it.
        entries: the vocabulary.
    """
    bert = normalizer.get("type") == "BertNormalizer"
    return bert and not normalizer.get("handle_chinese_chars", True) and holds_words(entries)


class WordSplitter:
    """jieba's words as a pre-tokenizer of the library `tokenizers`.

    Args:
        vocab: the vocabulary; what it holds stays whole.

    Raises:
        MissingExtraError: rjieba is not installed.
    """

    def __init__(self, vocab: Iterable[str]) -> None:
        self._vocab = frozenset(vocab)
        self._cut = _jieba()
        self._characters = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )

    def words(self, text: str) -> list[str]:
        """Return jieba's words of a normalised text; joined they are the text."""
        return self._cut(text, False)

    def pieces(self, word: str) -> list[str]:
        """Return what is looked up of one word: itself, or its Chinese characters and the rest between them."""
        return [word] if word in self._vocab else self._characters.normalize_str(word).split()

    def pre_tokenize(self, pretok: PreTokenizedString) -> None:
        """Cut a text; the library calls this."""
        pretok.split(self._split)

    def _split(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        whole, start = str(text), 0
        splits: list[NormalizedString] = []
        for word in self.words(whole):
            place = start
            for piece in self.pieces(word):
                place = whole.index(piece, place)
                part = text[place : place + len(piece)]
                splits += [] if part is None else [part]  # the library's way to say: nothing there
                place += len(piece)
            start += len(word)
        return splits


class WordTable:
    """Ids of texts by their words: each word is looked up in the vocabulary once. Safe to use from several threads.

    Args:
        backend: the tokenizer whose normaliser and WordPieces are used.
        splitter: cuts normalised texts.
    """

    def __init__(self, backend: Backend, splitter: WordSplitter) -> None:
        self._normalize: Callable[[str], str] = backend.normalizer.normalize_str
        self._model = backend.model
        self._splitter = splitter
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> list[int]:
        """Return the ids of one text, without [CLS] and [SEP]."""
        known = self._known
        ids: list[int] = []
        for word in self._splitter.words(self._normalize(text)):
            found = known.get(word)
            ids += self._look_up(word) if found is None else found
        return ids

    def _look_up(self, word: str) -> tuple[int, ...]:
        pieces = self._splitter.pieces(word)
        ids = tuple(token.id for piece in pieces for token in self._model.tokenize(piece))
        if len(word) <= _MAX_WORD_LENGTH:
            if len(self._known) >= _MAX_WORDS:
                self._known = {}  # replaced, never emptied: another thread may be reading from it
            self._known[word] = ids
        return ids


def with_splitter(backend: Backend, splitter: WordSplitter | None) -> Backend:
    """Return a tokenizer of the same parts that cuts by words, or (None) one that can be written to a file.

    The library cannot write a tokenizer that calls Python; the file has BERT's splitting in that place.
    """
    made = Backend(backend.model)
    made.normalizer = backend.normalizer
    made.pre_tokenizer = (
        pre_tokenizers.BertPreTokenizer()
        if splitter is None
        else pre_tokenizers.PreTokenizer.custom(splitter)
    )
    made.decoder, made.post_processor = backend.decoder, backend.post_processor
    added: list[AddedToken] = [token for _, token in sorted(backend.get_added_tokens_decoder().items())]
    for token in added:
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    return made


def _is_han(char: str) -> bool:
    return (
        "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0002fa1f"
    )


def _jieba() -> Callable[[str, bool], list[str]]:
    try:
        import rjieba
    except ImportError as error:
        raise MissingExtraError(
            found="no package rjieba",
            expected="it, to cut texts into words: this model's vocabulary holds words",
            fix='pip install "jinyi[zh]"',
            where="tokenizer",
        ) from error
    cut: Callable[[str, bool], list[str]] = rjieba.cut
    return cut
