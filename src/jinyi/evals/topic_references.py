"""Topics by comparison of vectors with those of labelled texts: prompts, whitenings, deciders in every combination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from jinyi.errors import InputError
from jinyi.evals.topic_data import Fold, TopicData
from jinyi.evals.topic_systems import Answers, Model, Numbers, answers_of, best_of, trained
from jinyi.evals.topic_vectors import TextVectors, compact, masks_of
from jinyi.models.common import FloatArray
from jinyi.models.heads import DECIDERS, ReferenceHead
from jinyi.models.whitening import Whitening

WHITENINGS = ("none", "train", "train+scored")
PROMPT_ON = ("none", "scored", "both")


def references(
    model: Model,
    data: TopicData,
    folds: Sequence[Fold],
    vectors: TextVectors,
    *,
    prompts: Mapping[str, str],
    prompt_on: Sequence[str],
    deciders: Sequence[str],
    neighbors: int,
    whitening: Sequence[str],
    k: Sequence[int | None],
    notes: list[str],
) -> Iterator[Answers]:
    """Compare vectors with those of the labelled rows, in every combination that is asked for.

    Args:
        model: for the name.
        data: the set.
        folds: with training rows.
        vectors: of the model.
        prompts: by the name that tables show.
        prompt_on: which side has the prompt: "none", "scored" (as TCBert's card does it) or "both".
        deciders: some of `DECIDERS`.
        neighbors: voters of "knn".
        whitening: some of `WHITENINGS`.
        k: dimensions that whitening keeps; None keeps all.
        notes: gets a sentence for what cannot be computed.
    """
    trained(data, folds)
    sides: list[tuple[str, str | None, str | None, str]] = []
    for side in dict.fromkeys(prompt_on):
        if side == "none":
            sides.append(("no prompt", None, None, side))
        elif not prompts:
            notes.append(
                f"{data.name}: no rows with a prompt on {side}: the set has none of its own (--prompt)."
            )
        for name, prompt in prompts.items() if side != "none" else ():
            both = side == "both"
            sides.append(
                (f"{name} {'on both' if both else 'on scored texts'}", prompt if both else None, prompt, side)
            )
    kept = [(kind, each) for kind, each in product(whitening, k) if kind != "none"]
    plain: list[tuple[str, int | None]] = [("none", None)] if "none" in whitening else []
    width = vectors.source.folder.vector_size
    masks = masks_of(data)
    for shown, train_prompt, scored_prompt, side in sides:
        for kind, each in plain + kept:
            size = width if each is None else each
            short = [fold for fold in folds if kind != "none" and _room(fold, kind) <= size]
            if short or size > width:
                reason = (
                    f"{_room(short[0], kind)} rows to fit it on" if short else f"vectors of {width} numbers"
                )
                sentence = f"{data.name}: whitening on {kind} to k={size} left out: {reason}."
                notes += [sentence] if sentence not in notes else []
                continue
            spaces = [
                _space(
                    vectors.vectors(fold.train, train_prompt, masks),
                    vectors.vectors(fold.scored, scored_prompt, masks),
                    kind,
                    size,
                )
                for fold in folds
                if fold.train is not None
            ]
            for decider in deciders:
                name = f"{decider} (k={neighbors})" if decider == "knn" else decider
                tail = "" if kind == "none" else f", whitening on {kind}, k={size}"
                yield answers_of(
                    model,
                    f"reference, {name}, {shown}{tail}",
                    [
                        _decide(fold, space, decider, neighbors)
                        for fold, space in zip(folds, spaces, strict=True)
                    ],
                    {
                        "method": "reference",
                        "decider": decider,
                        "prompt": scored_prompt,
                        "prompt_on": side,
                        "whitening": kind,
                        "k": None if kind == "none" else size,
                        "pooling": vectors.pooling,
                    },
                    cut=max(vectors.cut[fold.scored.path, scored_prompt] for fold in folds),
                )


def check_choices(deciders: Sequence[str], whitening: Sequence[str], prompt_on: Sequence[str]) -> None:
    """Raise InputError if one of them is not known."""
    for name, given, known in (
        ("decider", deciders, DECIDERS),
        ("whitening", whitening, WHITENINGS),
        ("prompt_on", prompt_on, PROMPT_ON),
    ):
        wrong = [value for value in given if value not in known]
        if wrong or not given:
            raise InputError(
                found=repr(wrong[0]) if wrong else "none",
                expected=" or ".join(map(repr, known)),
                fix="Choose one of them, or several.",
                where=name,
            )


def _room(fold: Fold, kind: str) -> int:
    """Distinct texts that a whitening is fitted on."""
    texts = set(fold.train.texts) if fold.train is not None else set()
    return len(texts | set(fold.scored.texts)) if kind == "train+scored" else len(texts)


def _space(train: FloatArray, scored: FloatArray, kind: str, size: int) -> tuple[FloatArray, FloatArray]:
    """Whiten both sides alike."""
    if kind == "none":
        return train, scored
    fitted = Whitening(size).fit(train if kind == "train" else np.concatenate((train, scored)))
    return fitted.transform(train), fitted.transform(scored)


def _decide(
    fold: Fold, space: tuple[FloatArray, FloatArray], decider: str, neighbors: int
) -> tuple[Numbers, FloatArray]:
    assert fold.train is not None  # noqa: S101
    classes, targets = compact(fold.train.targets)
    head = ReferenceHead.fit(
        space[0], targets, len(classes), decider=decider, neighbors=neighbors, whitening=None
    )
    return best_of(head.proba(space[1]), classes)
