"""Pairs of everyday sentences, drawn from patterns: what people ask of shops, banks, doctors, assistants.

    python recipes/everyday_pairs.py recipes/everyday/*.txt --each 40 > DATA/everyday/train.jsonl

Sets of labelled pairs are of a few services and follow their habits; how else an everyday question can be put is in
none of them. A file of patterns holds domains (`## name`), their slots (`@slot: value|value`), and intents (`= name`)
with one pattern a line: `[a|b|]` is one of its parts, the empty one too, `{slot}` a value. Sentences of one intent with
the same value mean the same (label 1); those of two intents of a domain, or with another value, do not (0). Of the
latter, two thirds are those that share most characters among eight drawn.

Two slots of one list, `@a b: value|value`, have different values; with those of one list exchanged a sentence means
something else, unless its intent begins with `~` in place of `=`: 我比他高 / 他比我高, but 我和他一样高 / 他和我一样高.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SAME_TEXT = (
    0.04  # share of the similar pairs that are a sentence and itself, a full stop or question mark apart
)
ELSEWHERE = 0.1  # share of the other pairs that come from another domain
EXCHANGED = 0.4  # share of the pairs in which values are exchanged, where that can be
SIMILAR_DRAWN, DIFFERENT_DRAWN = 4, 8  # sentences drawn for one pair
_PART = re.compile(r"\[([^\[\]{}]*)\]|\{([^\[\]{}|]+)\}")


@dataclass(frozen=True)
class Intent:
    """Patterns that mean the same; in a symmetric one also with the values of slots of one list exchanged."""

    name: str
    symmetric: bool = False
    patterns: list[str] = field(default_factory=list)

    def slots(self) -> set[str]:
        """The slots of its patterns."""
        return {found for pattern in self.patterns for _, found in _PART.findall(pattern) if found}

    def draw(self, values: dict[str, str], rng: random.Random) -> str:
        """Return a sentence with these values of its slots."""

        def chosen(part: re.Match[str]) -> str:
            return values[part[2]] if part[2] else rng.choice(part[1].split("|"))

        return _PART.sub(chosen, rng.choice(self.patterns))


@dataclass(frozen=True)
class Domain:
    """Intents that must not be taken for one another; `slots` are lists of values by the names that share them."""

    name: str
    slots: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)

    def values(self, rng: random.Random) -> dict[str, str]:
        """Draw a value of each slot, different ones from one list."""
        drawn: dict[str, str] = {}
        for names, values in self.slots.items():
            drawn |= zip(names, rng.sample(values, len(names)), strict=True)
        return drawn

    def lists(self, intent: Intent) -> list[tuple[str, ...]]:
        """The slots of one list that an intent has both of."""
        return [names for names in self.slots if len(names) > 1 and intent.slots().issuperset(names)]


def exchanged(values: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the values with those of some slots in the opposite order."""
    return values | {name: values[other] for name, other in zip(names, reversed(names), strict=True)}


def read_patterns(path: Path) -> list[Domain]:
    """Read a file of patterns; exits with the line that cannot be read."""
    domains: list[Domain] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where, line = f"{path}:{number}", line.strip()
        if not line:
            continue
        if line.startswith("##"):
            domains.append(Domain(line.strip("# ")))
        elif not domains:
            sys.exit(f"{where}: a line before the first domain (## name)")
        elif line.startswith("@"):
            slots, found, listed = line[1:].replace("：", ":").partition(":")
            names, values = tuple(slots.split()), [value.strip() for value in listed.split("|")]
            if not (found and names and all(values)) or len({*values}) < max(2, len(values)):
                sys.exit(f"{where}: a slot is @name: value|value, two different ones at least")
            if len(names) > 2:
                sys.exit(f"{where}: {len(names)} names of slots; one, or two that share the values")
            domains[-1].slots[names] = values
        elif line[0] in "=~":
            domains[-1].intents.append(Intent(line.strip("=~ "), symmetric=line[0] == "~"))
        elif not domains[-1].intents:
            sys.exit(f"{where}: a pattern before the first intent (= name)")
        else:
            if set("[]{}") & set(_PART.sub("", line)):
                sys.exit(f"{where}: brackets that do not close, or one within another: {line}")
            domains[-1].intents[-1].patterns.append(line)
            if unknown := domains[-1].intents[-1].slots().difference(*domains[-1].slots):
                sys.exit(f"{where}: slot {unknown.pop()!r} has no values in its domain (@slot: value|value)")
    for domain in domains:
        for intent in domain.intents:
            if not intent.patterns:
                sys.exit(f"{path}: intent {intent.name!r} has no pattern")
            if intent.symmetric and not domain.lists(intent):
                sys.exit(f"{path}: intent {intent.name!r} (~) has no two slots of one list")
    return domains


