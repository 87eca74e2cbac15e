"""Rows for training on topics from texts without labels: a classifier fitted on labelled ones says their topics.

    python recipes/pseudo_labels.py --train DATA/tnews/train.jsonl.xz --without DATA/tnews/dev.jsonl \
        DATA/tnews/unlabeled.jsonl DATA/corpus/site_titles.txt.xz=80000 > DATA/pseudo/tnews.jsonl

Token n-grams in a linear model know more of topics than a small encoder that has learnt the labelled texts by heart;
on texts that nobody has labelled the encoder learns from that model what it cannot learn by heart (Turc et al. 2019,
arXiv 1908.08962). Each label is drawn by the squares of the model's probabilities: many texts together say what it
doubts, which the best label alone would hide.

FILE is anything `jinyi embed` reads; of a .txt only lines of 7 to 45 characters are taken, of FILE=N at most N lines or
rows, by chance.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi import TopicClassifier
from jinyi.files import file_format, read_texts
from jinyi.train.corpus.read import read_documents

SHORTEST, LONGEST = 7, 45  # characters of a title


def texts_of(source: str, rng: random.Random) -> list[str]:
    """Return the texts of FILE, or FILE=N."""
    file, _, most = source.partition("=")
    texts = ["\n".join(document).strip() for document in read_documents([file], form="lines")]
    if file_format(file)[0] == "txt":
        texts = [text for text in texts if SHORTEST <= len(text) <= LONGEST]
    if most:
        rng.shuffle(texts)
    return texts[: int(most)] if most else texts


def drawn(proba: npt.NDArray[np.floating[Any]], rng: random.Random) -> list[int]:
    """Return a class for each row of probabilities [n, classes], drawn by their squares."""
    sums = np.cumsum(np.square(proba, dtype=np.float64), axis=1)
    return [int(np.searchsorted(row, rng.random() * row[-1], side="right")) for row in sums]


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("texts", nargs="+", metavar="FILE[=N]")
    parser.add_argument("--train", type=Path, required=True, help="labelled rows that the model is fitted on")
    parser.add_argument("--without", type=Path, action="append", default=[], help="rows whose texts stay out")
    parser.add_argument("--model", help="whose tokens and vectors are read; default: the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    labelled = list(read_texts(options.train))
    known = {row.text for file in (options.train, *options.without) for row in read_texts(file)}
    found = dict.fromkeys(text for source in options.texts for text in texts_of(source, rng))
    texts = [text for text in found if text not in known]
    if not texts:
        sys.exit("no text that is not labelled or left out already")
    model = TopicClassifier.load(options.model, word_examples=0)
    model.fit([row.text for row in labelled], [row.label for row in labelled])
    labels = model.classes_[drawn(model.predict_proba(texts), rng)].tolist()
    for text, label in zip(texts, labels, strict=True):
        print(json.dumps({"text": text, "label": label}, ensure_ascii=False))


if __name__ == "__main__":
    main()
