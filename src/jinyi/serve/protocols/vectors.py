"""Vectors of texts for a request, whatever its protocol calls them."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request

from jinyi.models.work import Work
from jinyi.serve.models import ServedModel
from jinyi.serve.protocols.calls import Done, compute
from jinyi.serve.protocols.fields import check_dimensions, limit, mode_of, read_texts_or_ids


class VectorsBody(Protocol):
    """What a body says of the vectors it wants."""

    truncate: bool | None
    prompt_name: str | None
    dimensions: int | None


async def compute_vectors(
    request: Request, model: ServedModel, body: VectorsBody, name: str, *, normalize: bool = True
) -> Done:
    """Compute one vector for each text of a body.

    Args:
        request: which one.
        model: an encoder.
        body: its options.
        name: of the field that holds the texts or token ids.
        normalize: give vectors unit length.

    Raises:
        Problem: the input cannot be used, or as `compute`.
    """
    encoder = model.encoder
    assert encoder is not None  # noqa: S101 - `choose` saw to it
    inputs = read_texts_or_ids(getattr(body, name), name, limit(request), model.source.tokenizer.vocab_size)
    check_dimensions(body.dimensions, encoder.dimension)

    def prepare() -> Work:
        return encoder.prepare(
            inputs,
            normalize=normalize,
            truncate=mode_of(body.truncate),
            prompt_name=body.prompt_name,
            truncate_dim=body.dimensions,
        )

    return await compute(request, prepare, sum(map(len, inputs)), len(inputs))
