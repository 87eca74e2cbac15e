"""docs/models.md names every published model as the registry has it."""

from __future__ import annotations

import re
from pathlib import Path

from jinyi.registry import published_models

PAGE = Path(__file__).parent.parent / "docs/models.md"
FAMILIES = {"bert": "BERT", "megatron-bert": "MegatronBERT", "albert": "ALBERT", "roformer": "RoFormer"}


def test_the_page_has_a_row_for_each_published_model_and_no_other() -> None:
    rows = re.findall(
        r"^\| `([^`/]+/[^`]+)` \| (\w+) \| (\w+) (\d+) x (\d+) \| (.+) \|$", PAGE.read_text("utf-8"), re.M
    )
    expected = {
        (
            entry.name,
            entry.task,
            FAMILIES[entry.architecture],
            str(entry.layers),
            str(entry.width),
            entry.licence or "not stated",
        )
        for entry in published_models()
    }
    assert len(rows) == len(expected) and set(rows) == expected
