"""The routes of text-embeddings-inference: vectors, tokens' vectors, labels, similarity, tokens."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from jinyi.errors import InputError, shorten
from jinyi.models.work import Work
from jinyi.serve.problems import Invalid, TooLarge
from jinyi.serve.protocols.blocks import MANY_OBJECTS, item_blocks, nested_blocks, written
from jinyi.serve.protocols.calls import answer, answer_rows, choose, compute, in_time, off_loop
from jinyi.serve.protocols.errors import PlainError
from jinyi.serve.protocols.fields import (
    IdRows,
    Model,
    Sequences,
    TextList,
    Texts,
    TextsOrIds,
    Truncate,
    limit,
    mode_of,
    one_text,
    read_ids,
    read_sequences,
    read_text_list,
    read_texts,
    read_texts_or_ids,
)
from jinyi.serve.protocols.ranked import ranked
from jinyi.serve.protocols.route import Body, example, new_router
from jinyi.serve.protocols.tokens import Tokens, decode, tokenize
from jinyi.serve.protocols.vectors import compute_vectors

router = new_router(PlainError, "text-embeddings-inference")

MOST_NUMBERS = 2**24
"""Numbers in an answer of /embed_all: 64 MB, and three times that as JSON."""

MOST_CHARACTERS = 200_000
"""Characters whose tokens /tokenize lists: some 20 MB as JSON."""

Direction = Literal["right", "Right"]
"""Texts are cut at their end; "left" is refused."""


class EmbedRequest(Body):
    """Texts whose vectors are wanted."""

    model_config = example(inputs=["怎么改密码？", "如何修改登录密码"])
    inputs: TextsOrIds
    truncate: Truncate
    truncation_direction: Direction = "right"
    prompt_name: str | None = Field(None, description="name of a prompt of the model, put before each text")
    normalize: bool = Field(True, description="divide each vector by its length")
    dimensions: int | None = Field(None, ge=1, description="keep the first numbers of each vector only")
    encoding_format: Literal["float"] | None = None
    model: Model


class EmbedAllRequest(Body):
    """Texts whose tokens' vectors are wanted."""

    model_config = example(inputs="怎么改密码？")
    inputs: TextsOrIds
    truncate: Truncate
    truncation_direction: Direction = "right"
    prompt_name: str | None = None
    model: Model


class PredictRequest(Body):
    """Texts or pairs whose labels are wanted."""

    model_config = example(inputs=[["怎么改密码？", "如何修改登录密码"]])
    inputs: Sequences
    truncate: Truncate
    truncation_direction: Direction = "right"
    raw_scores: bool = Field(False, description="the model's outputs in place of probabilities")
    model: Model


class SimilarityInputs(Body):
    """One sentence and others to compare it with."""

    source_sentence: str
    sentences: TextList


class SimilarityParameters(Body):
    """How sentences are read."""

    truncate: Truncate
    truncation_direction: Direction = "right"
    prompt_name: str | None = None


class SimilarityRequest(Body):
    """Sentences whose cosine with one is wanted."""

    model_config = example(
        inputs={"source_sentence": "怎么改密码？", "sentences": ["如何修改登录密码", "天气很好"]}
    )
    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: Model


class TokenizeRequest(Body):
    """Texts whose tokens are wanted."""

    model_config = example(inputs="怎么改密码？")
    inputs: Texts
    add_special_tokens: bool = Field(True, description="with [CLS] and [SEP]")
    prompt_name: str | None = None
    model: Model


class DecodeRequest(Body):
    """Token ids whose text is wanted."""

    model_config = example(ids=[[7, 8, 9]])
    ids: IdRows
    skip_special_tokens: bool = True
    model: Model


class Prediction(BaseModel):
    """A label and how sure it is."""

    score: float
    label: str


