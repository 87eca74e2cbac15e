"""Dev scores of the shipped pair and embedding models on all rows, and on rows that stand in no training file.

    python benchmarks/unseen.py DATA

The sets were drawn from each other: more than half of AFQMC's dev pairs are also in ATEC's training file
(`jinyi data check`), which the models learnt from. A pair counts as seen if both its texts stand together, in either
order, in the training file of any set that the models were trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from quality import PAIRS, rows

import jinyi
from jinyi import metrics

TRAINED_ON = (*PAIRS, "atec_ccks", "bustm", "stsb", "qbqtc")


def pair(row: dict[str, Any]) -> tuple[str, ...]:
    """The texts of a row, in one order."""
    return tuple(sorted((row["texta"], row["textb"])))


def main() -> None:
    data = Path(sys.argv[1])
    seen = {pair(row) for name in TRAINED_ON for row in rows(data, name, "train")}
    scorer, encoder = jinyi.PairScorer.load(), jinyi.SentenceEncoder.load()
    print(
        "| set | rows | unseen | pair AUC, all | unseen | cosine AUC, all | unseen | Spearman, all | unseen |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in PAIRS:
        dev = rows(data, name, "dev")
        a, b = [row["texta"] for row in dev], [row["textb"] for row in dev]
        labels = np.array([row["label"] for row in dev])
        new = np.array([pair(row) not in seen for row in dev])
        logits = scorer.predict(list(zip(a, b, strict=True)), raw_scores=True)
        cosines = encoder.similarity_pairwise(a, b)
        cells = [
            f"{100 * score(labels[part], values[part]):.1f}"
            for score, values in (
                (metrics.roc_auc, logits),
                (metrics.roc_auc, cosines),
                (metrics.spearman, cosines),
            )
            for part in (np.ones(len(dev), bool), new)
        ]
        print(f"| {name} | {len(dev):,} | {new.sum():,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
