"""What others published on CLUE's tasks; quoted beside our rows, with the split each was scored on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from jinyi.clue.tasks import ClueTask
from jinyi.evals.result import Row

METRICS = ("accuracy", "macro-F1")


def quoted_rows(tasks: Sequence[ClueTask]) -> list[Row]:
    """Return the published rows of some tasks.

    Dev and test numbers stand under protocols of their own: they are of different rows and not comparable.
    """
    text = (files("jinyi.clue") / "published.json").read_text(encoding="utf-8")
    found = json.loads(text)
    rows = []
    for row in found["rows"]:
        for task in tasks:
            scores = {
                metric: row[metric][task.name] for metric in METRICS if task.name in row.get(metric, {})
            }
            deviation = row.get("deviation", {}).get(task.name)
            if scores:
                rows.append(
                    Row(
                        data=task.title,
                        system=row["system"],
                        protocol=row["protocol"],
                        scores=scores,
                        deviations={} if deviation is None else {"accuracy": deviation},
                        quoted=found["sources"][row["source"]],
                    )
                )
    return rows
