"""sentence-transformers behind FastAPI, as its documentation leads one to write it: the plain peer of server.py.

    python server_peer.py FOLDER PORT

POST /v1/embeddings takes and gives what OpenAI's clients do. FastAPI runs a plain `def` in its pool of threads, and
`encode` computes the texts of one request.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
app = FastAPI()


class Request(BaseModel):
    """The body of a request."""

    input: list[str]
    model: str


@app.post("/v1/embeddings")
def embeddings(request: Request) -> dict[str, Any]:
    """Vectors of texts."""
    vectors = model.encode(request.input).tolist()
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": request.model}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
