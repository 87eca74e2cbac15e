"""Write a trained checkpoint as a model folder.

    python recipes/tiny/export.py embed|pair|topic CHECKPOINT.pt TOKENIZER.json FOLDER [RESULTS.json]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import data
import numpy as np
import torch
from tokenizers import Tokenizer

from jinyi.config import EncoderConfig
from jinyi.folder import Golden, write_folder
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder

TEXTS = ("怎么修改登录密码", "如何更改我的密码？", "今天股市大涨，沪指收复三千点。")
PAIRS = (("怎么改密码", "如何修改登录密码"), ("怎么改密码", "怎么注销账号"), ("今天心情不好", "今天很开心"))
PROMPT = "下面是一则关于{}的新闻："
LABELS = ("故事", "文化", "娱乐", "体育", "财经", "房产", "汽车", "教育", "科技", "军事", "旅游", "国际", "股票", "农业", "电竞")
SUMMARY = {
    "embed": "Sentence vectors of Chinese text ([CLS], cosine); everyday and customer-service language.",
    "pair": "P(similar) of two Chinese sentences; everyday and customer-service questions.",
    "topic": "Topics of Chinese text by prompt and label words, or from labelled examples.",
}
MAX_LENGTH = {"embed": 128, "pair": 256, "topic": 256}


def card(task: str, settings: dict) -> str:
    """Model card: what it is, how it was trained, every source with its stated terms."""
    used = {
        "embed": [*data.PAIRS, *data.NLI, "triclue"],
        "pair": [*data.PAIRS],
        "topic": ["tnews", "csldcp", "iflytek", "shopping10", "eprstmt", "chnsenticorp", "book_review"],
    }[task]
    lines = [
        "---", "license: apache-2.0", "language: zh", "---", f"# jinyi-tiny-{task}", "", SUMMARY[task], "",
        "4 layers, 312 wide, 12 heads, 1248 feed-forward, 8,000-entry vocabulary (RoBERTa-tiny-clue's shape). Trained by",
        "`recipes/tiny/` (masked language model with whole words, then the task); settings are in `jinyi.json`. Results:",
        "`benchmarks/quality.py`.", "",
        "## Data and its stated terms", "",
        "Held-out test splits took no part. Data marked non-commercial or study-only was left out (OCNLI, CMNLI,",
        "THUCNews, and SimCLUE, which shares sentences with the first two).", "",
        "| labelled set | stated terms |", "|---|---|",
        *(f"| {name} | {data.TERMS.get(name, 'not stated')} |" for name in used), "",
        "| raw text (pretraining) | stated terms |", "|---|---|",
        *(f"| {name} | {data.CORPUS_TERMS.get(name, 'not stated')} |" for name in data.CORPUS), "",
        "\"Not stated\" means that the place the data was taken from names no terms: check before commercial use.", "",
        "## Limits", "", "Small and trained briefly on two processor cores: see the results table for what to expect. It knows short, everyday",
        "Chinese best; traditional characters, classical Chinese and other languages hardly at all. Scores carry the biases of",
        "the texts above.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    task, checkpoint, tokenizer_file, folder = sys.argv[1], *map(Path, sys.argv[2:5])
    results = json.loads(Path(sys.argv[5]).read_text(encoding="utf-8")) if len(sys.argv) > 5 else []
    state = torch.load(checkpoint, weights_only=True)
    config = EncoderConfig.from_dict({**state["config"], "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1})
    weights = {name: tensor.numpy() for name, tensor in state["encoder"].items()}
    options: dict = {"labels": ()}
    if task == "embed":
        options = {"pooling": "cls", "normalize": True}
    if task == "pair":
        pair = {name: tensor.numpy() for name, tensor in state["pair"].items()}
        weights |= {f"pooler.dense.{part}": pair[f"pooler.{part}"] for part in ("weight", "bias")}
        weights |= {f"classifier.{part}": pair[f"classifier.{part}"] for part in ("weight", "bias")}
    if task == "topic":
        weights |= {f"cls.predictions.{name}": tensor.numpy() for name, tensor in state["head"].items()}
        options = {"pooling": "mean", "labels": LABELS, "prompts": {"topic": PROMPT}, "default_prompt_name": "topic"}

    def golden(path: Path) -> Golden:
        if task == "embed":
            return Golden("vectors", TEXTS, SentenceEncoder.load(path).encode(list(TEXTS)))
        if task == "pair":
            return Golden("scores", PAIRS, PairScorer.load(path).predict(list(PAIRS), symmetric=False))
        from jinyi.models.topic_classifier import TopicClassifier

        words = LABELS[:4]
        classifier = TopicClassifier.load(path, labels=[*words, "人工智能"])  # a longer word: normalised scores
        columns = [column for column in classifier._columns[:4]]
        values, _ = classifier._log_probs(list(TEXTS), columns, PROMPT, "report")
        return Golden("log_probs", TEXTS, np.asarray(values, np.float32), labels=words, prompt=PROMPT)

    write_folder(
        folder, task=task, config=config, weights=weights, tokenizer=Tokenizer.from_file(str(tokenizer_file)),
        max_length=MAX_LENGTH[task], dtype="float16", name=f"jinyi-tiny-{task}", summary=SUMMARY[task],
        licence="Apache-2.0", golden=golden, training=state.get("training", {}), results=results,
        card=card(task, state.get("training", {})), overwrite=True, **options,
    )  # fmt: skip
    print(folder, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, "MB")


if __name__ == "__main__":
    main()
