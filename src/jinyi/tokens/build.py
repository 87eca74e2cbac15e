"""Makes the tokenizer of a BERT WordPiece vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from jinyi.errors import InputError
from jinyi.text import FOLDS

CONTROL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
    bert = bert_normalizer(lowercase)
    folds = [normalizers.Replace(old, new) for old, new in FOLDS.items()] if fold else []
    return wordpiece(ids, normalizers.Sequence([*folds, bert]) if fold else bert)


def bert_normalizer(
    lowercase: bool, strip_accents: bool | None = None, han_alone: bool = True
) -> normalizers.BertNormalizer:
    """Return BERT's normaliser; arguments as in `jinyi.tokens.Tokenizer.from_vocab`."""
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=han_alone, strip_accents=strip_accents, lowercase=lowercase
    )


def wordpiece(ids: dict[str, int], normalizer: normalizers.Normalizer) -> Backend:
    """Return BERT's tokenizer over a vocabulary of ids by entry, with this normaliser."""
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
