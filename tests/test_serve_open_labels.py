"""Labels of many lengths in one request: its texts are read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jinyi.models.open_labels import OpenLabels
from jinyi.models.source import Source
from jinyi.tokens import Tokenizer

PROMPT = "下面是一则关于{}的新闻："
TEXTS = ["今天天气很好", "怎么改密码" * 40]


def test_texts_are_read_once_whatever_the_lengths(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = OpenLabels(Source.open(folders["topic"], "topic"))
    read: list[int] = []
    real = Tokenizer.read

    def counted(self: Tokenizer, texts: list[str], *, allow_empty: bool = False) -> object:
        read.append(len(texts))
        return real(self, texts, allow_empty=allow_empty)

    monkeypatch.setattr(Tokenizer, "read", counted)
    work = labels.prepare(TEXTS, ["好", "天气", "改密码", "今天天气"])
    assert read == [2] and len(work.passes) == 4


@pytest.mark.parametrize("truncate", ["report", "window"])
def test_each_number_of_masks_gives_what_it_gives_alone(folders: dict[str, Path], truncate: str) -> None:
    tokenizer = Source.open(folders["topic"], "topic").tokenizer
    together = tokenizer.encode_prompts(TEXTS, PROMPT, [3, 1, 2], max_length=40, truncate=truncate)
    for count, encoded in zip((3, 1, 2), together, strict=True):
        alone = tokenizer.encode_prompt(TEXTS, PROMPT, count, max_length=40, truncate=truncate)
        assert encoded.ids == alone.ids and encoded.masks == alone.masks
        assert np.array_equal(encoded.owners, alone.owners)
        assert np.array_equal(encoded.report.lost, alone.report.lost)
