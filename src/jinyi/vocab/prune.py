"""A large vocabulary made small.

`prune` follows the rules by which CLUE made its 8,021 entries out of the 21,128 of Google's Chinese BERT
(CLUECorpus2020, arXiv 2003.01355, and the program published with CLUE's models), oddities included: with Google's list
the result is CLUE's file to the byte. What it costs: traditional characters are gone, so text has to be simplified
before; English words fall into letters and pieces; ” ’ … and — were not in Google's list.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from jinyi.batches import chunks
from jinyi.errors import InputError, shorten
from jinyi.tokens import CONTROL_TOKENS, Tokenizer
from jinyi.vocab.traditional import TRADITIONAL

RULES: Final = ("clue",)
# Added right behind these entries.
_ADDED: Final = {
    '"': ("“", "‘"),
    "9": (*map(str, range(10, 101)), *map(str, range(2016, 2023))),
}
_SPECIAL: Final = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]|<[ST]>")
# CLUE's list of junk, found by eye in what Google's trainer had learnt. Patterns for what it has in common; three of
# the full-width letters (##ａ ##ｂ ##ｍ) were overlooked, and ##█ ##┅ ○○ ── stayed.
_JUNK: Final = re.compile(
    r"""▲top[a-z]* | ￥\d+                            # rankings and prices of web shops
      | ～{2,} | \#\#～ | (\#\#)?～\d+ | \#\#cm～       # ranges
      | ([★☆↓◆×⋯])\2+ | \#\#◆◆                      # runs of one symbol
      | [ａ-ｚ][a-zａ-ｚ]* | \#\#[ｃ-ｌｎ-ｚ]          # full-width letters
      | \#\#[★℃°☆●㎡♪×｜▲→▼○∥◆ω■↑и＋а◎─＞²│＝↓₂я←]    # symbols inside a word
      | ×[a-z]+ | ▌♥ | ±0 | ˋ▽ˊ | ∟∣ | \#\#f2016""",
    re.VERBOSE,
)
_EMOJI: Final = re.compile(
    "[©®‼⁉™ℹ↔-↙↩↪⌚⌛⌨⏏⏩-⏳⏸-⏺Ⓜ▪▫▶◀◻-◾☀-☄☎☑☔☕☘☝☠☢☣☦☪☮☯☸-☺♀♂♈-♓♠♣♥♦♨♻♾♿⚒-⚗⚙⚛⚜⚠⚡⚪⚫⚰⚱⚽⚾⛄⛅⛈⛎⛏⛑⛓⛔⛩⛪⛰-⛵⛷-⛺⛽"
    "✂✅✈-✍✏✒✔✖✝✡✨✳✴❄❇❌❎❓-❕❗❣❤➕-➗➡➰➿⤴⤵⬅-⬇⬛⬜⭐⭕〰〽㊗㊙\U0001f000-\U0001faff]"
)
_HALF_KANA: Final = frozenset("ｲｸｼｽﾄﾉﾌﾗﾙﾝ")
_JAMO: Final = frozenset(map(chr, range(0x1100, 0x1200))) | {"ᗜ"}
_PHONETIC: Final = frozenset(map(chr, range(0x3105, 0x3130))) - {"ㄧ"}  # which CLUE's list lacks


def _starts(first: str, last: str) -> Callable[[str, str], bool]:
    return lambda token, inner: first <= inner[:1] <= last


# (name of the rule, whom it concerns, whether such an entry is kept); the first one that concerns an entry decides.
# `inner` is the entry without its ##.
_Test = Callable[[str, str], bool]
_CLUE: Final[tuple[tuple[str, _Test, _Test], ...]] = (
    ("junk", lambda token, inner: _JUNK.fullmatch(token) is not None, lambda token, inner: False),
    ("traditional", lambda token, inner: inner[:1] in TRADITIONAL, lambda token, inner: False),
    ("continued Chinese character", _starts("一", "龥"), lambda token, inner: token == inner),
    ("Korean", _starts("\uac00", "\ud7ff"), lambda token, inner: False),
    ("Japanese", _starts("\u3040", "\u30ff"), lambda token, inner: False),
    ("word of Latin letters", _starts("a", "z"), lambda token, inner: token != inner or len(token) == 1),
    ("emoji", lambda token, inner: _EMOJI.match(inner) is not None, lambda token, inner: False),
    ("number", lambda token, inner: inner[:1].isdecimal(), lambda token, inner: len(inner) == 1),
    ("phonetic sign", lambda token, inner: inner in _PHONETIC, lambda token, inner: False),
    ("Japanese", lambda token, inner: inner in _HALF_KANA, lambda token, inner: False),
    ("Korean", lambda token, inner: inner in _JAMO, lambda token, inner: False),
)


