"""Pairs of sentences from raw text, labelled by the characters they share: keeps vectors exact on names and numbers.

    python recipes/lexical_pairs.py --rows 40000 --seed 0 corpus/baidu_hot.txt.xz ... > lexical.jsonl

Contrastive training on questions that mean the same teaches a small model to pass over words, and on news, where
names and numbers decide, its vectors fall behind character TF-IDF. These pairs teach it that baseline's order there. A
third of them are neighbours in one document, a third the nearest by TF-IDF among 2,000 random sentences, a third a
sentence and itself with words dropped or taken from another. The label is the TF-IDF cosine of characters and pairs of
characters, in tenths, at most 0.9: ordered by CoSENT, never pulled together as equals.

Reads lines, a blank one between documents (.xz too); needs the extras train and eval.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rjieba
from sklearn.feature_extraction.text import TfidfVectorizer

POOL = 2000
_END = re.compile(r"(?<=[。！？；!?;])")


def sentences(file: Path) -> Iterator[list[str]]:
    """Yield the sentences of 6 to 60 characters of each document."""
    opened = lzma.open if file.suffix == ".xz" else open
    with opened(file, "rt", encoding="utf-8") as stream:
        document: list[str] = []
        for line in stream:
            if not line.strip():
                yield document
                document = []
            document += [part.strip() for part in _END.split(line) if 6 <= len(part.strip()) <= 60]
        yield document


def corrupted(rng: random.Random, text: str, other: str) -> str:
    """Return a text with some of its words dropped, or replaced by words of another text."""
    words, strange = rjieba.cut(text), rjieba.cut(other)
    rate, replace = rng.uniform(0.1, 0.8), rng.random() < 0.5
    kept = [word if rng.random() > rate else rng.choice(strange) if replace else "" for word in words]
    return "".join(kept).strip() or other


def main() -> None:
    """Write the pairs as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    sources = []
    for file in options.files:
        documents = [document for document in sentences(file) if document]
        if sum(map(len, documents)) < 2:
            sys.exit(f"{file}: fewer than two sentences of 6 to 60 characters")
        rng.shuffle(documents)
        sources.append(documents)
    share = options.rows // (3 * len(sources)) + 1
    pairs: list[tuple[str, str]] = []
    for documents in sources:
        every = [text for document in documents for text in document]
        several = [document for document in documents if len(document) > 1] or [every]
        for _ in range(share):
            document = rng.choice(several)
            place = rng.randrange(len(document) - 1)
            pairs.append((document[place], document[place + 1]))
            text, other = rng.choice(every), rng.choice(every)
            pairs.append((text, corrupted(rng, text, other)))
    texts = [text for documents in sources for document in documents for text in document]
    tfidf = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit(
        rng.sample(texts, min(len(texts), 200_000))
    )
    for documents in sources:
        every = [text for document in documents for text in document]
        for begin in range(0, share, POOL // 2):
            pool = sorted(set(rng.sample(every, min(POOL, len(every)))))
            rng.shuffle(pool)
            vectors = tfidf.transform(pool)
            cosines = (vectors[: POOL // 2] @ vectors.T).toarray()
            np.fill_diagonal(cosines, 0.0)
            nearest = cosines.argmax(axis=1)[: share - begin]
            pairs += [(pool[row], pool[near]) for row, near in enumerate(nearest.tolist())]
    pairs = [(a, b) for a, b in dict.fromkeys(pairs) if a != b]
    rng.shuffle(pairs)
    pairs = pairs[: options.rows]
    first, second = tfidf.transform([a for a, _ in pairs]), tfidf.transform([b for _, b in pairs])
    cosines = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    for (a, b), cosine in zip(pairs, cosines.tolist(), strict=True):
        print(json.dumps({"texta": a, "textb": b, "score": round(min(cosine, 0.9), 1)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
