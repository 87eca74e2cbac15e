"""From what a user passes in to clean text: checks, normalisation, sentences, words. docs/text.md has the rules."""

from __future__ import annotations

# What jinyi's own tokenizer files fold before BERT's normaliser runs. One character to one character, and no value
# is a key again, so the order of the rules never matters. Chinese punctuation (，！？：；（）～) keeps its full width:
# it is what Chinese text and the vocabulary use.
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
