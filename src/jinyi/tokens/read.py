"""Reads the tokenizer files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, normalizers
from tokenizers import Tokenizer as Backend

from jinyi.errors import FolderError
from jinyi.tokens.build import CONTROL_TOKENS, bert_normalizer, wordpiece
from jinyi.tokens.words import WORD_TOKENIZERS, holds_words

CLUE_ROWS = 8021
_USUAL = {21128: "bert-base-chinese and most Chinese models", CLUE_ROWS: "CLUE's small models"}
# What tokenizers of other kinds lie in.
_FOREIGN = {
    **dict.fromkeys(
        ("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model"), "SentencePiece"
    ),
    **dict.fromkeys(("vocab.json", "merges.txt"), "byte-pair encoding"),
}


class FolderTokenizer:
    """What the tokenizer files of a model folder say; `tokenizer.json` counts, then `vocab.txt`.

    `tokenizer_class` is believed in one thing alone, whether words are tokens: most Chinese "RoBERTa" folders name
    the tokenizer of another model over BERT's vocabulary. Attributes: `max_length` tokens that the files state, or
    None; `words` whether the text is cut into words by jieba, or None where the files do not say.

    Args:
        folder: where they lie.

    Raises:
        FolderError: there are none, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = read_settings(folder / "tokenizer_config.json")
        self._json = (folder / "tokenizer.json").is_file()
        if not self._json and not (folder / "vocab.txt").is_file():
            raise no_tokenizer(folder)
        # Tokenizers without a limit state a number like 1e30.
        stated = self._settings.get("model_max_length")
        usable = isinstance(stated, int | float) and 3 <= stated <= 1 << 20
        self.max_length = int(stated or 0) if usable else None
        config = read_settings(folder / "config.json")
        named = self._settings.get("tokenizer_class") or config.get("tokenizer_class")
        if named is None and config.get("model_type") == "roformer":
            named = WORD_TOKENIZERS[0]
        self.words: bool | None = None if named is None else named in WORD_TOKENIZERS

    def backend(self) -> Backend:
        """Return the tokenizer; may set `words` to False, where the vocabulary holds none.

        Raises:
            FolderError: unreadable files, or `tokenizer.json` and `tokenizer_config.json` that disagree.
        """
        backend = self._from_json() if self._json else self._from_vocab()
        if self.words:
            # RoFormer models with a vocabulary of characters were trained with BERT's tokenizer.
            self.words = holds_words(backend.get_vocab(with_added_tokens=False))
            normalizer = backend.normalizer
            if not isinstance(normalizer, normalizers.BertNormalizer):
                raise FolderError(
                    found="a tokenizer of words with a normaliser other than BERT's",
                    expected="the tokenizer.json of RoFormer's tokenizer",
                    fix="Take the tokenizer files of this very model.",
                    where=str(self._folder),
                )
            normalizer.handle_chinese_chars = not self.words
            backend.normalizer = normalizer
        return backend

    def _from_json(self) -> Backend:
        backend = read_tokenizer_json(self._folder / "tokenizer.json")
        if not isinstance(backend.model, models.WordPiece):
            raise not_wordpiece(type(backend.model).__name__, str(self._folder / "tokenizer.json"))
        state = "{}" if backend.normalizer is None else backend.normalizer.__getstate__()
        lowercase, stated = lowercase_of(json.loads(state)), self._settings.get("do_lower_case")
        if None not in (lowercase, stated) and lowercase != stated:
            raise FolderError(
                found=f"lowercase {lowercase} in tokenizer.json, do_lower_case {stated} in tokenizer_config.json",
                expected="the same in both",
                fix="Correct the wrong one: does vocab.txt hold capital letters?",
                where=str(self._folder),
            )
        return backend

    def _from_vocab(self) -> Backend:
        han_alone = self._settings.get("tokenize_chinese_chars")
        normalizer = bert_normalizer(
            states_lowercase(self._settings),
            self._settings.get("strip_accents"),
            True if han_alone is None else bool(han_alone),
        )
        backend = wordpiece(read_vocab(self._folder / "vocab.txt"), normalizer)
        for token, index in sorted(read_added(self._folder).items(), key=lambda item: item[1]):
            backend.add_tokens([AddedToken(token, normalized=True, special=False)])
            if backend.token_to_id(token) != index:
                raise FolderError(
                    found=f"{token!r} with the id {index} in added_tokens.json",
                    expected=f"{backend.token_to_id(token)}, the next id after vocab.txt",
                    fix="The two files are of different models: take both from one source.",
                    where=str(self._folder),
                )
        return backend


