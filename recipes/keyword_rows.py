"""Rows for training on topics from the keywords that come with labelled texts, such as TNEWS's titles.

    python recipes/keyword_rows.py DATA/tnews/train.jsonl.xz > DATA/keywords/tnews.jsonl
    python recipes/keyword_rows.py DATA/tnews/train.jsonl.xz --with-text > DATA/titles/tnews.jsonl

The keywords are of the whole article, so they say names that its title does not. A row is a text's keywords in another
order, all of them or with equal chances some; or the text and all its keywords. Rows without keywords are passed over.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from jinyi.files.rows import RowReader


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path, help="rows with text, label and keywords, commas between these")
    parser.add_argument("--with-text", action="store_true", help="the text and its keywords, not these alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for _, row in RowReader(options.file, "utf-8", None):
        words = [word.strip() for word in (row.get("keywords") or "").split(",") if word.strip()]
        if not words:
            continue
        rng.shuffle(words)
        between = rng.choice("、， ")
        if options.with_text:
            text = row["text"] + rng.choice(" ，。") + between.join(words)
        else:
            text = between.join(words[: rng.choice((len(words), rng.randint(1, len(words))))])
        print(json.dumps({"text": text, "label": row["label"]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
