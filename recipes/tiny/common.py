"""What the fine-tuning scripts share: checkpoints, padded batches, the clock schedule, vectors, the record of a run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jinyi.config import EncoderConfig
from jinyi.runtime.torch_encoder import MlmHead, TorchEncoder
from jinyi.tokens import Tokenizer

PAD, UNK, CLS, SEP, MASK = range(5)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add --bf16 and --threads."""
    parser.add_argument(
        "--bf16", action="store_true", help="matrix products in bfloat16, where the processor has it"
    )
    parser.add_argument("--threads", type=int, default=2)


def products(args: argparse.Namespace) -> torch.autocast:
    """In which precision the matrix products of a forward pass (and with it the backward pass) are computed."""
    return torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)


def load(path: Path, dropout: float) -> tuple[TorchEncoder, MlmHead, EncoderConfig]:
    """Encoder and MLM head of a pretraining or fine-tuning checkpoint, with dropout set for fine-tuning."""
    state = torch.load(path, weights_only=True)
    raw = {**state["config"], "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    config = EncoderConfig.from_dict(raw)
    encoder, head = TorchEncoder(config), MlmHead(config)
    encoder.load_state_dict(state["encoder"])
    if "head" in state:
        head.load_state_dict(state["head"])
    return encoder, head, config


def ids_of(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Ids of texts without [CLS] and [SEP], cut to `longest` tokens."""
    return [ids[1:-1] for ids in tokenizer.encode(texts, max_length=longest + 2, truncate="report").ids]


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Ids [B, L] and lengths [B] (None when all rows are equally long)."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    ids = np.full((len(rows), longest), PAD, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return torch.from_numpy(ids), None if min(lengths) == longest else torch.tensor(lengths)


def bucketed(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of `size` rows of nearly equal length that cover all rows once, in random order."""
    order = np.lexsort((rng.random(len(lengths)), lengths // 4))
    plan = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(plan)
    return plan


class Clock:
    """Learning-rate factor that follows the wall clock: linear warm-up over `warmup` of the time, linear decay to 0."""

    def __init__(self, minutes: float, warmup: float = 0.06) -> None:
        self.began, self.minutes, self.warmup = time.time(), minutes, warmup

    @property
    def done(self) -> float:
        return (time.time() - self.began) / (60 * self.minutes)

    def set(self, optimizer: torch.optim.Optimizer, lr: float) -> None:
        factor = min(self.done / self.warmup + 0.01, 1.0) * max(1 - self.done, 0.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * factor * group.get("scale", 1.0)


def pool(states: Tensor, lengths: Tensor | None, pooling: str) -> Tensor:
    """Text vectors [B, hidden] of hidden states [B, L, hidden]: the first, or the mean of the real ones."""
    if pooling == "cls":
        return states[:, 0]
    if lengths is None:
        return states.mean(1)
    real = (torch.arange(states.shape[1]) < lengths[:, None]).to(states.dtype)
    return (states * real[:, :, None]).sum(1) / lengths[:, None]


def vectors(encoder: TorchEncoder, ids: Sequence[Sequence[int]], pooling: str, size: int = 64) -> np.ndarray:
    """L2-normalised vectors of tokenised texts, order kept; float32 [n, hidden]."""
    order = np.argsort([len(row) for row in ids], kind="stable")
    out = np.zeros((len(ids), encoder.config.hidden_size), np.float32)
    encoder.eval()
    with torch.no_grad():
        for i in range(0, len(order), size):
            take = order[i : i + size]
            padded, lengths = pad([ids[j] for j in take])
            states = pool(encoder(padded, lengths)[-1], lengths, pooling)
            out[take] = torch.nn.functional.normalize(states, dim=-1).numpy()
    encoder.train()
    return out


def record(args: argparse.Namespace, start: dict | None, steps: int, dev: str) -> dict:
    """What the model folder keeps of a run: recipe, settings, versions, seed, last dev line, and the runs before it."""
    settings = {name: value.name if isinstance(value, Path) else value for name, value in vars(args).items()}
    entry = {
        "recipe": f"recipes/tiny/{Path(sys.argv[0]).name}",
        "settings": settings,
        "seed": 0,
        "steps": steps,
        "torch": str(torch.__version__),
        "dev": dev,
    }
    return {"runs": [*(start or {}).get("runs", []), entry]}


def parameters(*modules: torch.nn.Module) -> Iterator[dict]:
    """AdamW groups: weight decay on matrices only."""
    named = [item for module in modules for item in module.named_parameters()]
    matrix = [p for n, p in named if p.ndim > 1 and "embeddings" not in n]
    other = [p for n, p in named if not (p.ndim > 1 and "embeddings" not in n)]
    yield {"params": matrix, "weight_decay": 0.01}
    yield {"params": other, "weight_decay": 0.0}
