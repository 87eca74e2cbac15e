"""Build the 8,000-entry vocabulary and its tokenizer.json.

python recipes/tiny/vocabulary.py DATA OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import data

from jinyi import vocab
from jinyi.tokens import build_tokenizer

if __name__ == "__main__":
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    texts = [
        line
        for path in sorted((source / "corpus").glob("*.xz"))
        for line in list(data.lines(path))[::4]
        if line
    ]
    entries = vocab.build(texts, 8000)
    tokenizer = build_tokenizer(entries)
    tokenizer.save(str(output / "tokenizer.json"))
    (output / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    coverage = vocab.inspect(tokenizer, texts[::50])
    print(
        f"{len(entries)} entries; {coverage.tokens / coverage.characters:.3f} tokens per character; "
        f"[UNK] {coverage.unknown_rate:.4%}; missing most: {coverage.missing}"
    )
