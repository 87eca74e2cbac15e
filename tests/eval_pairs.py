"""Small files of labelled pairs for tests of the evaluation room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHARACTERS = list("怎么改密码如何修登录今天气很好不心情，。？abc12 囧")


def random_pairs(count: int, seed: int = 0) -> tuple[list[str], list[str], list[int]]:
    """Pairs whose label depends on shared characters, with some noise; some pairs and texts repeat."""
    rng = np.random.default_rng(seed)
    a, b, labels = [], [], []
    for _ in range(count):
        first = rng.choice(CHARACTERS, rng.integers(2, 12)).tolist()
        label = int(rng.random() < 0.45)
        second = first[::-1] if label else rng.choice(CHARACTERS, rng.integers(2, 12)).tolist()
        a.append("".join(first) + "好")
        b.append("".join(second) + "吗")
        labels.append(label if rng.random() < 0.8 else 1 - label)
    a[5], b[5] = a[4], b[4]
    a[7] = a[6]
    return a, b, labels


def write_pairs(
    path: Path, a: Sequence[str], b: Sequence[str], labels: Sequence[Any], name: str = "label"
) -> Path:
    """Write JSON lines; a label that is `...` is left out."""
    with path.open("w", encoding="utf-8") as stream:
        for first, second, label in zip(a, b, labels, strict=True):
            row = {"texta": first, "textb": second, name: label}
            if label is ...:
                del row[name]
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path
