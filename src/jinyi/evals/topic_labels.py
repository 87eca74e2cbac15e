"""Labels of a topic set: as its files write them, their descriptions, their words for prompts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinyi.errors import InputError, shorten
from jinyi.label_words import SETS, label_words


@dataclass(frozen=True, eq=False)
class SetLabels:
    """The labels of a set, and everything a file may write for them.

    Args:
        codes: each label as the set's files have it, in the set's order.
        titles: descriptions, for figures: "体育", "地图导航".
        words: words for prompts; empty where none are known, and then labels cannot be scored by words.
        prompts: templates with {} for the word; empty where the set has none of its own.
        ways: the places of labels, by each way of writing them.
        places: the places of labels as the set's files write them.
        known: the set's name in `jinyi.label_words`, "" for others.
    """

    codes: tuple[str, ...]
    titles: tuple[str, ...]
    words: tuple[str, ...]
    prompts: tuple[str, ...]
    ways: tuple[Mapping[str, int], ...]
    places: Mapping[str, int]
    known: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def by_word(self) -> dict[int, str]:
        """{place: word}, as `TopicClassifier` takes labels."""
        return dict(enumerate(self.words))

    def place(self, label: object, where: str) -> int:
        """Return the place of a label.

        Raises:
            InputError: the set does not know it.
        """
        found = self.places.get(str(label))
        if found is None:
            raise InputError(
                found=f"label {shorten(label)}",
                expected=f"one of {shorten(list(self.codes), 80)}",
                fix="Check which set the file belongs to, or give the set's labels (labels.json).",
                where=where,
            )
        return found

    @classmethod
    def of(cls, name: str, entries: Sequence[Mapping[str, Any]], seen: set[str]) -> SetLabels:
        """Find out the labels: from the set's own list, from a set known by name, or from the rows themselves.

        Args:
            name: of the set; TNEWS, CSLDCP and IFLYTEK are known by it.
            entries: of its `labels.json`, if it has one.
            seen: the labels in its files.
        """
        built_in = next((each for each in SETS if each in name.lower()), "")
        known = label_words(built_in) if built_in else None
        prompts = known.prompts if known else ()
        if entries:
            codes = tuple(str(_code(entry)) for entry in entries)
            titles = tuple(str(_title(entry) or code) for entry, code in zip(entries, codes, strict=True))
            words = tuple(str(entry.get("word") or "").strip() for entry in entries)
            if not all(words):
                words = tuple(known.word(code) for code in codes) if known else ()
                titles = words if words and all(title.isascii() for title in titles) else titles
            columns = ([str(entry.get("index", "")) for entry in entries], codes, titles, words)
            names = [str(entry.get("name", "")) for entry in entries]
            ways = tuple(_places(column) for column in (*columns, names))
            return cls(codes, titles, words, prompts, ways, one_way(ways, seen), built_in)
        if known:
            known_words, titles = tuple(known.words.values()), tuple(known.names.values())
            # news_story says less to a reader than its word.
            titles = known_words if all(each.isascii() for each in titles) else titles
            return cls(
                tuple(known.words), titles, known_words, prompts, (known.places,), known.places, built_in
            )
        whole = all(label.lstrip("-").isdecimal() for label in seen)
        codes = tuple(sorted(seen, key=int) if whole else sorted(seen))
        places = _places(codes)
        return cls(codes, codes, () if whole else codes, (), (places,), places)


def label_entries(path: Path, encoding: str) -> list[Mapping[str, Any]]:
    """Return the entries of a file of labels.

    Args:
        path: a JSON list or JSON lines of {"index", "code", "name", "word"} or {"label", "label_desc"}.
        encoding: of the file.

    Raises:
        InputError: no such file, damaged, or not such entries.
    """
    try:
        text = path.read_text(encoding=encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        raise InputError(
            found=f"bytes that are no {encoding}",
            expected="a file of labels in the encoding of the rows",
            fix="Save it as UTF-8.",
            where=str(path),
        ) from fault
    except OSError as fault:
        raise InputError(
            found=fault.strerror or str(fault),
            expected="a file of labels",
            fix="Check the path.",
            where=str(path),
        ) from fault
    try:
        entries = json.loads(text) if text.lstrip().startswith("[") else list(map(json.loads, _lines(text)))
    except ValueError as fault:
        raise InputError(
            found=f"damaged JSON ({fault})",
            expected="a list of labels, or one object a line",
            fix="Repair the file.",
            where=str(path),
        ) from None
    sound = all(isinstance(entry, dict) and _code(entry) is not None for entry in entries)
    if not sound or len(entries) < 2:
        raise InputError(
            found=f"{len(entries)} entries, such as {shorten(entries[0] if entries else None)}",
            expected='at least two of {"index", "code", "name", "word"} or {"label", "label_desc"}',
            fix="Write one such object for each label.",
            where=str(path),
        )
    if not any("index" in entry for entry in entries):
        return list(entries)
    try:
        return sorted(entries, key=lambda entry: int(entry["index"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(
            found="entries of which some have no whole number as index",
            expected="an index in every entry, or in none",
            fix="Number the labels from 0 in their order, or leave index out.",
            where=str(path),
        ) from None


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _code(entry: Mapping[str, Any]) -> str | None:
    value = next((entry[key] for key in ("code", "label", "index", "name") if key in entry), None)
    return None if value is None else str(value)


def _title(entry: Mapping[str, Any]) -> Any:
    word, name = entry.get("word"), entry.get("name") or entry.get("label_desc") or entry.get("label_des")
    return word if word and str(name).isascii() else name


def one_way(ways: Sequence[Mapping[str, int]], seen: Iterable[str]) -> Mapping[str, int]:
    """Return the places by the first way of writing labels that all labels seen follow; by all ways if none does."""
    labels = set(seen)
    for way in ways:
        if labels <= set(way):
            return way
    return {label: place for way in reversed(ways) for label, place in way.items()}


def _places(column: Sequence[str]) -> dict[str, int]:
    return {label: place for place, label in enumerate(column) if label}
