"""From what a user passes in to clean text: checks, normalisation, sentences, words.

docs/text.md has the rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

from jinyi.errors import InputError, MissingExtraError, shorten

# What jinyi's own tokenizer files fold before BERT's normaliser runs. One character to one character, and no
# value is a key again, so the order of the rules never matters. Chinese punctuation (，！？：；（）～) keeps
# its full width: it is what Chinese text and the vocabulary use.
_KEPT_WIDE = "，！？：；（）～"
FOLDS: dict[str, str] = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _KEPT_WIDE},
    **dict.fromkeys("「〝｢﹁", "“"),
    **dict.fromkeys("」〞〟｣﹂", "”"),
    **dict.fromkeys("『﹃", "‘"),
    **dict.fromkeys("』﹄", "’"),
    **dict.fromkeys("―─⸺", "—"),
    **dict.fromkeys("–−‑", "-"),
    **dict.fromkeys("・•‧", "·"),
    "⋯": "…",
    "〜": "～",
    "¥": "￥",
    "｡": "。",
}
_FOLD_TABLE = str.maketrans(FOLDS)
# NFKC would turn these into ASCII; it is applied to the stretches between them.
_NFKC_STRETCH = re.compile(f"[^{_KEPT_WIDE}…]+")
_BLANKS = re.compile(r"\s+")
# Control (Cc), format (Cf: zero-width characters, direction marks, byte order mark), private use and U+FFFD,
# the mark of undecodable bytes: what BERT's normaliser drops too. Tab and line ends are controls that count
# as blanks.
_DROPPED_CATEGORIES = ("Cc", "Cf", "Co")
_REPLACEMENT = "\ufffd"

# ASCII marks end a sentence only where no Latin letter, digit or URL sign follows: not in "a?b=1".
_SENTENCE_END = re.compile(
    r"""(?: [。！？；…]+ | [!?;]+(?![A-Za-z0-9/=&_%\#.,-]) )
        [。！？；…!?;]*           # "？！" and "……" end one sentence, not two
        [”’」』〞）)】》〉"'\]]*   # closing quotes and brackets stay with it
      | [\r\n\u2028\u2029]+""",
    re.VERBOSE,
)


def check_text(value: object, where: str = "") -> str:
    """Return `value` if it is a text that can be read, and raise otherwise.

    Args:
        value: what a user passed as a text.
        where: its place for the message, such as "row 3".

    Raises:
        InputError: not a `str`; nothing in it but white space, control and zero-width characters or lone
            combining marks; or half a surrogate pair in it.
    """
    if not isinstance(value, str):
        raise not_text_error(value, where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise surrogate_error(value, where, error.start) from None
    if not any(map(_is_readable, value)):
        raise empty_error(value, where)
    return value


def not_text_error(value: object, where: str) -> InputError:
    """Return the error for a value that is no text."""
    if value is None:
        fix = "Drop the row or fill in its text."
    elif isinstance(value, (bytes, bytearray)):
        fix = "Decode it first: value.decode('utf-8')."
    elif isinstance(value, float) and value != value:
        fix = "This is how pandas marks a missing cell: drop the row or fill in its text."
    elif isinstance(value, (list, tuple)):
        fix = "Pass one text for each row; pairs go to PairScorer."
    else:
        fix = "Pass str(value) if its digits are meant as text."
    name = "None" if value is None else f"{shorten(value)} of type {type(value).__name__}"
    return InputError(found=name, expected="a text (str)", fix=fix, where=where)


def empty_error(value: str, where: str) -> InputError:
    """Return the error for a text without anything to read."""
    kind = (
        "an empty text"
        if not value
        else f"a text of nothing but blanks or invisible characters, {shorten(value)}"
    )
    return InputError(found=kind, expected="a text with something to read", fix="Drop the row.", where=where)


def surrogate_error(value: str, where: str, position: int) -> InputError:
    """Return the error for a text with half a surrogate pair at `position`."""
    return InputError(
        found=f"half a character, U+{ord(value[position]):04X}, at position {position} of {shorten(value)}",
        expected="whole characters",
        fix="An emoji was cut in two or bytes were decoded wrongly. Repair: "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').",
        where=where,
    )


@lru_cache(maxsize=16384)
def _is_readable(char: str) -> bool:
    invisible = char.isspace() or unicodedata.category(char) in (*_DROPPED_CATEGORIES, "Mn")
    return not invisible and char != _REPLACEMENT


def normalize(text: str, *, nfkc: bool = False, simplified: bool = False) -> str:
    """Write a text the way jinyi's tokenizers read it: for deduplication, comparison and corpora.

    Control and zero-width characters are dropped, white space of any kind becomes one blank, none at the
    ends, and `FOLDS` is applied. Letters keep their case and accents; tokenizers handle these by their own
    settings. Applying it twice changes nothing, and it never changes the ids a jinyi tokenizer gives, unless
    an option is on.

    Args:
        text: any str.
        nfkc: also Unicode's compatibility form NFKC (① to 1, ㎏ to kg, ﬁ to fi, ⼀ to 一), without its
            changes to Chinese punctuation.
        simplified: also traditional to simplified characters, by OpenCC, which knows phrases (頭髮 to 头发,
            發展 to 发展).

    Raises:
        MissingExtraError: `simplified` without the package opencc.
    """
    text = _drop_invisible(text).translate(_FOLD_TABLE)
    if nfkc and not unicodedata.is_normalized("NFKC", text):
        text = _NFKC_STRETCH.sub(lambda stretch: unicodedata.normalize("NFKC", stretch.group()), text)
        text = text.translate(_FOLD_TABLE)
    if simplified:
        text = _opencc()(text)
    return _BLANKS.sub(" ", text).strip()


def _drop_invisible(text: str) -> str:
    if text.isprintable():  # true for most texts, and false for all that hold one of these
        return text.replace(_REPLACEMENT, "")
    return "".join(
        char
        for char in text
        if char in "\t\n\r"
        or (unicodedata.category(char) not in _DROPPED_CATEGORIES and char != _REPLACEMENT)
    )


@lru_cache(maxsize=1)
def _opencc() -> Callable[[str], str]:
    try:
        from opencc import OpenCC
    except ImportError:
        raise MissingExtraError(
            found="no package opencc",
            expected="it for traditional to simplified characters",
            fix='Run: pip install "jinyi[zh]"',
            where="simplified=True",
        ) from None
    convert: Callable[[str], str] = OpenCC("t2s").convert
    return convert


def split_sentences(text: str) -> list[str]:
    """Split a text after 。！？；… ! ? ; and at line ends.

    Closing quotes and brackets stay with their sentence; an ASCII mark inside a word or an address ends none.

    Returns:
        the sentences without surrounding white space, none empty.
    """
    sentences, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        sentences.append(text[start : end.end()].strip())
        start = end.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def split_words(text: str, segment: Callable[[str], Iterable[str]] | None = None) -> list[str]:
    """Split a text into words, for whole-word masking and word statistics.

    Args:
        text: any str.
        segment: a function from a text to its words in order; None takes rjieba (dictionary and HMM).

    Returns:
        the words; joined they are `text` again.

    Raises:
        MissingExtraError: `segment` is None and rjieba is not installed.
        InputError: the words of `segment` do not join to `text`.
    """
    words = list((segment or _rjieba())(text))
    if "".join(words) != text:
        raise InputError(
            found=f"words that join to {shorten(''.join(words))}",
            expected=f"the text itself, {shorten(text)}",
            fix="Use a segmenter that drops and changes nothing, blanks included.",
            where="segment",
        )
    return words


@lru_cache(maxsize=1)
def _rjieba() -> Callable[[str], list[str]]:
    try:
        import rjieba
    except ImportError:
        raise MissingExtraError(
            found="no package rjieba",
            expected="it, or a function as segment=, for word boundaries",
            fix='Run: pip install "jinyi[zh]"',
            where="segment",
        ) from None
    cut: Callable[[str], list[str]] = rjieba.cut
    return cut
