"""A small vocabulary built from raw text.

The vocabulary is a BERT WordPiece list whose Chinese part is single characters, as in Google's and CLUE's Chinese
models. Following CLUE's 8K vocabulary (CLUECorpus2020, arXiv 2003.01355), pieces that BERT's pre-tokeniser can never
reach are left out; unlike it, all Chinese punctuation is kept (CLUE's and Google's lists lack ” ’ … and —).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from jinyi.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SYMBOLS = "～￥℃"  # no punctuation for BERT's pre-tokeniser: they need a continuation form
# Always present, whatever the corpus holds: a text may not lose its punctuation to [UNK].
PUNCTUATION = "，。、？！：；“”‘’（）《》〈〉【】〔〕…—·" + "".join(
    chr(c) for c in range(0x21, 0x7F) if not chr(c).isalnum()
)
SPARE_TOKENS = 16


def is_han(char: str) -> bool:
    """Whether BERT's pre-tokeniser puts blanks around `char` (the CJK ideograph blocks of Google's BERT)."""
    code = ord(char)
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x2CEAF
        or 0x2F800 <= code <= 0x2FA1F
    )


def build(lines: Iterable[str], size: int = 8000, *, han: int = 5900, symbols: int = 300) -> list[str]:
    """Build a vocabulary of exactly `size` entries.

    Order: [PAD] [UNK] [CLS] [SEP] [MASK], `[unused…]` spares for later special tokens, punctuation and symbols by
    frequency, digits, letters, Chinese characters by frequency, then WordPiece pieces for Latin words and numbers
    trained on the words of `lines`.

    Args:
        lines: raw text; the shipped normaliser is applied to it.
        size: number of entries.
        han: at most this many Chinese characters, the most frequent ones.
        symbols: at most this many symbols besides punctuation.

    Raises:
        InputError: if `size` cannot hold the fixed parts.
    """
    from tokenizers import Tokenizer, models, trainers

    from jinyi.tokens import build_tokenizer

    normalizer = build_tokenizer([*SPECIAL_TOKENS]).normalizer
    characters: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for line in lines:
        text = normalizer.normalize_str(line)
        characters.update(text)
        words.update(_latin_words(text))

    chinese = [c for c, _ in _by_frequency(characters) if is_han(c)][:han]
    marks = [c for c, _ in _by_frequency(characters) if _is_symbol(c) and c not in PUNCTUATION + SYMBOLS]
    marks = [*SYMBOLS, *marks][:symbols]
    # BERT splits at punctuation only: in "😂😂" the second mark is a continuation, and without it both are lost.
    marks += [f"##{c}" for c in marks if unicodedata.category(c)[0] != "P"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    digits = [str(d) for d in range(10)]
    head = [
        *SPECIAL_TOKENS,
        *(f"[unused{i}]" for i in range(1, SPARE_TOKENS + 1)),
        *dict.fromkeys(PUNCTUATION),
        *marks,
    ]
    single = [*digits, *(f"##{d}" for d in digits), *letters, *(f"##{c}" for c in letters)]
    head += [*single, *chinese]
    room = size - len(head)
    if room < 0:
        raise InputError(
            found=f"size={size}",
            expected=f"at least {len(head)}: fixed entries, {len(chinese)} Chinese characters, {len(marks)} symbols",
            fix="Raise size, or lower han or symbols.",
        )
    known = set(head)
    trainer_model = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=40))
    # Listing all single pieces fixes their ids; the trainer breaks ties by id, and would number them by chance.
    trainer = trainers.WordPieceTrainer(
        vocab_size=room + len(single) + 1,
        special_tokens=["[UNK]", *single],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    trainer_model.train_from_iterator((w for word, n in words.items() for w in [word] * min(n, 200)), trainer)
    ranked = sorted(trainer_model.get_vocab().items(), key=lambda item: item[1])
    pieces = [piece for piece, _ in ranked if piece not in known][:room]
    if len(pieces) < room:
        pieces += [f"[unused{i}]" for i in range(SPARE_TOKENS + 1, SPARE_TOKENS + 1 + room - len(pieces))]
    return head + pieces


def _by_frequency(counter: Counter[str]) -> list[tuple[str, int]]:
    # Ties are broken by code point, so the same text always gives the same vocabulary.
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _is_symbol(char: str) -> bool:
    return (
        not is_han(char)
        and not char.isspace()
        and not (char.isascii() and char.isalnum())
        and unicodedata.category(char)[0] != "M"
    )


def _latin_words(text: str) -> list[str]:
    spaced = "".join(c if c.isascii() and c.isalnum() else " " for c in text)
    return spaced.split()
