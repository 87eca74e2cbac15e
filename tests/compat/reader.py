"""Opens model folders with whatever transformers and sentence-transformers are importable, and reports.

Run by run.py, once for each release: python reader.py FOLDERS OUTPUT.json
Sockets are blocked, and everything that the libraries log or warn about while they load is part of the report.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a socket was opened")


socket.socket.connect = _no_network  # type: ignore[method-assign, assignment]
socket.getaddrinfo = _no_network  # type: ignore[assignment]

import numpy as np  # noqa: E402
import sentence_transformers  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from sentence_transformers import CrossEncoder, SentenceTransformer  # noqa: E402
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline  # noqa: E402

torch.set_num_threads(2)
transformers.utils.logging.disable_progress_bar()


class Listener(logging.Handler):
    """Keeps the text of every warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.name}: {record.getMessage()}")


def watched(load: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Call `load` and return its result with all warnings of it."""
    listener = Listener()
    loggers = [
        logging.getLogger(name) for name in ("", "transformers", "sentence_transformers", "huggingface_hub")
    ]
    for logger in loggers:
        logger.addHandler(listener)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = load()
    for logger in loggers:
        logger.removeHandler(listener)
    return result, [*dict.fromkeys(listener.texts), *(str(entry.message) for entry in caught)]


def pooled(path: Path, texts: list[str], pooling: str, max_length: int) -> list[list[float]]:
    """Vectors by the formula, from the last hidden states of AutoModel, without sentence-transformers."""
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    model = AutoModel.from_pretrained(str(path)).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state.double().numpy()
    mask = batch["attention_mask"].numpy()[..., None]
    by_pooling = {
        "cls": states[:, 0],
        "mean": (states * mask).sum(1) / mask.sum(1),
        "max": np.where(mask > 0, states, -np.inf).max(1),
    }
    return by_pooling[pooling].tolist()


def report(root: Path) -> dict[str, Any]:
    """Open every folder by its task and return outputs and warnings."""
    inputs = json.loads((root / "inputs.json").read_text(encoding="utf-8"))
    texts, pairs = inputs["texts"], [tuple(pair) for pair in inputs["pairs"]]
    versions = {
        module.__name__: module.__version__
        for module in (sentence_transformers, transformers, tokenizers, torch)
    }
    result: dict[str, Any] = {"versions": versions, "folders": {}}
    for path in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        record = json.loads((path / "jinyi.json").read_text(encoding="utf-8"))
        tokenizer, told = watched(lambda path=path: AutoTokenizer.from_pretrained(str(path)))
        out: dict[str, Any] = {
            "ids": tokenizer(texts, truncation=True, max_length=record["max_length"])["input_ids"],
            "pair_segments": tokenizer(*pairs[0])["token_type_ids"],
        }
        if record["task"] == "embed":
            model, more = watched(lambda path=path: SentenceTransformer(str(path), device="cpu"))
            out["vectors"] = model.encode(texts).astype(np.float64).tolist()
            out["hidden"] = pooled(path, texts, record["pooling"], record["max_length"])
        elif record["task"] == "pair":
            model, more = watched(lambda path=path: CrossEncoder(str(path), device="cpu"))
            scores = np.asarray(model.predict(pairs), np.float64)
            if scores.ndim == 2:  # two labels: sentence-transformers gives logits
                scores = 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))
            out["scores"] = scores.tolist()
            if model.config.num_labels == 1:  # rank() refuses two
                out["rank"] = model.rank(texts[0], texts[1:], return_documents=True)
            classify = pipeline("text-classification", model=str(path), top_k=None)
            cut = {"truncation": True, "max_length": record["max_length"]}
            rows = [classify({"text": a, "text_pair": b}, **cut) for a, b in pairs]
            out["pipeline"] = [next(x["score"] for x in row if x["label"] == "similar") for row in rows]
        else:
            model, more = watched(lambda path=path: AutoModelForMaskedLM.from_pretrained(str(path)))
            batch = tokenizer(
                texts, padding=True, truncation=True, max_length=record["max_length"], return_tensors="pt"
            )
            with torch.no_grad():
                logits = model.eval()(**batch).logits.double()
            out["log_probs"] = torch.log_softmax(logits[:, 1], -1).tolist()
            if record["pooling"]:
                # The encoder alone: the libraries say that the head is not used, which is no fault.
                out["vectors"] = (
                    SentenceTransformer(str(path), device="cpu").encode(texts).astype(float).tolist()
                )
                out["hidden"] = pooled(path, texts, record["pooling"], record["max_length"])
        out["warnings"] = [*told, *more]
        result["folders"][path.name] = out
    return result


if __name__ == "__main__":
    # Scores of rank() are numpy's
    text = json.dumps(report(Path(sys.argv[1])), default=float)
    Path(sys.argv[2]).write_text(text, encoding="utf-8")
