"""Everything the recipes in recipes/ name, at toy scale: data files, token shards, models by their published names."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinyi.config import EncoderConfig
from jinyi.label_words import label_words
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.corpus import write_shards
from small_models import random_weights, write_small

RECIPES = Path(__file__).parent.parent / "recipes"
LETTERS = "我你他今天明早晚吃饭看书听歌买卖东西大小多少好坏来去上下左右前后快慢高低"
WORDS = (
    "书籍平板手机水果洗发热器蒙牛衣服计算酒店差评好负面正失望满意批表扬"
    "艺术明星运动金融楼市车辆学校数码国防旅行世界股农村游戏人生历史影视赛事经济住房轿习武景点海外证券三网"
)
PROMPTS = "下面是一则关于的新闻：接来，跟相内容这句描述学科生活评论条"
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
NLI = ("entailment", "neutral", "contradiction")
CLASSES = {"tnews": 15, "csldcp": 67, "iflytek": 119, "shopping10": 10}
MODELS = {
    "hfl/chinese-roberta-wwm-ext": "mlm",
    "hfl/chinese-roberta-wwm-ext-large": "mlm",
    "hfl/chinese-macbert-base": "mlm",
    "hfl/chinese-macbert-large": "mlm",
    "IDEA-CCNL/Erlangshen-MegatronBert-1.3B": "mlm",
    "IDEA-CCNL/Erlangshen-MegatronBert-1.3B-Similarity": "pair",
    "IDEA-CCNL/Erlangshen-TCBert-110M-Classification-Chinese": "mlm",
    "clue/roberta_chinese_clue_tiny": "mlm",
    "clue/roberta_chinese_clue_large": "mlm",
    "clue/roberta_chinese_pair_tiny": "encoder",
}
RUNS = {
    "runs/jinyi-tiny-pretrain/last": "mlm",
    "runs/jinyi-tiny-embed-labelled/last": "embed",
    "runs/jinyi-tiny-pair-labelled/last": "pair",
    "runs/erlangshen-simcse-unsup/best": "embed",
}


def vocabulary() -> list[str]:
    """Control tokens and every character of the toy texts, prompts and label words."""
    labels = "".join("".join(label_words(name).words.values()) for name in ("tnews", "csldcp", "iflytek"))
    return [*("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), *sorted({*LETTERS, *WORDS, *PROMPTS, *labels})]


def text(rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(4, 14)))


def write_toy(root: Path, files: Iterable[str], *, rows: int = 24) -> None:
    """Make data/, models/ and runs/ in `root`.

    Args:
        root: an empty folder; `data` is for --data, `models` for JINYI_HOME, `runs` lies in the working directory.
        files: data files that recipes name; what is in them follows from their names.
        rows: rows of each.
    """
    entries = vocabulary()
    config = EncoderConfig(vocab_size=len(entries), max_position_embeddings=512, **SHAPE)
    backend = build_tokenizer(entries)
    for name, task in {**MODELS, **RUNS}.items():
        path = root / name if name in RUNS else root / "home" / "models" / name
        own = replace(config, pre_layer_norm="Megatron" in name)
        head = {"mlm": "mlm", "pair": "classifier"}.get(task, "")
        weights = {
            name: array / 6 if array.ndim > 1 else array
            for name, array in random_weights(own, head=head, labels=2).items()
        }
        labels = {"labels": ["not similar", "similar"]} if task == "pair" else {}
        write_small(path, task, config=own, weights=weights, tokenizer=backend, **labels)
    for file in sorted(set(files)):
        path = root / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = random.Random(file)
        if file.startswith("shards/"):
            documents = [[text(rng) for _ in range(5)] for _ in range(8 * rows)]
            write_shards(documents, Tokenizer(backend), path, words=lambda line: [*line])
        elif ".txt" in file:
            _write(path, (text(rng) for _ in range(rows)))
        else:
            _write(path, (json.dumps(row(file, n, rng), ensure_ascii=False) for n in range(rows)))


def row(file: str, number: int, rng: random.Random) -> dict[str, Any]:
    """Row `number` of a file, as that set's rows are."""
    folder = Path(file).parent.name
    if folder in ("pseudo", "shortened", "keywords", "titles"):  # made of the rows of a set
        folder = Path(file).name.split(".")[0]
    a, b, c = text(rng), text(rng), text(rng)
    if "fewclue" in file:
        code = [*label_words("tnews").words][number % 15]
        return {"label": code, "label_desc": label_words("tnews").names[code], "sentence": a, "id": number}
    if "triplets" in file or folder == "triclue":
        return {"anchor": a, "positive": a[:-1] + b[0], "negative": c}
    if folder in ("csldcp", "iflytek"):
        a = f"{a}。{b}。{c}。"
    if folder == "tnews":
        return {"text": a, "label": number % CLASSES[folder], "keywords": f"{b},{c}" if number % 4 else ""}
    if folder in CLASSES or folder in ("eprstmt", "chnsenticorp", "book_review"):
        return {"text": a, "label": number % CLASSES.get(folder, 2)}
    if folder in ("cmnli", "snli_zh", "cinlid"):
        return {"premise": a, "hypothesis": b, "label": NLI[number % 3]}
    pair = {"texta": a, "textb": a[1:] + b[0] if number % 2 else b}
    if "unlabeled" in file:
        return pair
    if folder == "stsb":
        return {**pair, "score": float(number % 6)}
    if folder in ("lexical", "taught"):
        return {**pair, "score": number % 10 / 10}
    return {**pair, "label": number % (3 if folder == "qbqtc" else 2)}


def write_text(folder: Path, names: Iterable[str], line: Callable[[], str], *, lines: int = 60) -> None:
    """Write NAME.txt.xz for each name."""
    folder.mkdir(parents=True)
    for name in names:
        _write(folder / f"{name}.txt.xz", (line() for _ in range(lines)))


def _write(path: Path, lines: Iterable[str]) -> None:
    data = "".join(line + "\n" for line in lines).encode("utf-8")
    path.write_bytes(lzma.compress(data, preset=0) if path.suffix == ".xz" else data)
