"""Which data the shipped tiny models learn from, and how it is read.

`DATA` is a folder of labelled sets and raw text given on the command line; nothing of it is in this repository.
Left out because of their terms: ocnli (CC BY-NC 2.0), cmnli (partly from XNLI, CC BY-NC), thucnews_titles (research
use), simclue (shares sentences with OCNLI and CMNLI), and of the raw text simclue_corpus and dl500 (GPL-3.0).
"""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path

# Raw text: characters taken from each source, leaning towards everyday language.
CORPUS = {
    "task_texts": 9_000_000, "zhihu_hot": 1_500_000, "baidu_hot": 600_000, "site_titles": 600_000,
    "weibo_hot": 600_000, "finance": 700_000, "medical_qa": 800_000, "kdconv": 400_000, "crosswoz": 200_000,
    "nlpcc_kbqa": 300_000, "kgclue": 300_000, "zhihu_search": 300_000, "sms": 400_000, "subtitles": 700_000,
    "forum_posts": 600_000, "news_briefs": 300_000, "reviews": 500_000, "sohu": 400_000, "chid": 300_000,
    "cluecorpussmall": 500_000, "cmrc2018": 400_000, "smile": 300_000, "cctv_news": 400_000,
    "peoples_daily": 300_000, "car_reviews": 300_000, "tatoeba": 200_000, "egret_qa": 100_000,
    "instructions": 100_000, "howtocook": 100_000, "weibo_comments": 400_000, "dotnet_docs": 200_000,
    "histories": 200_000, "laws": 100_000,
}  # fmt: skip
PAIRS = (
    "afqmc",
    "atec",
    "atec_ccks",
    "lcqmc",
    "bq",
    "oppo_xiaobu",
    "bustm",
    "covid_pairs",
    "pawsx",
    "stsb",
    "qbqtc",
)
NLI = ("snli_zh", "cinlid")
TOPICS = ("tnews", "csldcp", "iflytek", "cic", "shopping10", "eprstmt", "chnsenticorp", "book_review")


def lines(path: Path) -> Iterator[str]:
    """Lines of a text or .xz file, split at "\\n" only (texts may hold U+2028)."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as handle:
        for line in handle:
            yield line.rstrip("\n")


def rows(data: Path, name: str, split: str) -> list[dict]:
    """Rows of one labelled set, e.g. rows(data, "bq", "train")."""
    for suffix in (".jsonl", ".jsonl.xz"):
        path = data / name / (split + suffix)
        if path.exists():
            return [json.loads(line) for line in lines(path)]
    raise FileNotFoundError(f"{data / name}: no {split}.jsonl or {split}.jsonl.xz")


def label_words(data: Path, name: str) -> list[str]:
    """Chinese label words of a topic set in the order of its label numbers."""
    entries = json.loads((data / name / "labels.json").read_text(encoding="utf-8"))
    return [entry["word"] for entry in sorted(entries, key=lambda entry: entry["index"])]


def corpus(data: Path, *, seed: int = 0, scale: float = 1.0) -> list[str]:
    """Non-empty lines of the corpus mix: whole blocks of neighbouring lines at random, `CORPUS` characters a source."""
    rng = random.Random(seed)
    chosen: list[str] = []
    for source, budget in CORPUS.items():
        texts = [line for line in lines(data / "corpus" / f"{source}.txt.xz") if line]
        blocks = [texts[i : i + 50] for i in range(0, len(texts), 50)]
        rng.shuffle(blocks)
        taken = 0
        for block in blocks:
            if taken > budget * scale:
                break
            chosen.extend(block)
            taken += sum(map(len, block))
    return chosen


_SITES = "MIT (repository); texts: not stated"
# Terms as the places they were taken from state them; what is not listed is "not stated".
TERMS = {
    "pawsx": "PAWS-X: free for any purpose, attribution to Google appreciated",
    "chnsenticorp": "Apache-2.0 (repository); data: not stated",
    "book_review": "Apache-2.0 (repository); data: not stated",
}
CORPUS_TERMS = {
    "task_texts": "texts of labelled sets (without OCNLI, CMNLI, THUCNews): as there, mostly not stated",
    "zhihu_hot": _SITES, "baidu_hot": _SITES, "site_titles": _SITES, "weibo_hot": _SITES, "forum_posts": _SITES,
    "zhihu_search": _SITES, "cctv_news": _SITES, "smile": "CC0 1.0", "medical_qa": "MIT", "instructions": "MIT",
    "histories": "MIT", "kdconv": "Apache-2.0", "crosswoz": "Apache-2.0", "egret_qa": "Apache-2.0",
    "sohu": "Apache-2.0 (repository); texts: not stated", "peoples_daily": "Apache-2.0 (repository); texts: not stated",
    "cluecorpussmall": "Apache-2.0 (repository); texts: not stated", "cmrc2018": "CC BY-SA 4.0",
    "nlpcc_kbqa": "GPL-3.0 (repository); data: not stated", "tatoeba": "CC BY 2.0 FR", "howtocook": "Unlicense",
    "dotnet_docs": "CC BY 4.0", "weibo_comments": "not stated (citation asked for)",
    "laws": "outside copyright in China (Copyright Law, art. 5)",
}  # fmt: skip
