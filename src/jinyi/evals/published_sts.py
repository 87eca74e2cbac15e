"""Published scores of the five Chinese STS sets, as rows that stand beside computed ones and are marked as quoted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from jinyi.evals.result import Row


def published() -> dict[str, Any]:
    """Return the published table: metric, sets in their order, sources by name, rows."""
    text = (files("jinyi.evals") / "published_sts.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def set_key(name: str) -> str:
    """Return how published tables call a set: "STS-B" and "sts_b" are stsb, "PAWSX" is pawsx."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def quoted_rows(names: Iterable[str]) -> list[Row]:
    """Return the published rows of those sets among `names` that have them, under the names given."""
    table = published()
    given = {set_key(name): name for name in names}
    return [
        Row(
            data=given[key],
            system=entry["system"],
            protocol=entry["protocol"],
            scores={table["metric"]: score},
            quoted=table["sources"][entry["source"]],
        )
        for entry in table["rows"]
        for key, score in zip(table["sets"], entry["scores"], strict=True)
        if key in given
    ]
