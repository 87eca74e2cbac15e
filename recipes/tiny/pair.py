"""Training of jinyi-tiny-pair: a cross-encoder with one logit, sigmoid = P(similar).

    python recipes/tiny/pair.py DATA TOKENIZER.json START.pt OUTPUT.pt --minutes 15

[CLS] a [SEP] b [SEP] with segments 0/1, BERT's pooler, a linear layer to one logit, binary cross-entropy. Every pair is
seen in a random order of its sides. START is the embedding model: an intermediate task on sentence meaning, as the
published -pair models have one. QBQTC enters with its ends only (0 = different, 2 = similar), STS-B by score / 5.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import data
import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from jinyi.config import EncoderConfig
from jinyi.runtime.torch_encoder import TorchEncoder, initialize
from jinyi.tokens import Tokenizer

LONGEST = 128


class PairHead(nn.Module):
    """BERT's pooler and a linear layer to one logit."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.apply(initialize)

    def forward(self, first: Tensor) -> Tensor:
        return self.classifier(torch.tanh(self.pooler(first)))[:, 0]


def start_matching(encoder: TorchEncoder) -> None:
    """Let a few heads of the first two layers look for the same token on the other side.

    Alignment between the sides is what a cross-encoder has to discover first, and random heads need long for it.
    Queries and keys of these heads are one random projection of the word vectors (equal tokens match) and one
    channel that tells the segments apart, with opposite signs (the other side is preferred).
    """
    size = encoder.config.hidden_size // encoder.config.num_attention_heads
    generator = torch.Generator().manual_seed(3)
    words = encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        axes = torch.linalg.svd(words - words.mean(0), full_matrices=False)[2][:248]
        side = axes[-1]
        types = encoder.embeddings.token_type_embeddings.weight
        types[1] = types[0] + 8 * words.std() * side
        # What the segments' difference is after the layer norm, measured.
        sample = torch.randint(21, len(words), (64, 16), generator=generator)
        first, second = (
            encoder.embeddings(sample, torch.full_like(sample, kind), None) @ side for kind in (0, 1)
        )
        middle, half = (first.mean() + second.mean()) / 2, (second.mean() - first.mean()) / 2
        for layer, heads in ((0, (6, 7, 8, 9)), (1, (10, 11))):
            own = encoder.encoder.layer[layer].attention.self
            for head in heads:
                mix = torch.linalg.qr(torch.randn(247, size - 1, generator=generator))[0].T @ axes[:-1]
                rows = slice(head * size, (head + 1) * size)
                for linear, sign in ((own.query, -1.0), (own.key, 1.0)):
                    gain = sign * 4.5 / half
                    linear.weight[rows] = torch.cat((1.15 * mix, gain * side[None]))
                    linear.bias[rows] = torch.cat((torch.zeros(size - 1), -gain * middle[None]))


def target(name: str, row: dict) -> float | None:
    if name == "stsb":
        return row["score"] / 5
    if name == "qbqtc":
        return {0: 0.0, 1: None, 2: 1.0}[row["label"]]
    return float(row["label"])


def join(a: list[int], b: list[int]) -> tuple[list[int], int]:
    return [common.CLS, *a, common.SEP, *b, common.SEP], len(a) + 2


def logits(encoder: TorchEncoder, head: PairHead, sides: list[tuple[list[int], list[int]]]) -> Tensor:
    joined = [join(a, b) for a, b in sides]
    ids, lengths = common.pad([row for row, _ in joined])
    segments = torch.zeros_like(ids)
    for i, (row, split) in enumerate(joined):
        segments[i, split : len(row)] = 1
    return head(encoder(ids, lengths, segments)[-1][:, 0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--dropout", type=float, default=0.05)
    common.add_machine(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokenizer = Tokenizer.from_file(args.tokenizer)
    encoder, _, config = common.load(args.start, args.dropout)
    head = PairHead(config)
    start_matching(encoder)

    def encode(rows: list[dict]) -> list[tuple[list[int], list[int]]]:
        a, b = (
            common.ids_of(tokenizer, [r[side] for r in rows], LONGEST // 2 - 2) for side in ("texta", "textb")
        )
        return list(zip(a, b, strict=True))

    sides, targets, weights = [], [], []
    boost = {"bq": 2.0, "lcqmc": 2.0, "atec": 0.6, "pawsx": 3.0}
    for name in data.PAIRS:
        rows = [r for r in data.rows(args.data, name, "train") if target(name, r) is not None]
        sides += encode(rows)
        targets += [target(name, r) for r in rows]
        weights += [boost.get(name, 1.0)] * len(rows)
    lengths = np.array([len(a) + len(b) for a, b in sides])
    dev = []
    for name in data.PAIRS:
        rows = [r for r in data.rows(args.data, name, "dev") if name not in ("stsb", "qbqtc")][:500]
        if rows:
            dev.append((name, encode(rows), np.array([r["label"] for r in rows])))

    def evaluate() -> str:
        encoder.eval()
        line = []
        with torch.no_grad():
            for name, pairs, labels in dev:
                scores = np.zeros(len(pairs))
                order = np.argsort([len(a) + len(b) for a, b in pairs])
                for i in range(0, len(order), 64):
                    take = order[i : i + 64]
                    scores[take] = logits(encoder, head, [pairs[j] for j in take]).numpy()
                auc, f1 = roc_auc_score(labels, scores), f1_score(labels, scores > 0)
                line.append(f"{name} acc {np.mean((scores > 0) == labels):.3f} f1 {f1:.3f} auc {auc:.3f}")
        encoder.train()
        report = "dev  " + " | ".join(line)
        print(report, flush=True)
        return report

    before = torch.load(args.start, weights_only=True).get("training")

    def save() -> None:
        run = common.record(args, before, step, dev_line)
        state = {
            "encoder": encoder.state_dict(),
            "pair": head.state_dict(),
            "config": config.to_dict(),
            "training": run,
        }
        torch.save(state, args.output)

    groups = [*common.parameters(encoder), *common.parameters(head)]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    clock, plan, step, total, next_eval = common.Clock(args.minutes), [], 0, 0.0, 0.5
    everything, share = np.array(targets, np.float32), np.array(weights)
    encoder.train()
    while clock.done < 1:
        clock.set(optimizer, args.lr)
        if not plan:
            keep = np.flatnonzero(rng.random(len(share)) < share / share.max())
            plan = [keep[part] for part in common.bucketed(lengths[keep], args.pairs, rng)]
        take = plan.pop()
        batch = [sides[i] if rng.random() < 0.5 else sides[i][::-1] for i in take]
        with common.products(args):
            outputs = logits(encoder, head, batch).float()
        loss = F.binary_cross_entropy_with_logits(outputs, torch.from_numpy(everything[take]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, total = step + 1, total + loss.item()
        if step % 100 == 0:
            print(f"{step} {clock.done:.0%} loss {total / 100:.3f}", flush=True)
            total = 0.0
        if clock.done > next_eval:
            next_eval += 0.5
            dev_line = evaluate()
            save()
    dev_line = evaluate()
    save()


if __name__ == "__main__":
    main()
