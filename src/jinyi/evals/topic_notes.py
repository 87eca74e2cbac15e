"""Sentences below the tables of a topic evaluation: its protocol, and what spoils it."""

from __future__ import annotations

from collections.abc import Sequence

from jinyi.evals.topic_data import Fold, TopicData, shared_texts
from jinyi.evals.topic_systems import Answers
from jinyi.evals.topic_vectors import TextVectors
from jinyi.models.seen import known_share
from jinyi.models.source import Source

_WORTH_SAYING = 0.02  # a share of texts, estimated from some dozens of them and more


def notes_on(data: TopicData, folds: Sequence[Fold]) -> list[str]:
    """Say what was fitted on how many rows, what was scored, and which scored texts were known beforehand."""
    name = data.name
    scored = {fold.scored.path: fold.scored for fold in folds}
    files = f"{data.split}, {', '.join(sorted({str(len(rows)) for rows in scored.values()}))} rows"
    trained = [fold for fold in folds if fold.train is not None]
    if not trained:
        return [f"{name}: scored on {files}; no training rows."]
    sizes = sorted({len(fold.train) for fold in trained if fold.train is not None})
    rows = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    several = f"mean of folds {', '.join(fold.name for fold in folds)} of {rows} training rows each"
    one = f"fitted on {trained[0].name} ({rows} training rows)"
    notes = [
        f"{name}: {several if len(folds) > 1 else one}; scored on {files}{' each' if len(scored) > 1 else ''}."
    ]
    leaked = {fold.name: count for fold in trained if (count := shared_texts(fold))}
    if leaked:
        told = ", ".join(
            f"{count} (fold {fold})" if len(folds) > 1 else str(count) for fold, count in leaked.items()
        )
        notes.append(
            f"{name}: scored texts that are training texts too: {told}. Their answers are known beforehand."
        )
    return notes


def known_texts(name: str, source: Source, folds: Sequence[Fold]) -> list[str]:
    """Say which texts of a set the model's own training had with labels, as its folder tells.

    Raises:
        FolderError: the folder's record of its training texts is damaged.
    """
    shares: dict[str, float] = {}
    for what, sides in (
        ("training", [fold.train for fold in folds if fold.train is not None]),
        ("scored", [fold.scored for fold in folds]),
    ):
        texts = dict.fromkeys(text for rows in sides for text in rows.texts)
        share = known_share(source, list(texts))
        if share is not None and share >= _WORTH_SAYING:
            shares[what] = share
    if not shares:
        return []
    told = " and ".join(f"{100 * share:.0f} % of the {what} texts" for what, share in shares.items())
    spoilt = " Their scores say nothing of new texts." if "scored" in shares else ""
    return [f"{name}: {source.folder.path.name} was trained on {told}, as its folder tells.{spoilt}"]


def cut_texts(name: str, source: Source, answers: Sequence[Answers], vectors: TextVectors) -> list[str]:
    """Say how many texts were too long."""
    scored = max((step.cut for step in answers), default=0)
    most = max(vectors.cut.values(), default=0)
    if not scored and not most:
        return []
    model, read = source.folder.path.name, source.folder.max_length
    text = (
        f"{name}: {model} reads {read} tokens, prompt included: cut were up to {scored} of the scored texts"
    )
    return [f"{text} and up to {most} of a file with training texts." if most > scored else f"{text}."]
