"""From texts, pairs and prompts to token ids, with an account of what was cut."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from jinyi.errors import FolderError, InputError, TruncationWarning, shorten
from jinyi.text import FOLDS, check_text, empty_error, not_text_error, surrogate_error
from jinyi.wordpiece import TableTokenizer, is_context_free

CONTROL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DEFAULT_MAX_LENGTH = 512
TruncateMode = Literal["error", "warn", "window", "report"]

_Ids = list[int]
_BLOCK = 1 << 20  # characters tokenised at a time: bounds the working memory to some 50 MB
_MASK_SLOT, _TEXT_SLOT = "{}", "{text}"


def build_tokenizer(vocab: Sequence[str], lowercase: bool = True, *, fold: bool = True) -> Backend:
    """Make the tokenizer file of a BERT WordPiece vocabulary.

    The normaliser is a `Sequence` of one `Replace` for each entry of `jinyi.text.FOLDS` (full-width letters,
    digits and symbols to half-width, quote, dash and dot variants to one form) and then BERT's own; so every
    reader of `tokenizer.json` gives the same ids.

    Args:
        vocab: the entries in the order of their ids; [PAD] [UNK] [CLS] [SEP] [MASK] must be among them.
        lowercase: lower-case and strip accents, as BERT's uncased models do.
        fold: False leaves `FOLDS` out: exactly BERT's normaliser, for vocabularies made with it.

    Returns:
        a `tokenizers.Tokenizer`; `.save(path)` writes the file.

    Raises:
        InputError: a control token is missing or an entry is there twice.
    """
    ids = {token: index for index, token in enumerate(vocab)}
    missing = [token for token in CONTROL_TOKENS if token not in ids]
    if missing:
        raise InputError(
            found=f"a vocabulary of {len(vocab)} entries without {' '.join(missing)}",
            expected=f"the control tokens {' '.join(CONTROL_TOKENS)}",
            fix="Add them, or check that this is the vocabulary of a BERT model.",
        )
    if len(ids) != len(vocab):
        twice = next(token for index, token in enumerate(vocab) if ids[token] != index)
        raise InputError(
            found=f"entry {twice!r} more than once in the vocabulary",
            expected="each entry once: its place is its id",
            fix="Replace all but one of them by unused entries such as [unused1].",
        )
    bert = _bert_normalizer(lowercase)
    folds = [normalizers.Replace(old, new) for old, new in FOLDS.items()] if fold else []
    return _wordpiece(ids, normalizers.Sequence([*folds, bert]) if fold else bert)


def _bert_normalizer(
    lowercase: bool, strip_accents: bool | None = None, han_alone: bool = True
) -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=han_alone, strip_accents=strip_accents, lowercase=lowercase
    )


def _wordpiece(ids: dict[str, int], normalizer: normalizers.Normalizer) -> Backend:
    backend = Backend(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in CONTROL_TOKENS]
    )
    return backend


@dataclass(frozen=True, eq=False)
class TruncationReport:
    """What was not read because it was too long.

    Args:
        total: number of inputs.
        rows: int64 [cut], which inputs were cut, ascending.
        lost: int64 [cut], tokens each of them lost.
    """

    total: int
    rows: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]

    @property
    def cut(self) -> int:
        """Number of inputs that were cut."""
        return len(self.rows)

    @property
    def tokens_lost(self) -> int:
        """Number of tokens that were not read."""
        return int(self.lost.sum())

    def __str__(self) -> str:
        if not self.cut:
            return f"none of {self.total} texts cut"
        named = ", ".join(map(str, self.rows[:5].tolist())) + (", ..." if self.cut > 5 else "")
        rows = "row" if self.cut == 1 else "rows"
        return f"{self.cut} of {self.total} texts cut, {self.tokens_lost} tokens not read ({rows} {named})"


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids ready for batching; one entry for each input, or for each window of it.

    Args:
        ids: token ids of each entry, [CLS] and [SEP] included.
        splits: number of leading tokens of each entry that are of segment 0; all of them for single texts.
        masks: places in `ids` of the [MASK]s a prompt put in, equally many in each entry; None without a
            prompt.
        owners: int64, the input row of each entry; entry i belongs to row i unless texts were cut into
            windows.
        report: what was cut.
    """

    ids: list[list[int]]
    splits: list[int]
    masks: list[list[int]] | None
    owners: npt.NDArray[np.int64]
    report: TruncationReport


