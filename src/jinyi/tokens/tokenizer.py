"""Texts, pairs and prompts to token ids, with an account of what was cut."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers

from jinyi.arguments import whole_number
from jinyi.errors import FolderError, InputError, shorten
from jinyi.text import check_text, empty_error
from jinyi.tokens.build import CONTROL_TOKENS, bert_normalizer, wordpiece
from jinyi.tokens.cut import TruncateMode, check_mode
from jinyi.tokens.frame import Encoded, Ids, frame_pairs, frame_texts
from jinyi.tokens.inputs import as_list, bad_row, blocks, check_pair
from jinyi.tokens.read import FolderTokenizer, lowercase_of, not_wordpiece, read_tokenizer_json, read_vocab
from jinyi.tokens.words import WordSplitter, WordTable, cuts_words, with_splitter
from jinyi.wordpiece import TableTokenizer, is_context_free

DEFAULT_MAX_LENGTH = 512

_MASK_SLOT, _TEXT_SLOT = "{}", "{text}"


class Tokenizer:
    """BERT's WordPiece tokenizer: the ids of `tokenizer.json`, faster, and with text as data.

    Control tokens typed inside a text ("[MASK]", "[SEP]") are text like any other. Equal to what `tokenizers`
    and transformers give for every text without them. Safe to use from several threads.

    Args:
        backend: the tokenizer as the library `tokenizers` reads it; its truncation and padding are switched
            off.
        max_length: most tokens the model reads, [CLS] and [SEP] included.
        words: whether the text is cut into words by jieba, as RoFormer's tokenizer does: its normaliser leaves
            Chinese characters together; None decides by content (`jinyi.tokens.words.cuts_words`).

    Raises:
        FolderError: it has no WordPiece model or lacks a control token.
        MissingExtraError: it cuts words and rjieba is not installed.
    """

    def __init__(
        self, backend: Backend, *, max_length: int = DEFAULT_MAX_LENGTH, words: bool | None = None
    ) -> None:
        if not isinstance(backend.model, models.WordPiece):
            raise not_wordpiece(type(backend.model).__name__, "")
        self._ids = backend.get_vocab(with_added_tokens=True)
        self._size = max(self._ids.values(), default=-1) + 1
        missing = [token for token in CONTROL_TOKENS if token not in self._ids]
        if missing:
            raise FolderError(
                found=f"a vocabulary of {len(self._ids)} entries without {' '.join(missing)}",
                expected=f"the control tokens {' '.join(CONTROL_TOKENS)}",
                fix="Take the tokenizer files of this very model.",
            )
        content = cuts_words(_normalizer_state(backend), self._ids)
        self.words = content if words is None else words
        if content and not self.words:
            backend.normalizer = normalizers.Sequence([backend.normalizer])  # so that its file tells, too
        if self.words:
            splitter = WordSplitter(backend.get_vocab(with_added_tokens=False))
            backend = with_splitter(backend, splitter)
            self._words = WordTable(backend, splitter)
        # Files of published models may carry both, and then cut or fill up without a word.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.backend = backend
        self.max_length = max_length
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[t] for t in CONTROL_TOKENS
        )
        context_free = not self.words and is_context_free(backend)
        self._table = TableTokenizer(backend) if context_free else None

    def __reduce__(self) -> tuple[Any, ...]:
        # The library forgets `encode_special_tokens` when it is pickled; opening it again sets it.
        return (_reopen, (self._file().to_str(), self.max_length))

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], *, max_length: int | None = None) -> Tokenizer:
        """Open the tokenizer of a model folder: `tokenizer.json`, or `vocab.txt` where that is all there is.

        Args:
            folder: where the files lie.
            max_length: as for the class; None takes `model_max_length` of `tokenizer_config.json` or 512.

        Raises:
            FolderError: no such files, unreadable ones, or `tokenizer.json` and `tokenizer_config.json` that
                disagree on lower-casing: then transformers 4 and 5 give different ids, and neither is a safe
                guess.
            MissingExtraError: the vocabulary holds words and rjieba is not installed.
        """
        files = FolderTokenizer(Path(folder))
        backend = files.backend()
        length = max_length or files.max_length or DEFAULT_MAX_LENGTH
        return cls(backend, max_length=length, words=files.words)

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], *, max_length: int = DEFAULT_MAX_LENGTH) -> Tokenizer:
        """Open a `tokenizer.json`.

        Raises:
            FolderError: it cannot be read or is no WordPiece tokenizer.
        """
        return cls(read_tokenizer_json(Path(file)), max_length=max_length)

    @classmethod
    def from_vocab(
        cls,
        file: str | os.PathLike[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        han_alone: bool = True,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> Tokenizer:
        """Open a `vocab.txt`, one entry on a line, with BERT's own normaliser, as transformers' BertTokenizer
        does.

        Args:
            file: the vocabulary; an entry that comes twice has the id of its last line, as there.
            lowercase: `do_lower_case` of the model: lower-case and, unless `strip_accents` says no, strip
                accents.
            strip_accents: None does what `lowercase` says.
            han_alone: `tokenize_chinese_chars`: every Chinese character is a word.
            max_length: as for the class.

        Raises:
            FolderError: it cannot be read or lacks a control token.
        """
        normalizer = bert_normalizer(lowercase, strip_accents, han_alone)
        return cls(wordpiece(read_vocab(Path(file)), normalizer), max_length=max_length)

    def to_str(self) -> str:
        """Return the text of `tokenizer.json`."""
        return self._file().to_str(pretty=True)

    def _file(self) -> Backend:
        return with_splitter(self.backend, None) if self.words else self.backend

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one and 1."""
        return self._size

    @property
    def vocab(self) -> list[str]:
        """The entries in the order of their ids; empty strings where an id has none."""
        entries = [""] * self.vocab_size
        for token, index in self._ids.items():
            entries[index] = token
        return entries

    @property
    def lowercase(self) -> bool | None:
        """Whether text is lower-cased, or None where the normaliser is not BERT's."""
        return lowercase_of(_normalizer_state(self.backend))

    def ids_of_word(self, word: str) -> list[int]:
        """Return the ids of a text without [CLS] and [SEP], such as a label word; [] for a blank one."""
        return self._tokenize([word], lambda _: "word")[0]

    def encode(
        self,
        texts: Iterable[str],
        *,
        max_length: int | None = None,
        truncate: TruncateMode = "warn",
        allow_empty: bool = False,
    ) -> Encoded:
        """Encode single texts as [CLS] text [SEP].

        Args:
            texts: a list or another iterable of texts.
            max_length: most tokens of an entry, [CLS] and [SEP] included; None is the tokenizer's own.
            truncate: what happens to longer texts. "error": InputError naming the rows. "warn": they are cut
                at the end, with one TruncationWarning. "window": nothing is lost; they become several entries
                of at most `max_length` that overlap by a quarter or more. "report": as "warn", but it is the
                caller who tells the user, from `report`.
            allow_empty: give [CLS] [SEP] for a text with nothing to read instead of raising.

        Returns:
            the ids, in the order of the texts.

        Raises:
            InputError: a row is not a text, has nothing to read or half a surrogate pair in it, or is too
                long.
        """
        tokens = self.read(texts, allow_empty=allow_empty)
        limit = self._limit(max_length, 2)
        return frame_texts(tokens, [self.cls_id], [self.sep_id], limit=limit, truncate=truncate)

    def read(self, texts: Iterable[str], *, allow_empty: bool = False) -> list[list[int]]:
        """Return the ids of texts, whole, without [CLS] and [SEP].

        Args:
            texts: as in `encode`.
            allow_empty: give no ids for a text with nothing to read instead of raising.

        Raises:
            InputError: as in `encode`; no text is too long.
        """
        rows = as_list(texts, "texts")
        tokens = self._tokenize(rows, "row {}".format)
        if not allow_empty:
            self._refuse_empty(tokens, rows.__getitem__, "row {}".format)
        return tokens

    def frame(
        self, tokens: list[list[int]], *, max_length: int | None = None, truncate: TruncateMode = "warn"
    ) -> Encoded:
        """Put what `read` gave between [CLS] and [SEP], as `encode` does; the rows stay as they are.

        Args:
            tokens: from `read`.
            max_length: as in `encode`.
            truncate: as in `encode`.

        Raises:
            InputError: a row is too long.
        """
        limit = self._limit(max_length, 2)
        return frame_texts(tokens, [self.cls_id], [self.sep_id], limit=limit, truncate=truncate)

    def encode_ids(
        self,
        rows: Iterable[Sequence[int]],
        *,
        max_length: int | None = None,
        truncate: TruncateMode = "warn",
        prefix: str = "",
    ) -> Encoded:
        """Encode texts that are token ids already, with [CLS] before and [SEP] behind where a row lacks them.

        Args:
            rows: ids of this tokenizer, one row for each text.
            max_length: as in `encode`.
            truncate: as in `encode`.
            prefix: text put before each row, and with "window" before each of its windows.

        Raises:
            InputError: as in `encode`; a row has no token but [CLS] and [SEP], or an id is not in the vocabulary.
        """
        ahead = [self.cls_id, *(self.ids_of_word(prefix) if prefix else [])]
        tokens = [self._bare(row, place) for place, row in enumerate(as_list(rows, "rows of ids"))]
        limit = self._limit(max_length, len(ahead) + 1)
        return frame_texts(tokens, ahead, [self.sep_id], limit=limit, truncate=truncate)

    def _bare(self, row: Any, place: int) -> Ids:
        """Return a row of ids, checked, without its own [CLS] and [SEP]."""
        flat = row.ndim == 1 if isinstance(row, np.ndarray) else isinstance(row, Sequence)
        ids = list(row) if flat and not isinstance(row, (str, bytes)) else []
        whole = all(isinstance(token, (int, np.integer)) for token in ids)
        if whole:
            ids = ids[int(ids[:1] == [self.cls_id]) :]
            ids = ids[: len(ids) - int(ids[-1:] == [self.sep_id])]
        if not ids or not whole or not 0 <= min(ids) <= max(ids) < self._size:
            raise InputError(
                found=f"token ids {shorten(row)}",
                expected=f"ids from 0 to {self._size - 1}, one at least besides [CLS] and [SEP]",
                fix="Ids are those of this model's own vocabulary; other tokenizers number otherwise.",
                where=f"row {place}",
            )
        return list(map(int, ids))

    def encode_prompt(
        self,
        texts: Iterable[str],
        prompt: str,
        n_masks: int = 1,
        *,
        max_length: int | None = None,
        truncate: TruncateMode = "warn",
    ) -> Encoded:
        """Encode texts with a prompt for an MLM head, all in one segment; the prompt is never cut.

        Args:
            texts: as in `encode`.
            prompt: a text with one {}, where the [MASK]s go, such as "下面是一则关于{}的新闻："; the text
                follows the prompt, or stands where the prompt has {text}.
            n_masks: number of [MASK]s: the tokens of a label word.
            max_length: as in `encode`.
            truncate: as in `encode`; every window has the whole prompt.

        Raises:
            InputError: as in `encode`; or the prompt lacks {} or leaves no room for the text.
        """
        return self.encode_prompts(texts, prompt, [n_masks], max_length=max_length, truncate=truncate)[0]

    def encode_prompts(
        self,
        texts: Iterable[str],
        prompt: str,
        counts: Sequence[int],
        *,
        max_length: int | None = None,
        truncate: TruncateMode = "warn",
    ) -> list[Encoded]:
        """Encode texts as `encode_prompt` does for each of several numbers of [MASK]s; texts are read once.

        Args:
            texts: as in `encode`.
            prompt: as in `encode_prompt`.
            counts: the numbers of [MASK]s.
            max_length: as in `encode`.
            truncate: as in `encode_prompt`.

        Raises:
            InputError: as in `encode_prompt`.
        """
        parts = [self._prompt_parts(prompt, count) for count in counts]
        tokens = self.read(texts)
        limit = self._limit(
            max_length, max((len(prefix) + len(suffix) for prefix, suffix in parts), default=2)
        )
        framed = []
        for prefix, suffix in parts:  # no comprehension: a warning names the caller by counting calls
            framed.append(
                frame_texts(tokens, prefix, suffix, limit=limit, truncate=truncate, mask_id=self.mask_id)
            )
        return framed

    def encode_pairs(
        self,
        pairs: Iterable[Sequence[str]],
        *,
        max_length: int | None = None,
        truncate: Literal["error", "warn", "report"] = "warn",
        segment_ids: str = "pair",
    ) -> Encoded:
        """Encode pairs as [CLS] first [SEP] second [SEP].

        Args:
            pairs: two texts in each row.
            max_length: most tokens of a pair, the three control tokens included; None is the tokenizer's own.
            truncate: "error", "warn" or "report" as in `encode`. The longer text is cut first, down to the
                length of the other one, then both alike (`longest_first` of transformers).
            segment_ids: "pair": the second text is of segment 1; "zeros": all is of segment 0, for models
                trained so.

        Raises:
            InputError: a row is not a pair, or as in `encode`; windows have no meaning for pairs.
        """
        rows = as_list(pairs, "pairs")
        for row, pair in enumerate(rows):
            check_pair(pair, row)
        if segment_ids not in ("pair", "zeros"):
            raise InputError(
                found=shorten(segment_ids),
                expected="'pair' or 'zeros'",
                fix="Choose one.",
                where="segment_ids",
            )
        check_mode(truncate, ("error", "warn", "report"))
        limit = self._limit(max_length, 3)
        count = len(rows)

        def where(index: int) -> str:
            return f"row {index % count}, {'first' if index < count else 'second'} text"

        tokens = self._tokenize([pair[0] for pair in rows] + [pair[1] for pair in rows], where)
        self._refuse_empty(tokens, lambda index: rows[index % count][index // count], where)
        return frame_pairs(
            tokens[:count],
            tokens[count:],
            self.cls_id,
            self.sep_id,
            limit=limit,
            truncate=truncate,
            segments=segment_ids == "pair",
        )

    def _prompt_parts(self, prompt: str, n_masks: int) -> tuple[Ids, Ids]:
        """Return what comes before a text and behind it, [CLS] and [SEP] included."""
        n_masks = whole_number(n_masks, "n_masks", fix="It is the number of tokens of a label word.")
        check_text(prompt, "prompt")
        if prompt.count(_MASK_SLOT) != 1 or prompt.count(_TEXT_SLOT) > 1:
            raise InputError(
                found=shorten(prompt, 60),
                expected="one {} where the label goes, and at most one {text} where the text goes",
                fix="Write it like 下面是一则关于{}的新闻："
                + (" ([MASK] in a prompt is plain text)." if "[MASK]" in prompt else "."),
                where="prompt",
            )
        ahead, _, behind = (prompt if _TEXT_SLOT in prompt else prompt + _TEXT_SLOT).partition(_TEXT_SLOT)
        prefix, suffix = self._with_masks(ahead, n_masks), self._with_masks(behind, n_masks)
        return [self.cls_id, *prefix], [*suffix, self.sep_id]

    def _with_masks(self, part: str, n_masks: int) -> Ids:
        pieces = [self.ids_of_word(piece) for piece in part.split(_MASK_SLOT)]
        return pieces[0] if len(pieces) == 1 else [*pieces[0], *[self.mask_id] * n_masks, *pieces[1]]

    def _limit(self, max_length: int | None, control: int) -> int:
        limit = self.max_length
        if max_length is not None:
            fix = "The model reads no more; truncate='window' reads longer texts in parts."
            limit = whole_number(max_length, "max_length", most=limit, unit="tokens", fix=fix)
        if limit <= control:
            raise InputError(
                found=f"{limit}, of which [CLS], [SEP] and the prompt take {control}",
                expected=f"at least {control + 1}",
                fix="Raise it or shorten the prompt.",
                where="max_length",
            )
        return limit

    def _tokenize(self, texts: list[str], where: Callable[[int], str]) -> list[Ids]:
        rows: list[Ids] = []
        for block in blocks(texts):
            start = len(rows)
            part = texts[start : start + block]
            try:
                # One blank behind each text: the words of two texts never meet.
                joined = " ".join(part) + " "
                codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
            except (TypeError, UnicodeEncodeError):
                raise bad_row(texts, where) from None
            if self.words:
                rows += map(self._words, part)
                continue
            if self._table is None:
                rows += [row.ids for row in self.backend.encode_batch_fast(part, add_special_tokens=False)]
                continue
            ids, counts = self._table(joined, codes)
            ends = np.cumsum(np.fromiter(map(len, part), np.int64, len(part)) + 1) - 1
            flat, bounds = ids.tolist(), [0, *counts[ends].tolist()]
            rows += [flat[first:last] for first, last in pairwise(bounds)]
        return rows

    def _refuse_empty(
        self, tokens: list[Ids], text: Callable[[int], str], where: Callable[[int], str]
    ) -> None:
        if not all(tokens):
            index = next(index for index, row in enumerate(tokens) if not row)
            raise empty_error(text(index), where(index))


def _reopen(text: str, max_length: int) -> Tokenizer:
    return Tokenizer(Backend.from_str(text), max_length=max_length)


def _normalizer_state(backend: Backend) -> dict[str, Any]:
    return {} if backend.normalizer is None else dict(json.loads(backend.normalizer.__getstate__()))
