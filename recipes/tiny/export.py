"""Write a trained checkpoint as a model folder, and measure what 8-bit arithmetic costs it.

python recipes/tiny/export.py embed|pair|topic DATA CHECKPOINT.pt TOKENIZER.json FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import data
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer

from jinyi.config import EncoderConfig
from jinyi.folder import update_record, write_folder
from jinyi.models import int8
from jinyi.models.golden import make_golden
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.topic_classifier import TopicClassifier

PROMPT = "下面是一则关于{}的新闻："
SUMMARY = {
    "embed": "Sentence vectors of Chinese text ([CLS], cosine); everyday and customer-service language.",
    "pair": "P(similar) of two Chinese sentences; everyday and customer-service questions.",
    "topic": "Topics of Chinese text by prompt and label words, or from labelled examples.",
}
MAX_LENGTH = {"embed": 128, "pair": 256, "topic": 256}


CARD = """---
license: apache-2.0
language: zh
---
# jinyi-tiny-{task}

{summary}

4 layers, 312 wide, 12 heads, 1248 feed-forward, 8,000-entry vocabulary (the shape of RoBERTa-tiny-clue). Trained by
`recipes/tiny/`: masked language model with whole words, then the task; settings are in `jinyi.json`. Dev results beside
a TF-IDF baseline are printed by `benchmarks/quality.py`.

## Data and its stated terms

Held-out test splits took no part. Data marked non-commercial or study-only was left out: OCNLI, CMNLI, THUCNews, and
SimCLUE as labelled pairs (it shares sentences with the first two).

| labelled set | stated terms |
|---|---|
{labelled}

| raw text, for pretraining | stated terms |
|---|---|
{raw}

"Not stated" means that the place the data was taken from names no terms: check before commercial use.

## Limits

Small, and trained for about two hours on two processor cores. It knows short, everyday Chinese best; traditional
characters, classical Chinese and other languages hardly at all. Its scores carry the biases of the texts above.
"""


def card(task: str) -> str:
    """Model card: what it is, how it was trained, every source with its stated terms."""
    used = {
        "embed": [*data.PAIRS, *data.NLI, "triclue"],
        "pair": [*data.PAIRS, *data.NLI, "triclue"],  # it starts from the embedding model
        "topic": ["tnews", "csldcp", "iflytek", "shopping10", "eprstmt", "chnsenticorp", "book_review"],
    }[task]
    labelled = "\n".join(f"| {name} | {data.TERMS.get(name, 'not stated')} |" for name in used)
    raw = "\n".join(f"| {name} | {data.CORPUS_TERMS.get(name, 'not stated')} |" for name in data.CORPUS)
    return CARD.format(task=task, summary=SUMMARY[task], labelled=labelled, raw=raw)


def samples(source: Path, task: str) -> list:
    """Rows of train files to measure ranges on: texts, or pairs for the pair model."""
    if task == "topic":
        rows = [r for name in ("tnews", "csldcp", "iflytek") for r in data.rows(source, name, "train")[:80]]
        return [PROMPT.format("体育") + r["text"] for r in rows]
    rows = [r for name in ("afqmc", "bq", "lcqmc", "stsb") for r in data.rows(source, name, "train")[:60]]
    pairs = [(r["texta"], r["textb"]) for r in rows]
    return pairs if task == "pair" else [text for pair in pairs for text in pair]


def score(source: Path, task: str, folder: Path, precision: str) -> float:
    """Mean dev score x100: Spearman of six sets, area under the ROC curve of five, or accuracy on TNEWS."""
    if task == "topic":
        rows = data.rows(source, "tnews", "dev")
        words = {str(i): word for i, word in enumerate(data.label_words(source, "tnews"))}
        model = TopicClassifier.load(folder, labels=words, prompt=PROMPT, precision=precision)
        return 100 * float(
            np.mean(model.predict([r["text"] for r in rows]) == [str(r["label"]) for r in rows])
        )
    scores = []
    for name in ("atec", "bq", "lcqmc", "pawsx", "afqmc", *(["stsb"] if task == "embed" else [])):
        rows = data.rows(source, name, "dev")
        gold = [r.get("score", r.get("label")) for r in rows]
        pairs = [(r["texta"], r["textb"]) for r in rows]
        if task == "pair":
            scores.append(
                100 * roc_auc_score(gold, PairScorer.load(folder, precision=precision).predict(pairs))
            )
        else:
            encoder = SentenceEncoder.load(folder, precision=precision)
            cosines = encoder.similarity_pairwise([a for a, _ in pairs], [b for _, b in pairs])
            scores.append(100 * spearmanr(cosines, gold).statistic)
    return float(np.mean(scores))


def main() -> None:
    task, (source, checkpoint, tokenizer, folder) = sys.argv[1], map(Path, sys.argv[2:6])
    state = torch.load(checkpoint, weights_only=True)
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}  # for those who train on
    config = EncoderConfig.from_dict({**state["config"], **dropout})
    weights = {name: tensor.numpy() for name, tensor in state["encoder"].items()}
    options: dict = {}
    if task == "embed":
        options = {"pooling": "cls", "normalize": True}
    if task == "pair":
        pair = {name: tensor.numpy() for name, tensor in state["pair"].items()}
        weights |= {f"pooler.dense.{part}": pair[f"pooler.{part}"] for part in ("weight", "bias")}
        weights |= {f"classifier.{part}": pair[f"classifier.{part}"] for part in ("weight", "bias")}
    if task == "topic":
        weights |= {f"cls.predictions.{name}": tensor.numpy() for name, tensor in state["head"].items()}
        labels = data.label_words(source, "tnews")
        options = {
            "pooling": "mean",
            "labels": labels,
            "prompts": {"topic": PROMPT},
            "default_prompt_name": "topic",
        }
    options |= {
        "task": task,
        "config": config,
        "weights": weights,
        "tokenizer": Tokenizer.from_file(str(tokenizer)),
        "max_length": MAX_LENGTH[task],
        "dtype": "float16",
        "name": f"jinyi-tiny-{task}",
        "summary": SUMMARY[task],
        "licence": "Apache-2.0",
        "golden": make_golden,
        "training": state["training"],
        "card": card(task),
    }
    with tempfile.TemporaryDirectory() as scratch:
        first = write_folder(Path(scratch) / "model", **options)
        ranges = int8.measure(first, samples(source, task))
    write_folder(folder, ranges=ranges, overwrite=True, **options)
    exact, rounded = (score(source, task, folder, precision) for precision in ("float32", "int8"))
    metric = {"embed": "Spearman x100, mean of 6 dev sets", "pair": "AUC x100, mean of 5 dev sets"}
    measured = {"loss": round(exact - rounded, 3), "metric": metric.get(task, "accuracy x100, TNEWS dev")}
    update_record(folder, int8=measured)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB; float32 {exact:.2f}, int8 {rounded:.2f}")


if __name__ == "__main__":
    main()
