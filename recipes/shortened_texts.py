"""Long labelled texts with some of their sentences left out: more rows of small sets, such as abstracts.

    python recipes/shortened_texts.py DATA/csldcp/train.jsonl.xz --copies 4 > DATA/shortened/csldcp.jsonl

Each copy keeps some of a text's sentences, one at least and never all, in their order; texts of one or two sentences
are passed over.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from jinyi.files import read_texts

FEWEST = 3  # sentences of a text that is shortened
_END = re.compile(r"(?<=[。！？；!?;])|(?<=\.)(?=[一-鿿])")


def shortened(text: str, rng: random.Random) -> str | None:
    """Return some sentences of a text; None where it has too few."""
    sentences = [part for part in _END.split(text) if part.strip()]
    if len(sentences) < FEWEST:
        return None
    kept = sorted(rng.sample(range(len(sentences)), rng.randint(1, len(sentences) - 1)))
    return "".join(sentences[place] for place in kept).strip()


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path, help="labelled texts, as `jinyi embed` reads them")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    rows = list(read_texts(options.file))
    for _ in range(options.copies):
        for row in rows:
            if (text := shortened(row.text, rng)) is not None:
                print(json.dumps({"text": text, "label": row.label}, ensure_ascii=False))


if __name__ == "__main__":
    main()
