"""Pairs labelled by models: P(similar) as scorers and vectors together say it, to teach one model what both know.

    dev=(--dev DATA/{afqmc,atec,bq,lcqmc,oppo_xiaobu,covid_pairs}/dev.jsonl)
    python recipes/taught_pairs.py "${dev[@]}" --labelled DATA/afqmc/train.jsonl.xz ... > DATA/taught/labelled.jsonl
    python recipes/taught_pairs.py "${dev[@]}" --pairs DATA/lexical/train.jsonl=50000 ... > DATA/taught/lexical.jsonl
    python recipes/taught_pairs.py "${dev[@]}" --texts DATA/afqmc/train.jsonl.xz ... \
        --triplets DATA/triclue/train.jsonl.xz --rows 200000 > DATA/taught/near.jsonl

A cross-encoder reads both sentences but learns from labelled pairs alone; vectors have learnt from inference, triplets
and shared characters too. Their evidence adds up: mean log-odds of the scorers plus WEIGHT times the mean cosine,
scaled and shifted so that the P of the dev pairs fit (Platt). What each is worth there goes to stderr. A student of
those P (Hinton et al. 2015, arXiv 1503.02531) is as fast as one scorer.

--labelled: the labels, 0 and 1, count for half. --pairs: without labels. --texts and --triplets: each sentence is
paired with one near it among 20,000 drawn by chance, in part with any of them; dev pairs stay out. FILE is anything
`jinyi score` reads; of FILE=N at most N rows, by chance.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jinyi import PairScorer, SentenceEncoder
from jinyi.train.data.records import Record, read_records
from jinyi.train.recipe import Source

POOL = 20_000  # sentences that neighbours are looked for among
RANKS = ((0.35, 0, 1), (0.3, 1, 4), (0.2, 4, 25), (0.15, 25, POOL))  # share of pairs, from rank, below rank

Pair = Sequence[str]
Floats = npt.NDArray[np.floating[Any]]


class Teacher:
    """P(similar) of pairs by scorers and vectors together."""

    def __init__(
        self, scorers: Sequence[PairScorer], encoders: Sequence[SentenceEncoder], weight: float
    ) -> None:
        self.scorers, self.encoders, self.weight = scorers, encoders, weight
        self.scale, self.shift = 1.0, 0.0

    def parts(self, pairs: Sequence[Pair]) -> tuple[Floats, Floats]:
        """Mean log-odds of the scorers and the mean cosine, [n] each."""
        asked = [(a, b) for a, b in pairs]
        p = np.array([scorer.predict(asked) for scorer in self.scorers], np.float64).clip(1e-6, 1 - 1e-6)
        a, b = ([pair[side] for pair in pairs] for side in (0, 1))
        cosines: Floats = np.mean([encoder.similarity_pairwise(a, b) for encoder in self.encoders], axis=0)
        log_odds: Floats = np.log(p / (1 - p)).mean(axis=0)
        return log_odds, cosines

    def calibrate(self, files: Sequence[Sequence[Record]]) -> list[tuple[float, ...]]:
        """Fit scale and shift on labelled rows, every file alike; AUC of scorers, cosine and both for each file."""
        parts = [self.parts([texts for _, texts, _ in rows]) for rows in files]
        evidence = [log_odds + self.weight * cosines for log_odds, cosines in parts]
        labels = [[_gold(label) for _, _, label in rows] for rows in files]
        weights = [np.full(len(rows), 1000 / len(rows)) for rows in files]
        found = LogisticRegression(C=1e6).fit(
            np.concatenate(evidence)[:, None], np.concatenate(labels), sample_weight=np.concatenate(weights)
        )
        self.scale, self.shift = float(found.coef_[0, 0]), float(found.intercept_[0])
        return [
            tuple(roc_auc_score(gold, scores) for scores in (log_odds, cosines, both))
            for (log_odds, cosines), both, gold in zip(parts, evidence, labels, strict=True)
        ]

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """P(similar), [n]."""
        log_odds, cosines = self.parts(pairs)
        p: Floats = 1 / (1 + np.exp(-(self.scale * (log_odds + self.weight * cosines) + self.shift)))
        return p


def neighbours(texts: list[str], encoder: SentenceEncoder, rows: int, rng: random.Random) -> Iterator[Pair]:
    """Yield pairs of each text and a text near it, in rounds over all of them."""
    vectors = encoder.encode(texts, normalize=True)
    order = list(range(len(texts)))
    left = rows
    while left > 0:
        rng.shuffle(order)
        for start in range(0, len(order), POOL):
            pool = order[start : start + POOL][: max(left, 2)]
            if len(pool) < 2:
                break
            for first, other in _within(vectors[pool], rng):
                if left == 0:
                    return
                left -= 1
                yield texts[pool[first]], texts[pool[other]]


def _within(vectors: Floats, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Yield each row of [n, d] and one at a rank drawn by `RANKS`."""
    deepest = min(RANKS[-1][1] + 1, len(vectors) - 1)
    for start in range(0, len(vectors), 1000):
        cosines = vectors[start : start + 1000] @ vectors.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -2
        near = np.argpartition(-cosines, deepest - 1, axis=1)[:, :deepest]
        near = np.take_along_axis(near, np.argsort(-np.take_along_axis(cosines, near, 1), axis=1), 1)
        for row, ranked in enumerate(near):
            _, low, high = rng.choices(RANKS, [share for share, _, _ in RANKS])[0]
            rank = rng.randrange(low, max(min(high, len(vectors) - 1), low + 1))
            if rank < deepest:
                yield start + row, int(ranked[rank])
            elif (other := rng.randrange(len(vectors))) != start + row:
                yield start + row, other


