"""Pairs of sentences from raw text that differ in the order of their words: teaches a pair model who did what to whom.

    python recipes/order_pairs.py --rows 60000 --seed 0 corpus/cctv_news.txt.xz ... > order.jsonl

In sets such as LCQMC nearly the same words mean nearly the same; in PAWS-X they do not. Its 1,452 training pairs are
too few to learn that from. Here one side is a sentence of raw text, the other the same with small changes that keep its
meaning: function words by others that say the same, punctuation, particles. In half of the pairs, labelled 0, two of
its content words have changed places as well, as PAWS makes its pairs (Zhang et al., NAACL 2019, arXiv 1904.01130).

Reads lines, a blank one between documents (.xz too); needs the extra train.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path

import rjieba
from lexical_pairs import sentences

_SAME = (
    "和 与 及 以及",
    "是 为",
    "因为 由于",
    "虽然 尽管",
    "但是 但 不过 然而",
    "目前 现在 当前",
    "曾 曾经",
    "之后 后 以后",
    "之前 前 以前",
    "并 并且 且",
    "也 亦",
    "如果 若 要是",
    "可以 能 能够",
    "都 均",
    "已 已经",
    "将 会",
    "于 在",
    "开始 着手",
    "成为 变成",
    "使用 采用 用",
    "许多 很多 大量",
    "一些 若干",
    "非常 十分 很",
    "所以 因此 因而",
    "其中 当中",
    "例如 比如 譬如",
    "大约 约 大概",
    "表示 称 说",
    "认为 觉得",
    "需要 须要 得",
    "没有 没 未",
    "不能 无法",
    "这 此 该",
    "首先 先",
    "最后 最终",
    "位于 坐落于",
    "通过 经由",
    "包括 包含",
)
OTHERS = {
    word: [other for other in group.split() if other != word] for group in _SAME for word in group.split()
}
_LEAST = 12  # characters: shorter sentences are mostly no sentences
_CONTENT = re.compile(r"[\u4e00-\u9fff]{2,}|[A-Za-z]{2,}|\d+(\.\d+)?")
_TRIES = 8


def reworded(rng: random.Random, words: list[str]) -> list[str]:
    """Return the words of a sentence with small changes that keep its meaning."""
    rate = rng.uniform(0.2, 0.9)
    made = []
    for word in words:
        if rng.random() > rate:
            made.append(word)
        elif word in OTHERS:
            made.append(rng.choice(OTHERS[word]))
        elif word == "的" and rng.random() < 0.3:
            continue
        elif word == "，" and rng.random() < 0.3:
            made.append(rng.choice(["、", "；", " "]))
        else:
            made.append(word)
    if made[-1] in "。；！" and rng.random() < 0.5:
        made.pop()
    return made


def swapped(rng: random.Random, words: list[str]) -> list[str] | None:
    """Return the words with two different content words exchanged; None if there are no two."""
    places = [at for at, word in enumerate(words) if word not in OTHERS and _CONTENT.fullmatch(word)]
    for _ in range(_TRIES):
        if len(places) < 2:
            return None
        one, two = sorted(rng.sample(places, 2))
        if words[one] != words[two] and words[one].isdigit() == words[two].isdigit():
            made = list(words)
            made[one], made[two] = words[two], words[one]
            return made
    return None


def main() -> None:
    """Write the pairs as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    texts = {
        text
        for file in options.files
        for document in sentences(file)
        for text in document
        if len(text) >= _LEAST
    }
    chosen = sorted(texts)
    rng.shuffle(chosen)
    left = options.rows
    for text in chosen:
        words = rjieba.cut(text)
        label = left % 2
        other = words if label else swapped(rng, words)
        if other is None:
            continue
        changed = "".join(reworded(rng, other)).strip()
        if changed:
            sides = [text, changed]
            rng.shuffle(sides)
            print(json.dumps({"texta": sides[0], "textb": sides[1], "label": label}, ensure_ascii=False))
            left -= 1
        if not left:
            return
    sys.exit(f"{left:,} pairs are missing: give it more text")


if __name__ == "__main__":
    main()
