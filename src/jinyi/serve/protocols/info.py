"""What is served, and within which limits: /info, as TEI's clients read it and for all models."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from jinyi import __version__
from jinyi.serve.models import ServedModel
from jinyi.serve.protocols.calls import TOKENISING_THREADS, answer
from jinyi.serve.protocols.errors import PlainError
from jinyi.serve.protocols.route import new_router

router = new_router(PlainError, "text-embeddings-inference")


class Threshold(BaseModel):
    """From which P(similar) on pairs count as similar, and what that did on the rows of `jinyi calibrate`."""

    value: float
    precision: float
    recall: float


class ModelInfo(BaseModel):
    """One model."""

    name: str
    task: str
    operations: list[str]
    max_input_length: int
    precision: str
    dimension: int | None
    pooling: str | None
    labels: list[str]
    prompts: dict[str, str]
    prompt: str | None
    threshold: Threshold | None


class Info(BaseModel):
    """The server: TEI's fields about the first model, then all models."""

    model_id: str
    served_model_name: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    limits: dict[str, float]
    models: list[ModelInfo]


_NAMED = {
    "parameters": [{"in": "query", "name": "model", "required": False, "schema": {"type": "string"}}],
}


@router.get("/info", response_model=Info, summary="Models and limits", openapi_extra=_NAMED)
async def info(request: Request) -> Response:
    """The models, what each of them can be asked, and the limits of a request; `?model=` puts another one first."""
    models, settings = request.app.state.models, request.app.state.settings
    name = request.query_params.get("model")
    first: ServedModel = models.choose("tokenize", name)
    content = {
        "model_id": first.name,
        "served_model_name": first.name,
        "model_sha": None,
        "model_dtype": first.precision,
        "model_type": _model_type(first),
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_input_length": first.max_length,
        "max_batch_tokens": settings.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_client_batch_size,
        "auto_truncate": True,
        "tokenization_workers": TOKENISING_THREADS,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "limits": settings.limits(),
        "models": [_about(model) for model in models],
    }
    return answer(content)


def _model_type(model: ServedModel) -> dict[str, Any]:
    """Return TEI's account of what a model is."""
    if model.encoder is not None:
        return {"embedding": {"pooling": model.source.folder.pooling}}
    labels = model.labels
    names = {
        "id2label": {str(place): label for place, label in enumerate(labels)},
        "label2id": {label: place for place, label in enumerate(labels)},
    }
    return {"reranker" if model.scorer is not None else "classifier": names}


def _about(model: ServedModel) -> dict[str, Any]:
    folder = model.source.folder
    return {
        "name": model.name,
        "task": folder.task,
        "operations": model.operations,
        "max_input_length": model.max_length,
        "precision": model.precision,
        "dimension": None if model.encoder is None else model.encoder.dimension,
        "pooling": folder.pooling if model.encoder is not None else None,
        "labels": model.labels,
        "prompts": dict(folder.prompts),
        "prompt": None if model.open_labels is None else model.open_labels.prompt,
        "threshold": model.threshold,
    }
