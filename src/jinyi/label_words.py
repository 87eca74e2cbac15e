"""Label words and prompts of TNEWS, CSLDCP and IFLYTEK, as TCBert and FewCLUE use them.

    news = label_words("tnews")
    jinyi.TopicClassifier.load(labels=news.words, prompt=news.prompts[0])

The words are FewCLUE's (arXiv 2107.07498), the prompts TCBert's (arXiv 2211.11304), with the full-width punctuation of
Chinese text. All words have two characters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Final

from jinyi.errors import InputError, shorten

SETS: Final = ("tnews", "csldcp", "iflytek")


@dataclass(frozen=True)
class LabelWords:
    """The labels of one set.

    Args:
        words: {label as the set's files have it: its label word}, in the set's order: ids for TNEWS ("100") and IFLYTEK
            ("0"), names for CSLDCP ("材料科学与工程").
        names: {label: its description}: "news_story", "地图导航"; for CSLDCP the label itself.
        prompts: two prompts with {} for the word; a text follows them.
    """

    words: dict[str, str]
    names: dict[str, str]
    prompts: tuple[str, str]

    def word(self, label: object) -> str:
        """Return the label word of a label.

        Args:
            label: as in the files, or its description, or its place in the set's order from 0, which re-packed versions
                of the sets use; text or whole number.

        Raises:
            InputError: the set has no such label.
        """
        place = self.places.get(str(label))
        if place is None:
            raise InputError(
                found=f"label {shorten(label)}",
                expected=f"one of {shorten(list(self.words), 80)}",
                fix="Check which set the file belongs to, or give words for the labels yourself.",
                where="label",
            )
        return list(self.words.values())[place]

    @cached_property
    def places(self) -> dict[str, int]:
        """The place in the set's order of everything that `word` knows."""
        orders = ((str(place) for place in range(len(self.words))), self.names.values(), self.words)
        return {label: place for order in orders for place, label in enumerate(order)}


def label_words(name: str) -> LabelWords:
    """Return the label words of a set.

    Args:
        name: one of `SETS`.

    Raises:
        InputError: another name.
    """
    if name not in SETS:
        raise InputError(
            found=f"set {shorten(name)}",
            expected=f"one of {', '.join(SETS)}",
            fix="Give {label: word} yourself for other sets.",
            where="label words",
        )
    entry = json.loads((files("jinyi") / "label_words.json").read_text(encoding="utf-8"))[name]
    first, second = entry["prompts"]
    return LabelWords(
        words={label: word for label, _, word in entry["labels"]},
        names={label: title for label, title, _ in entry["labels"]},
        prompts=(first, second),
    )
