"""A reference runtime in a process of its own, driven over pipes by systems.py; nothing in jinyi imports this file.

    python peer.py probe                          which of KINDS can run here, with versions, as JSON
    python peer.py serve KIND FOLDER THREADS      open the model, then answer requests line by line

Requests: {"what": "vectors" | "many" | "one", "texts": [...]}; answers: vectors, seconds, seconds of each text.
It imports nothing of jinyi, so it runs in any environment that holds the runtime.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from typing import Any

KINDS = {
    "sentence-transformers, torch": ("torch", ("sentence-transformers", "torch")),
    "sentence-transformers, onnx": (
        "onnx",
        ("sentence-transformers", "optimum-onnx", "onnxruntime"),
    ),
    "sentence-transformers, openvino": (
        "openvino",
        ("sentence-transformers", "optimum-intel", "openvino"),
    ),
}
"""Kinds by name: backend of sentence-transformers, and the distributions it needs; first and last are named."""


def probe() -> dict[str, str]:
    """Return the kinds that can run here with the versions of what does the work."""
    found = {}
    for kind, (_, needs) in KINDS.items():
        try:
            versions = {name: metadata.version(name) for name in needs}
        except metadata.PackageNotFoundError:
            continue
        found[kind] = f"{needs[0]} {versions[needs[0]]}, {needs[-1]} {versions[needs[-1]]}"
    return found


def open_model(kind: str, folder: str, threads: int) -> Any:
    """Open a model folder with sentence-transformers, on the processor."""
    from sentence_transformers import SentenceTransformer

    if threads:
        import torch

        torch.set_num_threads(threads)
    backend: Any = KINDS[kind][0]
    options: dict[str, Any] = {"model_kwargs": {"device": "CPU"}} if backend == "openvino" else {}
    return SentenceTransformer(folder, device="cpu", backend=backend, local_files_only=True, **options)


def serve(kind: str, folder: str, threads: int) -> None:
    """Answer requests until the pipe closes."""
    # Libraries print to standard output; the answers have it for themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    model = open_model(kind, folder, threads)

    def seconds(texts: Any) -> float:
        begin = time.perf_counter()
        model.encode(texts, show_progress_bar=False)
        return time.perf_counter() - begin

    answer: Any = {}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        texts = request["texts"]
        if request["what"] == "vectors":
            answer = model.encode(texts, show_progress_bar=False).tolist()
        elif request["what"] == "many":
            answer = seconds(texts)
        else:
            answer = [seconds(text) for text in texts]


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        print(json.dumps(probe()))
    else:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
