"""Our own route: topics of texts, with labels named in the request or the model's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field, WithJsonSchema

from jinyi.errors import InputError, shorten
from jinyi.models.labels import label_words
from jinyi.models.work import Pass, Work
from jinyi.serve.problems import Invalid, TooLarge
from jinyi.serve.protocols.blocks import MANY_OBJECTS, item_blocks, list_object, written
from jinyi.serve.protocols.calls import answer, choose, compute
from jinyi.serve.protocols.errors import NestedError
from jinyi.serve.protocols.fields import Model, Texts, Truncate, limit, mode_of, read_texts
from jinyi.serve.protocols.openai import Cut, Usage
from jinyi.serve.protocols.ranked import Ranked, ranked
from jinyi.serve.protocols.route import Body, example, new_router

router = new_router(NestedError, "jinyi")

MOST_LABELS = 1000
MOST_SCORES = 100_000
"""Scores in one answer: some 5 MB as JSON."""

MOST_NUMBERS = 2**24
"""Scores of characters at [MASK]s that the worker sends for one request: 64 MB."""

LONGEST_WORD = 32
"""Characters of a label word. Each is a [MASK] in every text, over which the whole vocabulary is scored."""

_WORD = {"type": "string", "minLength": 1, "maxLength": LONGEST_WORD}
Labels = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _WORD, "minItems": 1, "maxItems": MOST_LABELS},
                {
                    "type": "object",
                    "additionalProperties": _WORD,
                    "minProperties": 1,
                    "maxProperties": MOST_LABELS,
                },
                {"type": "null"},
            ]
        }
    ),
    Field(description="words such as 体育, or {label: word}; none: the topics the model itself knows"),
]


class ClassifyRequest(Body):
    """Texts whose topics are wanted."""

    model_config = example(input="主队在加时赛里险胜", labels=["体育", "财经", "新闻"])
    input: Texts
    labels: Labels = None
    prompt: str | None = Field(
        None, description="what is put before the text, with {} for the label's word; none: the model's own"
    )
    multi_label: bool = Field(False, description="score each label for itself, so that several may fit")
    top_k: int | None = Field(None, ge=1, description="best labels to return; none: all")
    truncate: Truncate
    model: Model


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class Classification(BaseModel):
    """The topic of one text, and what else it might be."""

    object: Literal["classification"]
    index: int
    label: str
    scores: list[LabelScore]


class Classifications(BaseModel):
    """Topics of texts, in their order."""

    object: Literal["list"]
    data: list[Classification]
    model: str
    usage: Usage
    truncated: list[Cut]


@router.post("/v1/classify", response_model=Classifications, summary="Topics of texts")
async def classify(request: Request, body: ClassifyRequest) -> Response:
    """The most likely label of each text, and the labels by their probability, highest first."""
    texts = read_texts(body.input, "input", limit(request))
    truncate = mode_of(body.truncate)
    if body.labels is None:
        _check_plain(request, body)
        model = choose(request, "classify", body.model)
        classifier, labels = model.classifier, model.topics
        assert classifier is not None  # noqa: S101 - `choose` saw to it

        def prepare() -> Work:
            return classifier.prepare(texts, truncate=truncate)
    else:
        words = read_labels(body.labels, body.multi_label)
        model = choose(request, "zero_shot", body.model)
        open_labels, labels = model.open_labels, list(words)
        assert open_labels is not None  # noqa: S101 - `choose` saw to it

        def prepare() -> Work:
            work = open_labels.prepare(
                texts,
                list(words.values()),
                prompt=body.prompt,
                multi_label=body.multi_label,
                truncate=truncate,
            )
            numbers = sum(map(_numbers, work.passes))
            if numbers > MOST_NUMBERS:
                raise TooLarge(
                    f"labels: found {len(labels)} labels and {len(texts)} texts, for which {numbers} scores of "
                    f"characters are computed; expected at most {MOST_NUMBERS}. Send fewer texts at once, or shorter "
                    "labels.",
                    "labels",
                )
            return work

    shown = len(texts) * min(body.top_k or len(labels), len(labels))
    if shown > MOST_SCORES:
        raise TooLarge(
            f"input: found {len(texts)} texts whose answer has {shown} scores; expected at most {MOST_SCORES}. Ask for "
            "the best with top_k, or send the texts in several requests.",
            "input",
        )
    # Words are made tokens one by one, which takes as long as a text of some sixty characters.
    extra = 0 if body.labels is None else 60 * len(labels)
    characters = sum(map(len, texts))
    done = await compute(request, lambda: ranked(prepare(), body.top_k), characters, len(texts), extra=extra)
    data = _classifications(done.results, labels)
    rest = {"model": model.name, "usage": done.usage, "truncated": done.truncated}
    if shown <= MANY_OBJECTS:
        return answer({"object": "list", "data": list(data), **rest}, done.headers)
    return written(list_object(item_blocks(data), rest), done.headers)


def read_labels(value: object, multi_label: bool) -> dict[str, str]:
    """Return {label: word} of the labels of a request.

    Raises:
        InputError: none, too many, one twice, or a word that is no text or too long.
    """
    words: Any = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(words, list) or not 1 <= len(words) <= MOST_LABELS:
        count = f" of {len(words)}" if isinstance(words, list) else ""
        raise InputError(
            found=f"{shorten(value)}{count}",
            expected=f"1 to {MOST_LABELS} label words, or an object of them by label",
            fix='Write ["体育", "财经"] or {"sport": "体育"}.',
            where="labels",
        )
    for word in words:
        if isinstance(word, str) and len(word) > LONGEST_WORD:
            raise InputError(
                found=f"a label word of {len(word)} characters, {shorten(word)}",
                expected=f"at most {LONGEST_WORD} characters",
                fix='Choose a shorter word for the label: {"label": "word"}.',
                where="labels",
            )
    if len(words) == 1:
        if not multi_label:
            raise InputError(
                found="one label",
                expected="two at least, of which one is chosen",
                fix="Add another, or send multi_label: true for the probability of this one alone.",
                where="labels",
            )
        if not isinstance(words[0], str) or not words[0].strip():
            raise InputError(
                found=shorten(words[0]), expected="a word", fix="Correct the label.", where="labels"
            )
        word = words[0].strip()
        return {next(iter(value)) if isinstance(value, Mapping) else word: word}
    return label_words(value)  # type: ignore[arg-type]


def _classifications(found: Ranked, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    for index, scores in enumerate(found.rows(labels)):
        yield {
            "object": "classification",
            "index": index,
            "label": scores[0]["label"],
            "scores": scores,
        }


def _numbers(rows: Pass) -> int:
    """Return how many scores come back for rows: of each word, at each mask of each row."""
    masks = sum(map(len, rows.encoded.masks or ()))
    return masks * (0 if rows.words is None else len(rows.words))


def _check_plain(request: Request, body: ClassifyRequest) -> None:
    """Raise Invalid for what has a meaning only with labels, or for no labels where they are needed."""
    for key, given in (("prompt", body.prompt is not None), ("multi_label", body.multi_label)):
        if given:
            raise Invalid(f"{key}: found it without labels; expected labels with it. Add labels: [...].", key)
    served = request.app.state.models
    if not any("classify" in model.operations for model in served):
        choose(request, "zero_shot", body.model)
        raise Invalid(
            'labels: found nothing; expected label words such as ["体育", "财经"], for no model served here knows '
            "topics of its own",
            "labels",
        )
