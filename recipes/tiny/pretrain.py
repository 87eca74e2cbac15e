"""Pretrain the tiny encoder by masked language modelling with whole-word masking.

    python recipes/tiny/pretrain.py SHARD.npz OUTPUT.pt --budget 28 --bf16

Shape of RoBERTa-tiny-clue (4 layers, 312 wide, 12 heads, 1248 feed-forward). Lines stand alone between [CLS] and
[SEP], as texts do in use; batches hold lines of one length, so nothing is padded and no mask is needed. 20% of the
tokens are chosen by whole words, 80/10/10. No dropout (about one pass over the data).

The learning rate warms up over 2% of the budget, stays, and falls linearly to zero over the last 40%
(warm-up, stable, decay; cf. Hu et al. 2024, MiniCPM). A killed run goes on with --resume from its last checkpoint, on
the same batches and masks; because the stable part does not depend on the budget, --budget may then be changed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import common
import numpy as np
import torch
from torch.nn import functional as F

from jinyi.config import EncoderConfig
from jinyi.runtime.torch_encoder import MlmHead, TorchEncoder

CLS, SEP, MASK, FIRST_REAL = 2, 3, 4, 21
TINY = EncoderConfig(
    vocab_size=8000, hidden_size=312, num_hidden_layers=4, num_attention_heads=12, intermediate_size=1248,
    max_position_embeddings=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


POSITION_WIDTH = 64  # directions that only positions use at the start
OFFSETS = (-1, 1, -2, 2, -3, 3)  # what the first heads of the first two layers look at


def start(encoder: TorchEncoder, words: torch.Tensor) -> None:
    """Start from word vectors, and from heads that look at neighbours.

    An encoder of random weights spends millions of tokens to find out that neighbours matter (the plateau of masked
    language models). Here words and positions start in directions of their own, positions as sinusoids, half of them
    with frequencies spread evenly over (0, pi), so that the query "position i, turned by an offset" matches the key
    "position j" at j = i + offset alone; cf. mimetic initialisation (Trockman & Kolter 2023). Everything stays
    trainable.
    """
    width, heads = TINY.hidden_size, TINY.num_attention_heads
    size, pairs = width // heads, POSITION_WIDTH // 2
    basis = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(2)))[0]
    word_axes, place_axes = basis[: width - POSITION_WIDTH], basis[width - POSITION_WIDTH :]
    even = math.pi * (torch.arange(pairs // 2) + 0.5) / (pairs // 2)
    frequency = torch.cat((even, 0.5 * 0.001 ** (torch.arange(pairs // 2) / (pairs // 2))))
    angle = torch.arange(TINY.max_position_embeddings)[:, None] * frequency
    places = torch.stack((angle.sin(), angle.cos()), 2).flatten(
        1
    )  # unit amplitude, (sin, cos) for each frequency
    with torch.no_grad():
        vectors = words[:, : len(word_axes)]
        encoder.embeddings.word_embeddings.weight.copy_(vectors / vectors.std() * 0.04 @ word_axes)
        encoder.embeddings.position_embeddings.weight.copy_(places * 0.04 @ place_axes)
        for layer in list(encoder.encoder.layer)[:2]:
            own = layer.attention.self
            for head, offset in enumerate(OFFSETS):
                used = torch.arange(min(size // 2, pairs // 2))
                sin, cos = place_axes[2 * used], place_axes[2 * used + 1]
                turn = (frequency[used] * offset)[:, None]
                # sin(x + t) and cos(x + t) from sin x and cos x.
                rows = torch.stack(
                    (turn.cos() * sin + turn.sin() * cos, turn.cos() * cos - turn.sin() * sin), 1
                )
                keys = torch.stack((sin, cos), 1).flatten(0, 1)
                at = slice(head * size, head * size + len(keys))
                own.query.weight[at] = 1.3 * rows.flatten(0, 1)
                own.key.weight[at] = 1.3 * keys


def batches(shard: dict[str, np.ndarray], budget: int, skip: int):
    """Endless (ids, starts) of [rows, length], rows of one length, about `budget` tokens each, in random order.

    The first `skip` batches are passed over without being read.
    """
    bounds = shard["bounds"]
    lengths = np.diff(bounds)
    rng = np.random.default_rng(0)
    while True:
        plan = []
        for length in range(4, int(lengths.max()) + 1):
            members = rng.permutation(np.flatnonzero(lengths == length))
            size = max(1, budget // (length + 2))
            plan += [members[i : i + size] for i in range(0, len(members) - size // 2, size)]
        rng.shuffle(plan)
        fresh, skip = plan[skip:], max(skip - len(plan), 0)
        for members in fresh:
            take = bounds[members][:, None] + np.arange(lengths[members[0]])
            yield shard["ids"][take].astype(np.int64), shard["starts"][take]


def mask_words(ids: np.ndarray, starts: np.ndarray, rate: float, rng: np.random.Generator):
    """Whole-word masking, 80/10/10; returns the model input and the chosen places, both with [CLS] and [SEP]."""
    rows, length = ids.shape
    starts = starts.copy()
    starts[:, 0] = True
    word = np.cumsum(starts, axis=1) - 1
    chosen = np.take_along_axis(rng.random((rows, length)) < rate, word, axis=1)
    masked = ids.copy()
    fate = rng.random((rows, length))
    masked[chosen & (fate < 0.8)] = MASK
    replace = chosen & (fate >= 0.9)
    masked[replace] = rng.integers(FIRST_REAL, TINY.vocab_size, replace.sum())
    full = np.empty((rows, length + 2), np.int64)
    full[:, 0], full[:, 1:-1], full[:, -1] = CLS, masked, SEP
    places = np.zeros((rows, length + 2), bool)
    places[:, 1:-1] = chosen
    return full, places, ids[chosen]


def learning_rate(peak: float, done: float) -> float:
    """Warm-up, stable, decay: the learning rate when `done` of the budget is spent."""
    return peak * min(done / 0.02 + 0.01, 1.0, max(1 - done, 0.0) / 0.4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shard", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--budget", type=float, default=28, help="million tokens to see, [CLS] and [SEP] included"
    )
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT")
    common.add_machine(parser)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens per step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--rate", type=float, default=0.2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shard = dict(np.load(args.shard))
    encoder, head = TorchEncoder(TINY), MlmHead(TINY)
    named = [*encoder.named_parameters(), *head.named_parameters()]
    decayed = [p for n, p in named if p.ndim > 1 and "embeddings" not in n]
    rest = [p for n, p in named if not (p.ndim > 1 and "embeddings" not in n)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.98), eps=1e-6, fused=True,
    )  # fmt: skip
    seen = step = 0
    if args.resume:
        state = torch.load(args.output, weights_only=True)
        encoder.load_state_dict(state["encoder"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        seen, step = state["seen"], state["step"]
    else:
        start(encoder, torch.from_numpy(shard["embeddings"]))
        counts = np.bincount(shard["ids"], minlength=TINY.vocab_size) + 1.0
        head.bias.data.copy_(torch.from_numpy(np.log(counts / counts.sum())) + math.log(TINY.vocab_size))

    report = "no report yet"

    def save() -> None:
        state = {
            "encoder": encoder.state_dict(),
            "head": head.state_dict(),
            "config": TINY.to_dict(),
            "optimizer": optimizer.state_dict(),
            "seen": seen,
            "step": step,
            "training": common.record(args, None, step, report),
        }
        torch.save(state, args.output.with_suffix(".tmp"))
        os.replace(args.output.with_suffix(".tmp"), args.output)

    began, at = time.time(), seen
    total, correct, guesses = 0.0, 0, 0
    for ids, starts in batches(shard, args.tokens, step):
        done = seen / (args.budget * 1e6)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args.lr, done)
        step += 1
        inputs, places, answers = mask_words(ids, starts, args.rate, np.random.default_rng((1, step)))
        seen += inputs.size
        if not len(answers):
            continue
        target = torch.from_numpy(answers)
        with common.products(args):
            states = encoder(torch.from_numpy(inputs))[-1]
            logits = head(states[torch.from_numpy(places)], encoder.embeddings.word_embeddings.weight)
        loss = F.cross_entropy(logits.float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(answers)
        correct += int((logits.argmax(-1) == target).sum())
        guesses += len(answers)
        if step % 100 == 0:
            spent = time.time() - began
            report = f"loss {total / guesses:.3f} acc {correct / guesses:.3f}"
            print(
                f"{step} {spent / 60:.1f} min {seen / 1e6:.2f}M tokens {(seen - at) / spent:.0f}/s "
                f"{report} lr {optimizer.param_groups[0]['lr']:.2e}",
                flush=True,
            )
            total, correct, guesses = 0.0, 0, 0
        if step % 1000 == 0:
            save()
    save()


if __name__ == "__main__":
    main()