def lowercase_of(normalizer: dict[str, Any]) -> bool | None:
    """Whether a normaliser as `tokenizer.json` holds it lower-cases; None where it is not BERT's."""
    steps = [normalizer, *normalizer.get("normalizers", ())]
    return next((bool(step["lowercase"]) for step in steps if step.get("type") == "BertNormalizer"), None)


def states_lowercase(settings: dict[str, Any]) -> bool:
    """What `tokenizer_config.json` says on lower-casing; True where it says nothing, as for BertTokenizer."""
    stated = settings.get("do_lower_case")
    return True if stated is None else bool(stated)


def not_wordpiece(kind: object, where: str) -> FolderError:
    """Return the error for a tokenizer of another kind."""
    return FolderError(
        found=f"a tokenizer of type {kind}",
        expected="WordPiece, the tokenizer of BERT, and of Chinese RoBERTa and ALBERT models",
        fix="jinyi does not read SentencePiece and byte-pair vocabularies: they belong to other models.",
        where=where,
    )


def no_tokenizer(folder: Path, rows: int | None = None) -> FolderError:
    """Return the error for a folder without a tokenizer, which names what lies there instead and what to copy.

    Args:
        folder: the folder.
        rows: rows of the word embedding, if they are known.
    """
    foreign = [name for name in _FOREIGN if (folder / name).is_file()]
    if foreign:
        return not_wordpiece(f"{_FOREIGN[foreign[0]]} ({', '.join(foreign)})", str(folder))
    size = f" of {rows:,} lines" if rows else ""
    like = f" (that of {_USUAL[rows]} has as many)" if rows in _USUAL else ""
    return FolderError(
        found="no tokenizer.json and no vocab.txt" if folder.is_dir() else "no such folder",
        expected="one of these files",
        fix=f"Copy its vocab.txt{size} from where the model comes from{like}; with tokenizer_config.json if there is "
        "one, which says whether to lower-case.",
        where=str(folder),
    )


def read_tokenizer_json(file: Path) -> Backend:
    """Read a `tokenizer.json`.

    Raises:
        FolderError: it cannot be read.
    """
    text = _read_text(file)
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the library raises the bare class, for damaged and for unknown content alike
        raise FolderError(
            found=f"a file that tokenizers cannot read ({error})",
            expected="a tokenizer.json",
            fix="Copy the file again; it may also be from a newer release: pip install -U tokenizers.",
            where=str(file),
        ) from None
    return backend


def read_vocab(file: Path) -> dict[str, int]:
    """Read a `vocab.txt`: ids by entry; an entry that comes twice has the id of its last line.

    Raises:
        FolderError: it cannot be read or lacks a control token.
    """
    lines = _read_text(file).split("\n")
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
    return ids


def read_added(folder: Path) -> dict[str, int]:
    """Read `added_tokens.json`, which older releases of transformers write beside `vocab.txt`; {} without one.

    Raises:
        FolderError: it is damaged.
    """
    added = read_settings(folder / "added_tokens.json")
    return {str(token): index for token, index in added.items() if isinstance(index, int)}


def read_settings(file: Path) -> dict[str, Any]:
    """Read `tokenizer_config.json` or another JSON object; {} where there is none."""
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