def rows_of(source: str, kind: str, rng: random.Random) -> list[Record]:
    """Return the rows of FILE, or N of FILE=N."""
    file, _, most = source.partition("=")
    rows = list(read_records(Path(file), Source(file=file), kind))
    return rng.sample(rows, min(int(most), len(rows))) if most else rows


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scorer", nargs="+", default=["jinyi-tiny-pair"], help="pair models")
    parser.add_argument("--vectors", nargs="+", default=["jinyi-tiny-embed"], help="embedding models")
    parser.add_argument(
        "--precision", default="auto", help="of all models: int8 is about twice as fast as float32"
    )
    parser.add_argument("--weight", type=float, default=8.0, help="log-odds that a cosine of 1 adds")
    parser.add_argument(
        "--dev", nargs="+", required=True, metavar="FILE", help="labelled pairs that calibrate P"
    )
    for kind in ("labelled", "pairs", "texts", "triplets"):
        parser.add_argument(f"--{kind}", nargs="+", default=[], metavar="FILE[=N]")
    parser.add_argument("--rows", type=int, default=100_000, help="pairs made of --texts and --triplets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.labelled or options.pairs or options.texts or options.triplets):
        sys.exit("no file: give --labelled, --pairs, --texts or --triplets")
    rng = random.Random(options.seed)
    dev = [rows_of(file, "pairs", rng) for file in options.dev]
    labelled = [row for file in options.labelled for row in rows_of(file, "pairs", rng)]
    gold = [_gold(label) for _, _, label in labelled]

    scorers = [PairScorer.load(name, precision=options.precision) for name in options.scorer]
    encoders = [SentenceEncoder.load(name, precision=options.precision) for name in options.vectors]
    teacher = Teacher(scorers, encoders, options.weight)
    for file, scores in zip(options.dev, teacher.calibrate(dev), strict=True):
        print(file, "AUC: scorers {:.3f}, cosine {:.3f}, both {:.3f}".format(*scores), file=sys.stderr)
    write(teacher, [texts for _, texts, _ in labelled], gold)
    write(teacher, [texts for file in options.pairs for _, texts, _ in rows_of(file, "pairs", rng)])
    sources = [(file, "pairs") for file in options.texts] + [(file, "triplets") for file in options.triplets]
    read = [texts for file, kind in sources for _, texts, _ in rows_of(file, kind, rng)]
    if read:
        known = {frozenset(texts) for rows in dev for _, texts, _ in rows}
        texts = list(dict.fromkeys(text for row in read for text in row))
        if len(texts) < 2:
            sys.exit("one sentence alone in --texts and --triplets: no other is near it")
        drawn = neighbours(texts, encoders[0], options.rows, rng)
        write(teacher, [pair for pair in drawn if frozenset(pair) not in known])


def _gold(label: object) -> int:
    if str(label) not in ("0", "1"):
        sys.exit(f"label {label!r}: --labelled takes 0 and 1; give other rows to --pairs")
    return int(str(label))


def write(teacher: Teacher, pairs: Sequence[Sequence[str]], gold: Sequence[int] | None = None) -> None:
    """Print pairs with P(similar), or its mean with their labels."""
    if not pairs:
        return
    labels = teacher.predict(pairs) if gold is None else (teacher.predict(pairs) + np.asarray(gold)) / 2
    for (a, b), label in zip(pairs, labels.tolist(), strict=True):
        print(json.dumps({"texta": a, "textb": b, "label": round(label, 2)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
