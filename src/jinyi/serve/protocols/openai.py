"""The routes of OpenAI: embeddings as numbers or base64, and the list of models."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Path, Request, Response
from pydantic import BaseModel, Field

from jinyi.serve.models import ServedModel
from jinyi.serve.protocols.blocks import BLOCK, MANY, list_blocks, list_object, written
from jinyi.serve.protocols.calls import answer, choose
from jinyi.serve.protocols.errors import NestedError
from jinyi.serve.protocols.fields import (
    Model,
    TextsOrIds,
    Truncate,
)
from jinyi.serve.protocols.route import Body, example, new_router
from jinyi.serve.protocols.vectors import compute_vectors

router = new_router(NestedError, "OpenAI")


class EmbeddingsRequest(Body):
    """Texts whose vectors are wanted."""

    model_config = example(input=["怎么改密码？", "如何修改登录密码"], model="default")
    input: TextsOrIds
    model: Model
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of the little-endian float32 numbers, a third of the size"
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        description="keep the first numbers of each vector, which is then made of unit length again",
    )
    user: str | None = Field(None, description="not used")
    truncate: Truncate
    prompt_name: str | None = Field(None, description="name of a prompt of the model, put before each text")


class Embedding(BaseModel):
    """A vector and the place of its text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens computed, control tokens included."""

    prompt_tokens: int
    total_tokens: int


class Cut(BaseModel):
    """An input that was too long, and how many of its tokens were not read."""

    index: int
    tokens_lost: int


class Embeddings(BaseModel):
    """Vectors of texts, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    truncated: list[Cut]


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelCards(BaseModel):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


@router.post("/v1/embeddings", response_model=Embeddings, summary="Vectors of texts")
@router.post("/embeddings", response_model=Embeddings, summary="Vectors of texts", include_in_schema=False)
async def embeddings(request: Request, body: EmbeddingsRequest) -> Response:
    """One vector of unit length for each text, in their order."""
    model = choose(request, "embed", body.model)
    done = await compute_vectors(request, model, body, "input")
    vectors: Any = done.results
    if body.encoding_format == "base64":
        vectors = [base64.b64encode(row).decode("ascii") for row in np.ascontiguousarray(vectors, "<f4")]
    data = [
        {"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)
    ]
    rest = {"model": model.name, "usage": done.usage, "truncated": done.truncated}
    if done.results.size <= MANY:
        return answer({"object": "list", "data": data, **rest}, done.headers)
    each = max(1, BLOCK // done.results.shape[1])
    return written(list_object(list_blocks(data, each), rest), done.headers)


@router.get("/v1/models", response_model=ModelCards, summary="The models served")
async def list_models(request: Request) -> Response:
    """All models, in the order in which they answer requests that name none."""
    return answer({"object": "list", "data": [_card(model) for model in request.app.state.models]})


@router.get("/v1/models/{name:path}", response_model=ModelCard, summary="One model served")
async def show_model(
    request: Request, name: Annotated[str, Path(description="as /v1/models has it")]
) -> Response:
    """The model of this name."""
    return answer(_card(request.app.state.models.choose("tokenize", name)))


def _card(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "jinyi"}
