"""Models and texts of the speed benchmarks: the shipped models or random ones of their shape, real or made-up texts."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from jinyi.config import EncoderConfig
from jinyi.folder import write_folder
from jinyi.folder.weights import encoder_shapes
from jinyi.models.int8 import measure
from jinyi.tokens import build_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HAN_FROM, HAN_TO = 0x4E00, 0x9FA6
TINY = {"hidden_size": 312, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 1248}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
VOCABULARY = 8000
SAMPLE = 100  # texts that a random model's 8-bit ranges are measured on

# Characters of made-up sentences, frequent ones of customers' questions.
CHARACTERS = (
    "的一是不了我有在人这上个们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看"
    "起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世"
    "什两次使身者被高已亲其进此话常与活正感怎登录密码账单还款花呗借额度支付宝银行卡提前退商品订查询修改设置绑定手机号为啥今明"
)


def random_folder(path: Path, shape: dict[str, int], task: str, *, seed: int = 0) -> Path:
    """Write a folder with random weights, [CLS] pooling or one "similar" output; speed does not depend on weights.

    Weights are large enough that every sublayer matters, so that vectors agree only if the arithmetic does.
    """
    vocabulary = [*SPECIAL, *"，。？！：；abcdefghijklmnopqrstuvwxyz0123456789", *dict.fromkeys(CHARACTERS)]
    others = (chr(code) for code in range(HAN_FROM, HAN_TO))
    known = set(vocabulary)
    while len(vocabulary) < VOCABULARY:
        character = next(others)
        if character not in known:
            vocabulary.append(character)
    config = EncoderConfig(vocab_size=VOCABULARY, **shape)
    width = config.hidden_size
    shapes = dict(encoder_shapes(config))
    if task == "pair":
        shapes |= {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
        shapes |= {"classifier.weight": (1, width), "classifier.bias": (1,)}
    rng = np.random.default_rng(seed)
    weights = {}
    for name, dimensions in shapes.items():
        spread = 1.0 if name.startswith("embeddings") else 1 / np.sqrt(dimensions[-1])
        values = rng.standard_normal(dimensions, np.float32) * np.float32(spread)
        weights[name] = values + 1 if name.endswith("LayerNorm.weight") else values
    options: dict[str, Any] = {
        "task": task,
        "config": config,
        "weights": weights,
        "tokenizer": build_tokenizer(vocabulary),
        "pooling": "cls" if task == "embed" else None,
    }
    write_folder(path, **options)
    texts = made_up(SAMPLE, seed=2)
    sample = texts if task == "embed" else list(zip(texts[::2], texts[1::2], strict=True))
    return write_folder(path, **options, ranges=measure(path, sample), overwrite=True)


def made_up(count: int, seed: int = 0) -> list[str]:
    """Distinct sentences of random characters; lengths as in AFQMC (median 12, mean 13.3, 95 % up to 24)."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        length = min(max(round(rng.lognormvariate(2.5, 0.4)), 6), 57)
        found["".join(rng.choices(CHARACTERS, k=length))] = None
    return list(found)


def read_rows(data: Path, name: str, split: str = "dev") -> Iterator[dict[str, Any]]:
    """Yield the rows of DATA/name/split.jsonl, or .jsonl.xz."""
    for suffix, opener in ((".jsonl", open), (".jsonl.xz", lzma.open)):
        path = data / name / (split + suffix)
        if path.exists():
            with opener(path, "rt", encoding="utf-8", newline="\n") as handle:
                yield from map(json.loads, handle)
            return
    raise SystemExit(
        f"{data / name}: found no {split}.jsonl or {split}.jsonl.xz; expected afqmc (texta, textb) and iflytek "
        "(text) there. Leave --data out to run on made-up sentences."
    )


def short_texts(data: Path | None, count: int) -> list[str]:
    """Distinct short sentences in a fixed random order: AFQMC's, or made-up ones."""
    if data is None:
        return made_up(count)
    rows = read_rows(data, "afqmc")
    return _sample(dict.fromkeys(row[side] for row in rows for side in ("texta", "textb")), count)


def text_pairs(data: Path | None, count: int) -> list[tuple[str, str]]:
    """Distinct pairs of short sentences: AFQMC's, or made-up ones."""
    if data is None:
        texts = made_up(2 * count)
        return list(zip(texts[:count], texts[count:], strict=True))
    return _sample(dict.fromkeys((row["texta"], row["textb"]) for row in read_rows(data, "afqmc")), count)


def long_texts(data: Path | None, count: int, tokens: int, tokenizer: Backend) -> list[str]:
    """Texts of exactly `tokens` tokens, [CLS] and [SEP] included, cut from IFLYTEK's or made-up sentences joined."""
    if data is None:
        source: Iterable[str] = made_up(count * tokens // 8 + 200, seed=1)
    else:
        source = _sample(dict.fromkeys(row["text"] for row in read_rows(data, "iflytek")), None)
    texts: list[str] = []
    left = ""
    for text in source:
        left += text
        encoded = tokenizer.encode(left, add_special_tokens=False)
        if len(encoded.ids) >= tokens - 2:
            cut = left[: encoded.offsets[tokens - 3][1]]
            if len(tokenizer.encode(cut).ids) == tokens:
                texts.append(cut)
            left = ""
        if len(texts) == count:
            return texts
    raise SystemExit(f"only {len(texts)} texts of {tokens} tokens in {data}, need {count}: use --quick")


def _sample(items: Iterable[Any], count: int | None) -> list[Any]:
    """The items in a random order that is the same every time; the first `count` of them."""
    chosen = list(items)
    random.Random(0).shuffle(chosen)
    if count is not None and count > len(chosen):
        raise SystemExit(f"only {len(chosen)} inputs in the data, need {count}: use --quick")
    return chosen[:count]


def token_lengths(inputs: Iterable[Any], tokenizer: Backend) -> np.ndarray:
    """Tokens of each text or pair, [CLS] and [SEP] included."""
    return np.array([len(encoded.ids) for encoded in tokenizer.encode_batch(list(inputs))])


def encoder_flops(config: EncoderConfig, lengths: np.ndarray) -> float:
    """Floating-point operations of the encoder's matrix products on rows of these lengths, without padding.

    All positions of all layers, which is what a plain implementation computes.
    """
    width, inner = config.hidden_size, config.intermediate_size
    dense = 2 * (4 * width * width + 2 * width * inner) * lengths
    attention = 4 * width * lengths.astype(np.float64) ** 2
    return float(config.num_hidden_layers * (dense + attention).sum())
