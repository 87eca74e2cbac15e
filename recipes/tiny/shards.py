"""Turn the corpus mix into token shards with word boundaries, and start vectors for the word embeddings.

    python recipes/tiny/shards.py DATA TOKENIZER.json OUTPUT.npz [SCALE]

SCALE multiplies the characters taken from each source (1 if not given).

The shard holds `ids` (uint16, all lines after another), `starts` (bool: the token begins a word, by rjieba) and
`bounds` (row boundaries). `embeddings` are the 312 leading directions of the positive pointwise mutual information of
tokens within four places of each other (Levy & Goldberg 2014): a few seconds of linear algebra that save a small
model on a small budget the first part of pretraining.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import data
import numpy as np
import rjieba
from tokenizers import Tokenizer

WIDTH = 312
WINDOW = 4
LONGEST = 126  # tokens of a line, [CLS] and [SEP] not counted
_SENTENCE = re.compile(r"[^。！？!?；;]*[。！？!?；;]*[”’」』）)]*")


def pieces(text: str, limit: int = LONGEST) -> list[str]:
    """Cut a long line at sentence ends into pieces of at most `limit` characters."""
    if len(text) <= limit:
        return [text]
    out, current = [], ""
    for sentence in _SENTENCE.findall(text):
        if current and len(current) + len(sentence) > limit:
            out.append(current)
            current = ""
        current += sentence
    return [piece[i : i + limit] for piece in [*out, current] for i in range(0, len(piece), limit)]


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    ids, starts = [], []
    for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        begins = np.zeros(len(text) + 1, bool)
        begins[np.cumsum([0, *map(len, rjieba.cut(text))])] = True
        offsets = np.array([start for start, _ in encoding.offsets[:LONGEST]], np.int64)
        ids.append(np.array(encoding.ids[:LONGEST], np.uint16))
        starts.append(begins[offsets])
    return ids, starts


def start_vectors(ids: np.ndarray, bounds: np.ndarray, size: int) -> np.ndarray:
    """Leading eigenvectors of the PPMI matrix times the roots of their eigenvalues; float32 [size, WIDTH]."""
    line = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    counts = np.zeros(size * size, np.float64)
    wide = ids.astype(np.int64)
    for step in range(1, WINDOW + 1):
        same = line[step:] == line[:-step]
        counts += np.bincount(wide[:-step][same] * size + wide[step:][same], minlength=size * size) / step
    joint = counts.reshape(size, size)
    joint += joint.T
    marginal = joint.sum(0) ** 0.75
    expected = np.outer(joint.sum(1), marginal / marginal.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.maximum(np.log(joint / expected), 0.0)
    ppmi = np.nan_to_num(ppmi, nan=0.0, posinf=0.0).astype(np.float32)
    ppmi = (ppmi + ppmi.T) / 2
    # Randomised subspace iteration (Halko et al. 2011): enough for start vectors.
    basis = np.random.default_rng(0).standard_normal((size, WIDTH + 48)).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(ppmi @ basis)
    values, rotation = np.linalg.eigh(basis.T @ ppmi @ basis)
    order = np.argsort(-values)[:WIDTH]
    vectors = (basis @ rotation[:, order]) * np.sqrt(np.maximum(values[order], 1e-6))
    # A random rotation spreads the leading directions over all heads.
    spread, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((WIDTH, WIDTH)))
    return (vectors @ spread).astype(np.float32)


if __name__ == "__main__":
    source, tokenizer_file, output = map(Path, sys.argv[1:4])
    scale = float(sys.argv[4]) if len(sys.argv) > 4 else 1.0
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True
    texts = [piece for line in data.corpus(source, scale=scale) for piece in pieces(line)]
    order = np.random.default_rng(0).permutation(len(texts))
    all_ids, all_starts = [], []
    for begin in range(0, len(texts), 20_000):
        ids, starts = encode(tokenizer, [texts[i] for i in order[begin : begin + 20_000]])
        all_ids += ids
        all_starts += starts
    bounds = np.cumsum([0, *map(len, all_ids)])
    ids = np.concatenate(all_ids)
    np.savez(
        output,
        ids=ids,
        starts=np.concatenate(all_starts),
        bounds=bounds,
        embeddings=start_vectors(ids, bounds, tokenizer.get_vocab_size()),
    )
    print(f"{len(texts)} lines, {len(ids)} tokens, mean {len(ids) / len(texts):.1f}")
