"""Triplets for supervised SimCSE from files of inference pairs.

    python recipes/nli_triplets.py FILE... > triplets.jsonl

Reads pairs with the labels entailment and contradiction (others are passed over), in any format `jinyi score`
reads. A premise that has both gives as many rows as it has pairs of an entailed and a contradicting sentence, the
first with the first and so on: anchor (the premise), positive, negative.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from jinyi.files import read_pairs


def triplets(files: Iterable[Path]) -> Iterator[dict[str, str]]:
    """Yield {"anchor", "positive", "negative"}, premises in the order they first appear in."""
    said: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"entailment": [], "contradiction": []})
    for file in files:
        for row in read_pairs(file):
            if row.label in ("entailment", "contradiction"):
                conclusions = said[row.a.strip()][str(row.label)]
                if row.b.strip() not in conclusions:
                    conclusions.append(row.b.strip())
    for premise, sides in said.items():
        for positive, negative in zip(sides["entailment"], sides["contradiction"], strict=False):
            yield {"anchor": premise, "positive": positive, "negative": negative}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python recipes/nli_triplets.py FILE... > triplets.jsonl")
    for triplet in triplets(map(Path, sys.argv[1:])):
        print(json.dumps(triplet, ensure_ascii=False))