class Tokenizer:
    """BERT's WordPiece tokenizer: the ids of `tokenizer.json`, faster, and with text as data.

    Control tokens typed inside a text ("[MASK]", "[SEP]") are text like any other. Equal to what `tokenizers`
    and transformers give for every text without them. Safe to use from several threads.

    Args:
        backend: the tokenizer as the library `tokenizers` reads it; its truncation and padding are switched
            off.
        max_length: most tokens the model reads, [CLS] and [SEP] included.

    Raises:
        FolderError: it has no WordPiece model or lacks a control token.
    """

    def __init__(self, backend: Backend, *, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        if not isinstance(backend.model, models.WordPiece):
            raise FolderError(
                found=f"a tokenizer of type {type(backend.model).__name__}",
                expected="WordPiece, the tokenizer of BERT models",
                fix="jinyi runs BERT models; this folder holds another kind.",
            )
        self._ids = backend.get_vocab(with_added_tokens=True)
        missing = [token for token in CONTROL_TOKENS if token not in self._ids]
        if missing:
            raise FolderError(
                found=f"a vocabulary of {len(self._ids)} entries without {' '.join(missing)}",
                expected=f"the control tokens {' '.join(CONTROL_TOKENS)}",
                fix="Take the tokenizer files of this very model.",
            )
        # Files of published models may carry both, and then cut or fill up without a word.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.backend = backend
        self.max_length = max_length
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[t] for t in CONTROL_TOKENS
        )
        self._table = TableTokenizer(backend) if is_context_free(backend) else None

    def __reduce__(self) -> tuple[Any, ...]:
        # The library forgets `encode_special_tokens` when it is pickled; opening it again sets it.
        return (_reopen, (self.backend.to_str(), self.max_length))

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
        """
        folder = Path(folder)
        settings = _read_settings(folder / "tokenizer_config.json")
        if max_length is None:
            # Tokenizers without a limit state a number like 1e30.
            stated = settings.get("model_max_length")
            usable = isinstance(stated, int | float) and 3 <= stated <= 1 << 20
            max_length = int(stated or 0) if usable else DEFAULT_MAX_LENGTH
        if (folder / "tokenizer.json").is_file():
            tokenizer = cls.from_file(folder / "tokenizer.json", max_length=max_length)
            lowercase, stated_lowercase = tokenizer.lowercase, settings.get("do_lower_case")
            if None not in (lowercase, stated_lowercase) and lowercase != stated_lowercase:
                raise FolderError(
                    found=f"lowercase {lowercase} in tokenizer.json, do_lower_case {stated_lowercase} in "
                    "tokenizer_config.json",
                    expected="the same in both",
                    fix="Correct the wrong one: does vocab.txt hold capital letters?",
                    where=str(folder),
                )
            return tokenizer
        if (folder / "vocab.txt").is_file():
            return cls.from_vocab(
                folder / "vocab.txt",
                lowercase=bool(settings.get("do_lower_case", True)),
                strip_accents=settings.get("strip_accents"),
                han_alone=bool(settings.get("tokenize_chinese_chars", True)),
                max_length=max_length,
            )
        raise FolderError(
            found="no tokenizer.json and no vocab.txt" if folder.is_dir() else "no such folder",
            expected="one of these files",
            fix="Copy the tokenizer files from where the model comes from.",
            where=str(folder),
        )

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], *, max_length: int = DEFAULT_MAX_LENGTH) -> Tokenizer:
        """Open a `tokenizer.json`.

        Raises:
            FolderError: it cannot be read or is no WordPiece tokenizer.
        """
        text = _read_text(Path(file))
        try:
            backend = Backend.from_str(text)
        except (
            Exception
        ) as error:  # the library raises the bare class, for damaged and for unknown content alike
            raise FolderError(
                found=f"a file that tokenizers cannot read ({error})",
                expected="a tokenizer.json",
                fix="Copy the file again; it may also be from a newer release: pip install -U tokenizers.",
                where=str(file),
            ) from None
        return cls(backend, max_length=max_length)

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
        lines = _read_text(Path(file)).split("\n")
        entries = lines[:-1] if not lines[-1] else lines
        ids = {token.removesuffix("\r"): index for index, token in enumerate(entries)}
        missing = [token for token in CONTROL_TOKENS if token not in ids]
        if missing:
            raise FolderError(
                found=f"{len(entries)} entries without {' '.join(missing)}",
                expected="the vocab.txt of a BERT model",
                fix="Take the vocab.txt of this very model.",
                where=str(file),
            )
        return cls(
            _wordpiece(ids, _bert_normalizer(lowercase, strip_accents, han_alone)), max_length=max_length
        )

    def to_str(self) -> str:
        """Return the text of `tokenizer.json`."""
        return self.backend.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one and 1."""
        return max(self._ids.values()) + 1

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
        normalizer = self.backend.normalizer
        state = {} if normalizer is None else json.loads(normalizer.__getstate__())
        steps = [state, *state.get("normalizers", ())]
        return next((bool(step["lowercase"]) for step in steps if step.get("type") == "BertNormalizer"), None)

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
        return self._frame(
            self._checked(texts, allow_empty), [self.cls_id], [self.sep_id], None, max_length, truncate
        )

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
        before, after = self._prompt_parts(prompt, n_masks)
        prefix, suffix = [self.cls_id, *before], [*after, self.sep_id]
        return self._frame(self._checked(texts, False), prefix, suffix, n_masks, max_length, truncate)

    def encode_pairs(
        self,
        pairs: Iterable[Sequence[str]],
        *,
        max_length: int | None = None,
        truncate: Literal["error", "warn", "report"] = "warn",
        segment_ids: Literal["pair", "zeros"] = "pair",
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
        rows = _as_list(pairs, "pairs")
        for row, pair in enumerate(rows):
            _check_pair(pair, row)
        if segment_ids not in ("pair", "zeros"):
            raise InputError(
                found=shorten(segment_ids),
                expected="'pair' or 'zeros'",
                fix="Choose one.",
                where="segment_ids",
            )
        _check_mode(truncate, ("error", "warn", "report"))
        limit = self._limit(max_length, 3)
        count = len(rows)

        def where(index: int) -> str:
            return f"row {index % count}, {'first' if index < count else 'second'} text"

        tokens = self._tokenize([pair[0] for pair in rows] + [pair[1] for pair in rows], where)
        self._refuse_empty(tokens, lambda index: rows[index % count][index // count], where)
        firsts, seconds = tokens[:count], tokens[count:]
        lengths = np.fromiter(map(len, tokens), np.int64, 2 * count).reshape(2, count)
        report = _report(lengths.sum(0) - (limit - 3), count)
        _settle(report, truncate, limit, "pairs")
        for row in report.rows.tolist():
            keep = _longest_first(len(firsts[row]), len(seconds[row]), limit - 3)
            firsts[row], seconds[row] = firsts[row][: keep[0]], seconds[row][: keep[1]]
        cls, sep = self.cls_id, self.sep_id
        ids = [[cls, *first, sep, *second, sep] for first, second in zip(firsts, seconds, strict=True)]
        splits = [len(first) + 2 for first in firsts] if segment_ids == "pair" else list(map(len, ids))
        return Encoded(ids, splits, None, np.arange(count), report)

    def _checked(self, texts: Iterable[str], allow_empty: bool) -> list[_Ids]:
        rows = _as_list(texts, "texts")
        tokens = self._tokenize(rows, "row {}".format)
        if not allow_empty:
            self._refuse_empty(tokens, rows.__getitem__, "row {}".format)
        return tokens

    def _frame(
        self,
        tokens: list[_Ids],
        prefix: _Ids,
        suffix: _Ids,
        n_masks: int | None,
        max_length: int | None,
        truncate: str,
    ) -> Encoded:
        _check_mode(truncate, ("error", "warn", "window", "report"))
        control = len(prefix) + len(suffix)
        limit = self._limit(max_length, control)
        room = limit - control
        count = len(tokens)
        lengths = np.fromiter(map(len, tokens), np.int64, count)
        over = lengths - room
        owners = np.arange(count)
        if truncate == "window" and (over > 0).any():
            parts = [_windows(row, room) for row in tokens]
            owners = np.repeat(owners, list(map(len, parts)))
            tokens = list(chain.from_iterable(parts))
            over = np.zeros(count, np.int64)
        report = _report(over, count)
        _settle(report, truncate, limit, "texts")
        for row in report.rows.tolist():
            tokens[row] = tokens[row][:room]
        ids = [[*prefix, *row, *suffix] for row in tokens]
        masks = None
        if n_masks is not None:
            ahead = [place for place, token in enumerate(prefix) if token == self.mask_id]
            behind = [place for place, token in enumerate(suffix) if token == self.mask_id]
            offset = len(prefix)
            masks = [[*ahead, *(offset + len(row) + place for place in behind)] for row in tokens]
        return Encoded(ids, list(map(len, ids)), masks, owners, report)

    def _prompt_parts(self, prompt: str, n_masks: int) -> tuple[_Ids, _Ids]:
        if not isinstance(n_masks, int) or n_masks < 1:
            raise InputError(
                found=shorten(n_masks),
                expected="1 or more",
                fix="It is the tokens of a label.",
                where="n_masks",
            )
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
        return self._with_masks(ahead, n_masks), self._with_masks(behind, n_masks)

    def _with_masks(self, part: str, n_masks: int) -> _Ids:
        pieces = [self.ids_of_word(piece) for piece in part.split(_MASK_SLOT)]
        return pieces[0] if len(pieces) == 1 else [*pieces[0], *[self.mask_id] * n_masks, *pieces[1]]

    def _limit(self, max_length: int | None, control: int) -> int:
        limit = self.max_length if max_length is None else max_length
        if not isinstance(limit, int | np.integer) or limit > self.max_length:
            raise InputError(
                found=shorten(limit),
                expected=f"a whole number, at most {self.max_length}: the model reads no more",
                fix="Lower it; truncate='window' reads longer texts in parts.",
                where="max_length",
            )
        if limit <= control:
            raise InputError(
                found=f"{limit}, of which [CLS], [SEP] and the prompt take {control}",
                expected=f"at least {control + 1}",
                fix="Raise it or shorten the prompt.",
                where="max_length",
            )
        return int(limit)

    def _tokenize(self, texts: list[str], where: Callable[[int], str]) -> list[_Ids]:
        rows: list[_Ids] = []
        for block in _blocks(texts):
            start = len(rows)
            part = texts[start : start + block]
            try:
                # One blank behind each text: the words of two texts never meet.
                joined = " ".join(part) + " "
                codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
            except (TypeError, UnicodeEncodeError):
                raise _bad_row(texts, where) from None
            if self._table is None:
                rows += [row.ids for row in self.backend.encode_batch_fast(part, add_special_tokens=False)]
                continue
            ids, counts = self._table(joined, codes)
            ends = np.cumsum(np.fromiter(map(len, part), np.int64, len(part)) + 1) - 1
            flat, bounds = ids.tolist(), [0, *counts[ends].tolist()]
            rows += [flat[first:last] for first, last in pairwise(bounds)]
        return rows

    def _refuse_empty(
        self, tokens: list[_Ids], text: Callable[[int], str], where: Callable[[int], str]
    ) -> None:
        if not all(tokens):
            index = next(index for index, row in enumerate(tokens) if not row)
            raise empty_error(text(index), where(index))


def _reopen(text: str, max_length: int) -> Tokenizer:
    return Tokenizer(Backend.from_str(text), max_length=max_length)


def split_pair(text: str, where: str = "") -> tuple[str, str]:
    """Split the one-string form of a pair, "first[SEP]second", as ModelScope's pipelines take it.

    This is the only place where a typed control token has a meaning.

    Args:
        text: a str with exactly one [SEP] between two texts.
        where: its place for messages, such as "row 3".

    Raises:
        InputError: not a text, no or more than one [SEP], or nothing to read on one side of it.
    """
    parts = check_text(text, where).split("[SEP]")
    if len(parts) != 2:
        raise InputError(
            found=f"{shorten(text)} with {len(parts) - 1 or 'no'} [SEP]",
            expected='one [SEP] between two texts, "first[SEP]second"',
            fix="Or pass the two texts as a pair: (first, second).",
            where=where,
        )
    place = f"{where}, " if where else ""
    first, second = (part.strip() for part in parts)
    return check_text(first, f"{place}first text"), check_text(second, f"{place}second text")


def _as_list(rows: Iterable[Any], what: str) -> list[Any]:
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise InputError(
            found=f"{shorten(rows)} of type {type(rows).__name__}",
            expected=f"a list of {what}",
            fix="Put it into a list: [...].",
            where=what,
        )
    return list(rows)


def _check_pair(pair: object, row: int) -> None:
    if isinstance(pair, str | bytes) or not isinstance(pair, Sequence):
        raise InputError(
            found=f"{shorten(pair)} of type {type(pair).__name__}",
            expected="two texts, (first, second)",
            fix='Split "first[SEP]second" with jinyi.tokens.split_pair.',
            where=f"row {row}",
        )
    if len(pair) != 2:
        raise InputError(
            found=f"{shorten(pair)}: {len(pair)} instead of two texts",
            expected="two texts, (first, second)",
            fix="Fill in or drop the row.",
            where=f"row {row}",
        )


def _bad_row(texts: list[Any], where: Callable[[int], str]) -> InputError:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            return not_text_error(text, where(index))
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return surrogate_error(text, where(index), error.start)
    raise AssertionError("called for texts that join")


def _blocks(texts: list[str]) -> Iterator[int]:
    """Yield the numbers of texts that make about `_BLOCK` characters each."""
    count = size = 0
    for text in texts:
        count += 1
        size += len(text) if isinstance(text, str) else 0
        if size >= _BLOCK:
            yield count
            count = size = 0
    if count:
        yield count


def _check_mode(truncate: str, modes: tuple[str, ...]) -> None:
    if truncate not in modes:
        raise InputError(
            found=shorten(truncate),
            expected=" or ".join(map(repr, modes)),
            fix="Pairs are read whole or cut: windows have no meaning for them."
            if truncate == "window"
            else "Choose one.",
            where="truncate",
        )


def _report(over: npt.NDArray[np.int64], count: int) -> TruncationReport:
    rows = np.flatnonzero(over > 0)
    return TruncationReport(count, rows, over[rows])


def _settle(report: TruncationReport, truncate: str, limit: int, what: str) -> None:
    """Raise or warn as the mode says."""
    if not report.cut or truncate == "report":
        return
    windows = " or truncate='window'" if what == "texts" else ""
    if truncate == "error":
        named = ", ".join(
            f"row {row} has {limit + lost}"
            for row, lost in zip(report.rows[:5].tolist(), report.lost[:5].tolist(), strict=True)
        )
        more = ", ..." if report.cut > 5 else ""
        raise InputError(
            found=f"{report.cut} of {report.total} {what} too long: {named}{more}",
            expected=f"at most {limit} tokens with [CLS] and [SEP]",
            fix=f"Shorten them, or pass truncate='warn'{windows}.",
        )
    warnings.warn(
        f"{report}: the limit is {limit} tokens with [CLS] and [SEP]. truncate='error' refuses such {what}"
        + (", 'window' reads them whole." if what == "texts" else "."),
        TruncationWarning,
        stacklevel=4 if what == "texts" else 3,
    )


def _windows(row: _Ids, room: int) -> list[_Ids]:
    """Cut into full windows, evenly spaced, that overlap by a quarter or more."""
    if len(row) <= room:
        return [row]
    step = max(1, room - room // 4)
    last = len(row) - room
    count = -(-last // step) + 1
    return [row[start : start + room] for start in (index * last // (count - 1) for index in range(count))]


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay when together they may have `room`."""
    short = min(first, second, room // 2)
    return (short, room - short) if first <= second else (room - short, short)


def _read_text(file: Path) -> str:
    try:
        # newline="": only "\n" ends an entry of a vocab.txt; some hold "\u2028" or "\r" as entries.
        with open(file, encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        raise FolderError(
            found="no such file", expected=file.name, fix="Check the path.", where=str(file)
        ) from None
    except UnicodeDecodeError as error:
        raise FolderError(
            found=f"bytes at position {error.start} that are not UTF-8",
            expected="UTF-8 text",
            fix="Copy the file again, or convert it to UTF-8.",
            where=str(file),
        ) from None


def _read_settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        settings = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise FolderError(
            found=f"damaged JSON ({error})",
            expected="a JSON object",
            fix="Copy the file again.",
            where=str(file),
        ) from None
    return settings if isinstance(settings, dict) else {}