class Token(BaseModel):
    """A token, and which characters of the text it stands for (from `start`, up to before `stop`)."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@router.post("/embed", response_model=list[list[float]], summary="Vectors of texts")
async def embed(request: Request, body: EmbedRequest) -> Response:
    """One vector for each text, in their order; of unit length unless `normalize` is false."""
    model = choose(request, "embed", body.model)
    done = await compute_vectors(request, model, body, "inputs", normalize=body.normalize)
    return answer_rows(done.results, done.headers)


@router.post("/embed_all", response_model=list[list[list[float]]], summary="Vectors of tokens")
async def embed_all(request: Request, body: EmbedAllRequest) -> Response:
    """The last hidden state of each token of each text, [CLS] and [SEP] included, as /tokenize lists them."""
    model = choose(request, "embed_all", body.model)
    inputs = read_texts_or_ids(body.inputs, "inputs", limit(request), model.source.tokenizer.vocab_size)
    truncate = mode_of(body.truncate)

    states = model.states
    assert states is not None  # noqa: S101 - `choose` saw to it
    if states.encoder is None and body.prompt_name is not None:
        raise Invalid("prompt_name: found it for a model whose prompts are for topics; leave it out")

    def prepare() -> Work:
        work = states.prepare(inputs, truncate=truncate, prompt_name=body.prompt_name)
        most = MOST_NUMBERS // model.source.folder.config.hidden_size
        if work.tokens > most:
            raise TooLarge(
                f"inputs: found {work.tokens} tokens; expected at most {most} for vectors of tokens. Send the texts in "
                "several requests.",
                "inputs",
            )
        return work

    await in_time(request, states.open())
    done = await compute(request, prepare, sum(map(len, inputs)), len(inputs))
    return answer_rows(done.results, done.headers)


@router.post(
    "/predict", response_model=list[Prediction] | list[list[Prediction]], summary="Labels of texts or pairs"
)
async def predict(request: Request, body: PredictRequest) -> Response:
    """All labels of a text or a pair by their probability, highest first; for a batch a list of such lists."""
    model = choose(request, "predict", body.model)
    rows, single = read_sequences(body.inputs, "inputs", limit(request))
    truncate = mode_of(body.truncate)

    def prepare() -> Work:
        if model.outputs is not None:
            return model.outputs.prepare(rows, raw_scores=body.raw_scores, truncate=truncate)
        assert model.classifier is not None  # noqa: S101 - `choose` saw to it
        if body.raw_scores:
            raise Invalid(
                "raw_scores: found true; expected false: this model's topics have probabilities alone"
            )
        texts = [_no_pair(row, place) for place, row in enumerate(rows)]
        return model.classifier.prepare(texts, truncate=truncate)

    characters = sum(len(row) if isinstance(row, str) else len(row[0]) + len(row[1]) for row in rows)
    done = await compute(request, lambda: ranked(prepare()), characters, len(rows))
    found = done.results.rows(model.labels)
    if single:
        return answer(next(found), done.headers)
    if done.results.scores.size <= MANY_OBJECTS:
        return answer(list(found), done.headers)
    return written(item_blocks(found), done.headers)


@router.post("/similarity", response_model=list[float], summary="Cosine of one sentence with others")
async def similarity(request: Request, body: SimilarityRequest) -> Response:
    """The cosine of the source sentence with each other one, in their order."""
    model = choose(request, "embed", body.model)
    encoder = model.encoder
    assert encoder is not None  # noqa: S101 - `choose` saw to it
    source = one_text(body.inputs.source_sentence, "inputs.source_sentence")
    sentences = read_text_list(body.inputs.sentences, "inputs.sentences", limit(request) - 1)
    parameters = body.parameters or SimilarityParameters(truncate=None)

    def prepare() -> Work:
        return encoder.prepare(
            [source, *sentences], truncate=mode_of(parameters.truncate), prompt_name=parameters.prompt_name
        )

    characters = len(source) + sum(map(len, sentences))
    done = await compute(request, prepare, characters, len(sentences) + 1)
    return answer(done.results[1:] @ done.results[0], done.headers)


@router.post("/tokenize", response_model=list[list[Token]], summary="Tokens of texts")
async def tokenize_texts(request: Request, body: TokenizeRequest) -> Response:
    """The tokens of each text, in their order, uncut."""
    model = choose(request, "tokenize", body.model)
    texts = read_texts(body.inputs, "inputs", limit(request))
    characters = sum(map(len, texts))
    if characters > MOST_CHARACTERS:
        raise TooLarge(
            f"inputs: found {characters} characters; expected at most {MOST_CHARACTERS} to list the tokens of. Send "
            "them in several requests.",
            "inputs",
        )
    prefix = ""
    if body.prompt_name is not None:
        prefix = _prompt(model.source.folder.prompts, body.prompt_name)

    def work() -> list[Tokens]:
        return [tokenize(model.source.tokenizer, prefix + text, body.add_special_tokens) for text in texts]

    rows = await off_loop(work, characters)
    if sum(map(len, rows)) <= MANY_OBJECTS:
        return answer([row[:] for row in rows])
    return written(nested_blocks(rows), {})


@router.post("/decode", response_model=list[str], summary="Text of token ids")
async def decode_ids(request: Request, body: DecodeRequest) -> Response:
    """The text of each row of ids; characters that the vocabulary does not know are lost."""
    model = choose(request, "tokenize", body.model)
    tokenizer = model.source.tokenizer
    rows = read_ids(body.ids, "ids", limit(request), tokenizer.vocab_size)

    def work() -> Any:
        return [decode(tokenizer, row, body.skip_special_tokens) for row in rows]

    return answer(await off_loop(work, sum(map(len, rows))))


def _no_pair(row: str | tuple[str, str], place: int) -> str:
    if not isinstance(row, str):
        raise InputError(
            found="a pair of texts",
            expected="single texts: the model classifies topics",
            fix="Send [[text], [text]] for two texts.",
            where=f"inputs[{place}]",
        )
    return row


def _prompt(prompts: Any, name: str) -> str:
    if name not in prompts:
        raise InputError(
            found=shorten(name),
            expected=f"one of {', '.join(prompts) or '(this model has no prompts)'}",
            fix="Choose one of them, or write the prompt before the text.",
            where="prompt_name",
        )
    return str(prompts[name])