@dataclass(frozen=True)
class Pruned:
    """A pruned vocabulary and what became of the rest.

    Attributes:
        entries: what is left, in the order of the ids to be.
        dropped: the entries left out, by rule, in their old order.
        added: entries the old vocabulary did not have. A number that stood there and was dropped as such counts as
            known.
    """

    entries: list[str]
    dropped: dict[str, list[str]]
    added: list[str]


def prune(entries: Iterable[str], *, rules: str = "clue") -> Pruned:
    """Prune a vocabulary by what its entries are.

    The rules of "clue", the first that concerns an entry decides: hand-picked junk is dropped; traditional characters,
    and continuations (##) of Chinese characters, which BERT never makes; Korean and Japanese; Latin words of two or
    more letters, not their ##-pieces and not single letters; emoji; numbers of several digits; Chinese phonetic signs.
    Everything else stays. “ ‘ are added behind ", the numbers 10 to 100 and 2016 to 2022 behind 9.

    Args:
        entries: the vocabulary in the order of its ids, as `vocab.txt` has it.
        rules: "clue".

    Returns:
        What is left and what was dropped. Lower-cased vocabularies are meant; words with capitals stay.

    Raises:
        InputError: unknown rules, or nothing that looks like a vocabulary.
    """
    if rules not in RULES:
        raise InputError(
            found=shorten(rules),
            expected=f"one of {', '.join(RULES)}",
            fix="Choose one of them.",
            where="rules",
        )
    kept: list[str] = []
    dropped: dict[str, list[str]] = {name: [] for name in ("blank", *(rule[0] for rule in _CLUE))}
    old = list(entries)
    for entry in old:
        # Google's list has U+2028 as an entry and as a continuation; CLUE's program read lines where Python ends them.
        token = entry.strip()
        if not token:
            dropped["blank"].append(entry)
            continue
        rule = _rule_against(token)
        if rule is not None:
            dropped[rule].append(token)
            continue
        kept.append(token)
        kept += _ADDED.get(token, ())
    missing = [token for token in CONTROL_TOKENS if token not in kept]
    if missing:
        raise InputError(
            found=f"{len(kept)} entries without {' '.join(missing)}",
            expected="the vocabulary of a BERT model, one entry a line",
            fix="Give its vocab.txt.",
        )
    # An entry of the additions may have been in the old list: its first place counts.
    kept = list(dict.fromkeys(kept))
    known = {entry.strip() for entry in old}
    added = [token for token in kept if token not in known]
    return Pruned(kept, {name: rows for name, rows in dropped.items() if rows}, added)


def _rule_against(token: str) -> str | None:
    if _SPECIAL.fullmatch(token):
        return None
    inner = token.removeprefix("##") or token
    for name, concerns, keeps in _CLUE:
        if concerns(token, inner):
            return None if keeps(token, inner) else name
    return None


def prune_unseen(
    tokenizer: Tokenizer, lines: Iterable[str], *, least: int = 1, size: int | None = None
) -> Pruned:
    """Prune a vocabulary to what a text needs.

    Control tokens, letters and digits (also as continuations) always stay, so no Latin word becomes [UNK] that was
    none before. Entries keep their order.

    Args:
        tokenizer: the large vocabulary with its rules.
        lines: text like that the model will read.
        least: how often an entry must occur.
        size: most entries to keep, the most frequent ones; None for no limit.

    Raises:
        InputError: `size` is below the number of entries that always stay.
    """
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for block in chunks(lines):
        rows = tokenizer.encode(block, truncate="window", allow_empty=True).ids
        counts += np.bincount(np.concatenate(rows), minlength=len(counts))
    vocabulary = tokenizer.vocab
    always = {
        index
        for index, token in enumerate(vocabulary)
        if token in CONTROL_TOKENS or re.fullmatch(r"(##)?[a-zA-Z0-9]", token)
    }
    by_count = Counter(
        {index: int(n) for index, n in enumerate(counts) if n >= least and index not in always}
    )
    if size is not None and size < len(always):
        raise InputError(
            found=f"size={size}",
            expected=f"at least {len(always)}: control tokens, letters and digits",
            fix="Raise size.",
            where="size",
        )
    room = len(by_count) if size is None else size - len(always)
    # Ties are broken by id, so the same text always gives the same vocabulary.
    ranked = sorted(by_count, key=lambda index: (-by_count[index], index))
    kept = always | set(ranked[:room])
    rare = [vocabulary[index] for index in ranked[room:]]
    unseen = [t for i, t in enumerate(vocabulary) if t and i not in kept and i not in by_count]
    dropped = {"unseen": unseen, "rare": rare}
    entries = [vocabulary[index] for index in sorted(kept)]
    return Pruned(entries, {name: rows for name, rows in dropped.items() if rows}, [])