def similar(domain: Domain, intent: Intent, rng: random.Random) -> tuple[str, str]:
    """Two sentences of an intent."""
    values = domain.values(rng)
    first = intent.draw(values, rng)
    if rng.random() < SAME_TEXT:
        return first, first + rng.choice(("", "？" if first.endswith(("吗", "呢", "么")) else "。"))
    if intent.symmetric and rng.random() < EXCHANGED:
        values = exchanged(values, rng.choice(domain.lists(intent)))
    others = [intent.draw(values, rng) for _ in range(SIMILAR_DRAWN)]
    # Every second time the other one shares the fewest characters: the others differ in a word or two.
    return first, min(others, key=lambda text: shared(first, text)) if rng.random() < 0.5 else others[0]


def different(
    domain: Domain, intent: Intent, domains: list[Domain], rng: random.Random
) -> tuple[str, str] | None:
    """A sentence of an intent and one of another, or with other values; None where none was found."""
    values = domain.values(rng)
    first, slots, lists = intent.draw(values, rng), intent.slots(), domain.lists(intent)
    if lists and not intent.symmetric and rng.random() < EXCHANGED:
        # One list alone: with both exchanged, 1990 in Beijing and 1995 in Xi'an stay what they are.
        turned = exchanged(values, rng.choice(lists))
        return first, _nearest(first, [intent.draw(turned, rng) for _ in range(SIMILAR_DRAWN)], rng)
    alike = [
        values,
        *(exchanged(exchanged(values, one), two) for one, two in itertools.combinations(lists, 2)),
    ]
    if intent.symmetric:
        alike += [exchanged(values, names) for names in lists]
    own = rng.random() >= ELSEWHERE
    if not own:
        domain = rng.choice(domains)
    drawn = []
    for _ in range(DIFFERENT_DRAWN):
        other, its = rng.choice(domain.intents), domain.values(rng)
        if own and slots and rng.random() < 0.5:
            other = intent
        if other is intent:
            if any(all(its[slot] == one[slot] for slot in slots) for one in alike):
                continue
        elif own and rng.random() < 0.5:
            its = values
        drawn.append(other.draw(its, rng))
    drawn = [text for text in drawn if text != first]
    return (first, _nearest(first, drawn, rng)) if drawn else None


def _nearest(first: str, drawn: list[str], rng: random.Random) -> str:
    """Of the sentences drawn the one that shares most characters, in two thirds of the cases; else the first."""
    return max(drawn, key=lambda text: shared(first, text)) if rng.random() < 0.67 else drawn[0]


def pairs(domains: list[Domain], each: int, rng: random.Random) -> Iterator[tuple[str, str, int]]:
    """Yield up to `each` pairs of either label for every intent, none twice."""
    seen = set()
    for domain in domains:
        for intent in domain.intents:
            for _ in range(each):
                for label, found in (
                    (1, similar(domain, intent, rng)),
                    (0, different(domain, intent, domains, rng)),
                ):
                    if found is not None and frozenset(found) not in seen:
                        seen.add(frozenset(found))
                        yield (*found, label)


def shared(first: str, other: str) -> float:
    """Share of characters in common (Jaccard)."""
    one, two = set(first), set(other)
    return len(one & two) / len(one | two)


def bare(text: str) -> str:
    """Return a text without punctuation and blanks."""
    return "".join(filter(str.isalnum, text))


def texts_of(files: list[Path]) -> set[str]:
    """Return the bare texts of files of pairs (JSON lines with texta and textb)."""
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return {bare(row[side]) for row in rows for side in ("texta", "textb")}


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("patterns", nargs="+", type=Path, help="files of patterns")
    parser.add_argument("--each", type=int, default=40, help="pairs of either label for an intent, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", type=Path, action="append", default=[], metavar="FILE", help="pairs whose texts stay out"
    )
    options = parser.parse_args()
    kept_out = texts_of(options.without)
    domains = [domain for path in options.patterns for domain in read_patterns(path)]
    rng = random.Random(options.seed)
    for a, b, label in pairs(domains, options.each, rng):
        if {bare(a), bare(b)} & kept_out:
            continue
        print(json.dumps({"texta": a, "textb": b, "label": label}, ensure_ascii=False))
    intents = sum(len(domain.intents) for domain in domains)
    print(f"{len(domains)} domains, {intents} intents", file=sys.stderr)


if __name__ == "__main__":
    main()
