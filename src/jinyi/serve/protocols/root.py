"""POST / and /invocations: one address for everything, as TEI and SageMaker have it; the body says what is asked."""

from __future__ import annotations

from fastapi import Request, Response

from jinyi.serve.models import DEFAULT
from jinyi.serve.protocols import rerank, tei
from jinyi.serve.protocols.errors import PlainError
from jinyi.serve.protocols.rerank import DocumentsRequest, TextsRequest
from jinyi.serve.protocols.route import checked, new_router, read_json
from jinyi.serve.protocols.tei import EmbedRequest, PredictRequest, SimilarityRequest

router = new_router(PlainError, "text-embeddings-inference")

_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": f"#/components/schemas/{kind.__name__}"}
                        for kind in (
                            EmbedRequest,
                            SimilarityRequest,
                            PredictRequest,
                            TextsRequest,
                            DocumentsRequest,
                        )
                    ]
                }
            }
        },
    }
}


@router.post("/", openapi_extra=_BODIES, summary="Whatever the body asks for")
@router.post("/invocations", openapi_extra=_BODIES, summary="Whatever the body asks for")
async def invoke(request: Request) -> Response:
    """Answer as /rerank where the body has a query, as /similarity where it has a source sentence.

    Else as /embed, or as /predict where no model gives vectors.
    """
    value = read_json(await request.body(), EmbedRequest)
    if "query" in value:
        if "documents" in value:
            return await rerank.rerank(request, checked(value, DocumentsRequest))
        return await rerank.rerank(request, checked(value, TextsRequest))
    if isinstance(value.get("inputs"), dict):
        return await tei.similarity(request, checked(value, SimilarityRequest))
    name, models = value.get("model"), request.app.state.models
    named = isinstance(name, str) and name not in ("", DEFAULT)
    candidates = [models.choose("tokenize", name)] if named else models
    if any("embed" in candidate.operations for candidate in candidates):
        return await tei.embed(request, checked(value, EmbedRequest))
    return await tei.predict(request, checked(value, PredictRequest))
