"""Pairs of plain statements from lists of opposites: a word that turns the meaning round, or another one for the same.

    python recipes/opposite_pairs.py recipes/opposites/*.txt --each 40 > DATA/opposites/train.jsonl

Words that stand in the same places get vectors near each other, opposites too (Mrkšić et al. 2016, arXiv 1603.00892),
and labelled pairs hold few opposites: what is one has to be told, word by word. A line of a list is

    kind | subjects | words of one side | words of the other side [| objects]

with blanks between alternatives, and of kind 形 (adjectives: 很, 不), 动 (events: 了, 没), 态 (attitudes, before an
object: 不) or 整 (whole predicates, nothing is put around them). Similar pairs (label 1) have two words of a side, both
as they are or both denied; others (0) one of each side, or one denied. Behind a kind with `!` nothing lies between the
sides: a word denied means the other side.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from everyday_pairs import bare, shared, texts_of

SAID = {
    "形": ("很{}", "真{}", "特别{}", "挺{}的", "太{}了", "非常{}", "{}得很"),
    "动": ("{}了", "已经{}了", "刚{}", "刚刚{}了"),
    "态": ("{}", "一直{}", "确实{}"),
    "整": ("{}",),
}
DENIED = {
    "形": ("不{}", "并不{}", "一点也不{}", "没那么{}", "不怎么{}"),
    "动": ("没{}", "还没{}", "没有{}", "并没有{}"),
    "态": ("不{}", "并不{}", "从来不{}"),
}
NEGATIVE = "不没无非未"  # words that begin so are not denied once more
SAME_FRAME = 0.6  # share of the pairs with the same words around the one that decides
DENIALS = 0.35  # share of the pairs in which a word is denied, where one can be
CANDIDATES = 4  # whole predicates of the other side
NEAREST = 0.6  # share of the cases in which that with most shared characters is taken, else any


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Args:
        kind: 形, 动, 态 or 整.
        complete: nothing lies between the sides.
        subjects: what the words are said of.
        sides: the words of both sides.
        objects: what follows; the empty one for all kinds but 态.
    """

    kind: str
    complete: bool
    subjects: list[str]
    sides: tuple[list[str], list[str]]
    objects: list[str]

    def pair(self, rng: random.Random) -> tuple[str, str, int]:
        """Return two statements on one subject, and whether they mean the same (1) or not (0)."""
        start, end = rng.choice(self.subjects), rng.choice(self.objects)
        here = rng.randrange(2)
        words, others = self.sides[here], self.sides[1 - here]
        plain = [word for word in words if word[0] not in NEGATIVE] if self.kind in DENIED else []
        label, denies = rng.randrange(2), bool(plain) and rng.random() < DENIALS
        words = plain if denies else words
        said = rng.choice(SAID[self.kind])
        again = said if rng.random() < SAME_FRAME else rng.choice(SAID[self.kind])
        word = rng.choice(words)
        if label and denies and self.complete and rng.random() < 0.5:
            first, second = rng.choice(DENIED[self.kind]).format(word), said.format(rng.choice(others))
        elif denies:
            form = rng.choice(DENIED[self.kind])
            other = word if not label and rng.random() < SAME_FRAME else rng.choice(words)
            first = form.format(word)
            second = (form if label else said).format(other)
        elif label:
            first, second = said.format(word), again.format(rng.choice(words))
        else:
            count = min(CANDIDATES, len(others)) if self.kind == "整" else 1
            drawn = rng.sample(others, count)
            nearest = rng.random() < NEAREST
            other = max(drawn, key=lambda other: shared(word, other)) if nearest else drawn[0]
            first, second = said.format(word), again.format(other)
        a, b = start + first + end, start + second + end
        return (a, b, label) if rng.random() < 0.5 else (b, a, label)


def read(file: Path) -> Iterator[Entry]:
    """Yield the entries of a list; a line that is none ends the script."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, *fields = (field.strip() for field in line.split("|"))
        lists = [field.split() for field in fields]
        complete, kind = kind.endswith("!"), kind.removesuffix("!")
        if (
            kind not in SAID
            or (complete and kind not in DENIED)
            or len(lists) != (4 if kind == "态" else 3)
            or not all(lists)
        ):
            sys.exit(f"{file}:{number}: found {line!r}; expected kind | subjects | words | words [| objects]")
        if shared := set(lists[1]) & set(lists[2]):
            sys.exit(f"{file}:{number}: {' '.join(shared)} on both sides")
        yield Entry(kind, complete, lists[0], (lists[1], lists[2]), lists[3] if kind == "态" else [""])


def pairs(entries: list[Entry], each: int, rng: random.Random) -> Iterator[tuple[str, str, int]]:
    """Yield up to `each` different pairs of every entry."""
    seen = set()
    for entry in entries:
        for _ in range(each):
            a, b, label = entry.pair(rng)
            if a != b and (min(a, b), max(a, b)) not in seen:
                seen.add((min(a, b), max(a, b)))
                yield a, b, label


def main() -> None:
    """Write the rows as JSON lines, in an order by chance."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("lists", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--each", type=int, default=40, help="pairs drawn of each line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", type=Path, action="append", default=[], metavar="FILE", help="pairs whose texts stay out"
    )
    options = parser.parse_args()
    kept_out = texts_of(options.without)
    rng = random.Random(options.seed)
    rows = list(pairs([entry for file in options.lists for entry in read(file)], options.each, rng))
    rng.shuffle(rows)
    for a, b, label in rows:
        if {bare(a), bare(b)} & kept_out:
            continue
        print(json.dumps({"texta": a, "textb": b, "label": label}, ensure_ascii=False))


if __name__ == "__main__":
    main()
