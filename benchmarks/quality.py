"""Dev scores of the shipped models beside character TF-IDF, the table of the README.

    python benchmarks/quality.py DATA [--json FILE]

DATA is a folder with labelled sets as `<set>/dev.jsonl` and `train.jsonl` (or .jsonl.xz). Nothing is fitted on dev but
TF-IDF's document frequencies. Protocols:

- vectors: Spearman x100 of cosine against the label (STS-B: the score), beside the cosine of character 1-2-gram TF-IDF.
- pairs: accuracy at P(similar) = 0.5 and area under the ROC curve x100, beside the same TF-IDF cosine (its accuracy
  with the best threshold on the same rows, which flatters it) and the majority class. Two are not in DATA but beside
  this script, written for this package by a language model, half similar, to measure by: "everyday", of 60 topics, and
  "opposites", 100 statements each with one of the opposite word, its denial, one of a synonym and one in other words.
- topics: accuracy x100 of the model's own prompt and label words, and after `fit` on the train file with
  method="reference" and method="linear" (with its log loss and the seconds of the whole `fit`), beside a linear SVM
  (C = 1) on character 1-2-gram TF-IDF fitted on the same train file.
- words: accuracy x100 by label words that the model was not trained to say, as a user chooses some (eight of THUCNews's
  ten are known to it), by default, which is calibrated by a text without content, and with `calibrate=False`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

import jinyi

STS = ("atec", "bq", "lcqmc", "pawsx", "stsb", "afqmc")
PAIRS = ("afqmc", "atec", "bq", "lcqmc", "pawsx", "oppo_xiaobu", "covid_pairs", "everyday", "opposites")
OWN = ("everyday", "opposites")  # 400 pairs each, beside this script
TOPICS = {
    "tnews": "下面是一则关于{}的新闻：",
    "csldcp": "这一句描述{}的内容如下：",
    "iflytek": "这一句描述{}的内容如下：",
}


OTHER_WORDS = {  # by the number of the label
    "tnews": (TOPICS["tnews"], "往事 人文 八卦 球赛 商业 房价 车市 考试 技术 战争 出行 外国 炒股 种植 手游"),
    "thucnews_titles": (TOPICS["tnews"], "财经 房产 股票 教育 科技 社会 时政 体育 游戏 娱乐"),
    "chnsenticorp": ("下面是一则{}的评论：", "讨厌 喜欢"),
    "eprstmt": ("这是一条{}的评论：", "糟糕 很好"),
    "shopping10": ("下面是一则关于{}的评论：", "图书 平板 手机 食品 护发 家电 牛奶 服装 电脑 宾馆"),
}


def rows(data: Path, name: str, split: str) -> list[dict[str, Any]]:
    for suffix in (".jsonl", ".jsonl.xz"):
        path = data / name / (split + suffix)
        if path.exists():
            opener = lzma.open if path.suffix == ".xz" else open
            with opener(path, "rt", encoding="utf-8", newline="\n") as handle:
                return [json.loads(line) for line in handle]
    raise SystemExit(f"{data / name}: no {split}.jsonl or {split}.jsonl.xz")


def own(name: str) -> list[dict[str, Any]]:
    file = Path(__file__).with_name(f"{name}.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def tfidf_cosine(a: list[str], b: list[str]) -> np.ndarray:
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit_transform(a + b)
    return np.asarray(vectors[: len(a)].multiply(vectors[len(a) :]).sum(1)).ravel()


def best_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(-scores)
    hits = np.cumsum(np.where(labels[order] == 1, 1, -1))
    return float(max(0, hits.max()) + (labels == 0).sum()) / len(labels)


def sts(data: Path) -> list[dict[str, Any]]:
    encoder = jinyi.SentenceEncoder.load()
    table = []
    for name in STS:
        dev = rows(data, name, "dev")
        a, b = [r["texta"] for r in dev], [r["textb"] for r in dev]
        gold = [r.get("score", r.get("label")) for r in dev]
        ours = 100 * spearmanr(encoder.similarity_pairwise(a, b), gold).statistic
        table.append(
            {
                "set": name,
                "n": len(dev),
                "jinyi": ours,
                "tfidf": 100 * spearmanr(tfidf_cosine(a, b), gold).statistic,
            }
        )
    return table


def pairs(data: Path) -> list[dict[str, Any]]:
    scorer = jinyi.PairScorer.load()
    table = []
    for name in PAIRS:
        dev = own(name) if name in OWN else rows(data, name, "dev")
        gold = np.array([r["label"] for r in dev])
        a, b = [r["texta"] for r in dev], [r["textb"] for r in dev]
        probability = scorer.predict(list(zip(a, b, strict=True)))
        cosine = tfidf_cosine(a, b)
        table.append(
            {
                "set": name,
                "n": len(dev),
                "accuracy": 100 * float(np.mean((probability > 0.5) == gold)),
                "auc": 100 * roc_auc_score(gold, probability),
                "tfidf accuracy": 100 * best_accuracy(cosine, gold),
                "tfidf auc": 100 * roc_auc_score(gold, cosine),
                "majority": 100 * max(gold.mean(), 1 - gold.mean()),
            }
        )
    return table


def accuracy(predicted: np.ndarray, gold: np.ndarray) -> float:
    return 100 * float(np.mean(predicted == gold))


def log_loss(proba: np.ndarray, classes: np.ndarray, gold: np.ndarray) -> float:
    """Mean negative log-probability of the right class; a class without training rows has 1e-9."""
    right = (proba * (classes == gold[:, None])).sum(1)
    return float(-np.log(np.maximum(right, 1e-9)).mean())


def topics(data: Path) -> list[dict[str, Any]]:
    table = []
    for name, prompt in TOPICS.items():
        entries = sorted(
            json.loads((data / name / "labels.json").read_text(encoding="utf-8")), key=lambda e: e["index"]
        )
        train, dev = rows(data, name, "train"), rows(data, name, "dev")
        texts, labels = [r["text"] for r in train], [r["label"] for r in train]
        dev_texts, gold = [r["text"] for r in dev], np.array([r["label"] for r in dev])
        words = {e["index"]: e["word"] for e in entries}
        zero = jinyi.TopicClassifier.load(labels=words, prompt=prompt)
        reference = jinyi.TopicClassifier.load(method="reference").fit(texts, labels)
        begin = time.monotonic()
        linear = jinyi.TopicClassifier.load(method="linear").fit(texts, labels)
        seconds = time.monotonic() - begin
        proba = linear.predict_proba(dev_texts)
        grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
        svm = LinearSVC(C=1.0).fit(grams.fit_transform(texts), labels)
        table.append(
            {
                "set": name,
                "n": len(dev),
                "classes": len(entries),
                "prompt": accuracy(zero.predict(dev_texts), gold),
                "reference": accuracy(reference.predict(dev_texts), gold),
                "linear": accuracy(linear.classes_[proba.argmax(1)], gold),
                "tfidf svm": accuracy(svm.predict(grams.transform(dev_texts)), gold),
                "linear log loss": log_loss(proba, linear.classes_, gold),
                "linear fit s": seconds,
            }
        )
    return table


def other_words(data: Path) -> list[dict[str, Any]]:
    table = []
    for name, (prompt, words) in OTHER_WORDS.items():
        dev = rows(data, name, "dev")
        texts, gold = [r["text"] for r in dev], np.array([r["label"] for r in dev])
        labels = dict(enumerate(words.split()))
        load = partial(jinyi.TopicClassifier.load, labels=labels, prompt=prompt)
        table.append(
            {
                "set": name,
                "n": len(dev),
                "by default": accuracy(load().predict(texts), gold),
                "calibrate=False": accuracy(load(calibrate=False).predict(texts), gold),
            }
        )
    return table


def show(title: str, table: list[dict[str, Any]]) -> None:
    columns = list(table[0])
    print(f"\n{title}\n\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in table:
        print("| " + " | ".join(cell(key, value) for key, value in row.items()) + " |")


def cell(column: str, value: Any) -> str:
    return f"{value:.{2 if 'loss' in column else 1}f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("sts", "pairs", "topics", "words"))
    args = parser.parse_args()
    result = {}
    tables = {"sts": sts, "pairs": pairs, "topics": topics, "words": other_words}
    for key, function in tables.items():
        if args.only in (None, key):
            result[key] = function(args.data)
            show(key, result[key])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
