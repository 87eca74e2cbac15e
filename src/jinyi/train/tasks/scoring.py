"""What tasks share: scoring without a trace, names and means of dev scores, places of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from jinyi.errors import InputError, shorten
from jinyi.train.data.rows import Rows
from jinyi.train.data.sampler import Drawn
from jinyi.train.network import Network
from jinyi.train.recipe import Recipe

_SHOWN = 5


@contextmanager
def scoring(network: Network) -> Iterator[torch.device]:
    """Switch dropout and gradients off for a while; gives the device of the network."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield next(network.parameters()).device
    finally:
        network.train(training)


def different_names(sets: Sequence[Rows], split: str = "dev") -> list[str]:
    """Return the names of the dev (or train) files.

    Raises:
        InputError: two have the same name, so that one would hide the other.
    """
    names = [rows.name for rows in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                found=f"two {split} files called {name}",
                expected="a name of its own for each",
                fix="Give one of them `name`.",
                where=f"data.{split}",
            )
    return names


def check_compared(fewest: int, loss: str, path: Path | str) -> None:
    """Refuse parts in which a loss that compares texts has nothing to compare: it would be 0 and teach nothing.

    Args:
        fewest: texts (pairs) that are compared with each other, in the smallest part.
        loss: its name.
        path: of the file.

    Raises:
        InputError: fewer than two.
    """
    if fewest < 2:
        raise InputError(
            found=f"parts of a single row for {loss}",
            expected="two rows at least that can be compared: parts are batches of their own",
            fix="Raise batch.rows (objective.cache bounds the memory), lower batch.accumulate, or take more rows.",
            where=str(path),
        )


def choose_metric(recipe: Recipe, metrics: Mapping[str, Sequence[str]], order: Sequence[str]) -> str:
    """Return the metric that decides which model is best.

    Args:
        recipe: may name it.
        metrics: what is measured on each dev file; a score of one of several files may be named as `FILE_METRIC`.
        order: the task's own choice: the first of these that any file has.

    Raises:
        InputError: the recipe names a metric that none of its dev files has.
    """
    measured = {metric for each in metrics.values() for metric in each}
    own = next((metric for metric in order if metric in measured), order[0])
    named = recipe.evaluation.metric
    if named is None or not metrics:
        return named or own
    known = sorted(measured)
    if len(metrics) > 1:
        known += [f"{name}_{metric}" for name, each in metrics.items() for metric in each]
    if named not in known:
        raise InputError(
            found=shorten(named),
            expected=f"one of {', '.join(known)}",
            fix="These are measured on the recipe's dev files.",
            where="evaluation.metric",
        )
    return named


def summarise(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return dev scores by name: the mean of each metric over the files that have it, then `FILE_METRIC`.

    Of a single file each score stands once, by its metric.
    """
    if len(scores) == 1:
        return dict(next(iter(scores.values())))
    metrics = list(dict.fromkeys(metric for each in scores.values() for metric in each))
    means = {
        metric: float(np.mean([each[metric] for each in scores.values() if metric in each]))
        for metric in metrics
    }
    return means | {
        f"{name}_{metric}": value for name, each in scores.items() for metric, value in each.items()
    }


def describe_rows(sets: Sequence[Rows], drawn: Drawn) -> str:
    """Return where rows come from, for messages: file and line of the first few."""
    places = [
        sets[source].where(row) for source, row in zip(drawn[0].tolist(), drawn[1].tolist(), strict=True)
    ]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return ", ".join(places[:_SHOWN]) + more
