"""Documents by how similar they are to a query, in the forms of Cohere and Jina, and of TEI."""

from __future__ import annotations

import uuid
from typing import Any, Literal

import numpy as np
from fastapi import Request, Response
from pydantic import BaseModel, Field

from jinyi.models.common import FloatArray
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.work import Work
from jinyi.serve.models import ServedModel
from jinyi.serve.problems import Invalid
from jinyi.serve.protocols.calls import Done, answer, choose, compute
from jinyi.serve.protocols.errors import NestedError, PlainError, errors
from jinyi.serve.protocols.fields import (
    Documents,
    Model,
    TextList,
    Truncate,
    limit,
    mode_of,
    one_text,
    read_documents,
    read_text_list,
)
from jinyi.serve.protocols.openai import Cut, Usage
from jinyi.serve.protocols.route import Body, example, new_router

router = new_router(NestedError)


class TextsRequest(Body):
    """A query and texts, as TEI has them."""

    model_config = example(query="怎么改密码", texts=["如何修改登录密码", "今天天气很好"])
    query: str
    texts: TextList
    truncate: Truncate
    truncation_direction: Literal["right", "Right"] = "right"
    raw_scores: bool = Field(False, description="the model's logits in place of P(similar)")
    return_text: bool = False
    model: Model


class DocumentsRequest(Body):
    """A query and documents, as Cohere and Jina have them."""

    model_config = example(query="怎么改密码", documents=["如何修改登录密码", "今天天气很好"], top_n=1)
    query: str
    documents: Documents
    top_n: int | None = Field(None, ge=1, description="best documents to return; none: all")
    return_documents: bool = False
    raw_scores: bool = Field(False, description="the model's logits in place of P(similar)")
    max_tokens_per_doc: int | None = Field(
        None, ge=1, description="no less than the model reads: documents are not cut shorter than that"
    )
    priority: int | None = Field(None, description="not used")
    truncate: Truncate
    model: Model


class Rank(BaseModel):
    """A text's place among those given, and its score."""

    index: int
    score: float
    text: str | None = None


class Document(BaseModel):
    """What was compared."""

    text: str


class Result(BaseModel):
    """A document's place among those given, and its score."""

    index: int
    relevance_score: float
    document: Document | None = None


class Results(BaseModel):
    """Documents, most similar first."""

    id: str
    model: str
    results: list[Result]
    meta: dict[str, Any]
    usage: Usage
    truncated: list[Cut]


@router.post(
    "/rerank",
    response_model=list[Rank] | Results,
    responses=errors(PlainError),
    tags=["text-embeddings-inference"],
    summary="Texts by similarity to a query",
)
async def rerank(request: Request, body: TextsRequest | DocumentsRequest) -> Response:
    """All texts, most similar first; answered in the form of the request: `texts` as TEI, `documents` as Cohere."""
    if isinstance(body, DocumentsRequest):
        return await rerank_documents(request, body)
    model, scorer = _scorer(request, body.model)
    query, texts = one_text(body.query, "query"), read_text_list(body.texts, "texts", limit(request))
    done, order, scores = await _ranked(request, scorer, query, texts, body.truncate, body.raw_scores)
    ranks = [{"index": place, "score": scores[place]} for place in order]
    if body.return_text:
        ranks = [rank | {"text": texts[place]} for rank, place in zip(ranks, order, strict=True)]
    return answer(ranks, done.headers)


@router.post(
    "/v1/rerank",
    response_model=Results,
    tags=["Cohere"],
    summary="Documents by similarity to a query",
)
@router.post(
    "/v2/rerank",
    response_model=Results,
    tags=["Cohere"],
    summary="Documents by similarity to a query",
)
async def rerank_documents(request: Request, body: DocumentsRequest) -> Response:
    """The best documents, most similar first; scores are P(similar), from 0 to 1."""
    model, scorer = _scorer(request, body.model)
    query, texts = (
        one_text(body.query, "query"),
        read_documents(body.documents, "documents", limit(request)),
    )
    least = scorer.max_length
    if body.max_tokens_per_doc is not None and body.max_tokens_per_doc < least:
        raise Invalid(
            f"max_tokens_per_doc: found {body.max_tokens_per_doc}; expected {least} or more, which this model reads of "
            "a query and a document. Leave it out, or shorten the documents.",
            "max_tokens_per_doc",
        )
    done, order, scores = await _ranked(request, scorer, query, texts, body.truncate, body.raw_scores)
    results: list[dict[str, Any]] = [
        {"index": place, "relevance_score": scores[place]} for place in order[: body.top_n]
    ]
    if body.return_documents:
        results = [result | {"document": {"text": texts[result["index"]]}} for result in results]
    version = "2" if request.url.path.startswith("/v2/") else "1"
    content = {
        "id": getattr(request.state, "request_id", None) or str(uuid.uuid4()),
        "model": model.name,
        "results": results,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": done.tokens},
        },
        "usage": done.usage,
        "truncated": done.truncated,
    }
    return answer(content, done.headers)


def _scorer(request: Request, name: str | None) -> tuple[ServedModel, PairScorer]:
    model = choose(request, "rerank", name)
    assert model.scorer is not None  # noqa: S101 - `choose` saw to it
    return model, model.scorer


async def _ranked(
    request: Request, scorer: PairScorer, query: str, texts: list[str], truncate: bool | None, raw: bool
) -> tuple[Done, list[int], FloatArray]:
    """Return what was done, the places of the texts, most similar first, and their scores in the order given."""

    def prepare() -> Work:
        return scorer.prepare([(query, text) for text in texts], raw_scores=True, truncate=mode_of(truncate))

    characters = len(query) * len(texts) + sum(map(len, texts))
    done = await compute(request, prepare, characters, len(texts))
    logits: FloatArray = done.results
    # By logits: P is 1 for many documents before logits meet.
    order = np.argsort(-logits, kind="stable").tolist()
    return done, order, logits if raw else scorer.probabilities(logits)
