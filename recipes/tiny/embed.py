"""Contrastive training of jinyi-tiny-embed: [CLS] or mean vectors, cosine.

    python recipes/tiny/embed.py DATA TOKENIZER.json PRETRAINED.pt OUTPUT.pt --minutes 15

The last layer starts as mean pooling (see `start_pooling`). Each step takes pairs of one set. Graded or binary labels
give CoSENT (order every pair of pairs by label; lambda 20); pairs labelled similar give the supervised SimCSE loss
(temperature 0.05) against all other sentences of the batch, equal texts masked. Triplets and inference pairs
(entailment against contradiction) enter with their hard negatives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import data
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from jinyi.runtime.torch_encoder import TorchEncoder
from jinyi.tokens import Tokenizer

SCALE = 20.0
LONGEST = 96


def cosent(cosines: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum over label_i > label_j of exp(20 (cos_j - cos_i))) (Su 2022)."""
    gaps = SCALE * (cosines[None, :] - cosines[:, None])
    ordered = gaps[labels[:, None] > labels[None, :]]
    return torch.logsumexp(torch.cat((torch.zeros(1), ordered)), 0)


def info_nce(
    a: Tensor, b: Tensor, negatives: Tensor, keys_a: Tensor, keys_b: Tensor, keys_n: Tensor
) -> Tensor:
    """Supervised SimCSE: each a_i against its b_i, all b_j and all hard negatives; texts equal to b_i are masked."""
    pool, keys = torch.cat((b, negatives)), torch.cat((keys_b, keys_n))
    logits = SCALE * a @ pool.T
    same = (keys[None, :] == keys_b[:, None]) | (keys[None, :] == keys_a[:, None])
    same[torch.arange(len(a)), torch.arange(len(a))] = False
    return F.cross_entropy(logits.masked_fill(same, -1e4), torch.arange(len(a)))


def start_pooling(encoder: TorchEncoder) -> None:
    """Let the last layer begin as mean pooling: [CLS] looks at all tokens alike and takes over their states.

    A mean of token states is a good sentence vector from the first step, [CLS] of a masked language model is not. The
    last layer of such a model serves the prediction of tokens, so little is lost; training then decides where [CLS]
    looks. At prediction time only the first position of the last layer is computed, which a mean would not allow.
    """
    last = encoder.encoder.layer[-1]
    size = encoder.config.hidden_size
    with torch.no_grad():
        last.attention.self.query.weight.zero_()
        last.attention.self.query.bias.zero_()
        last.attention.self.value.weight.copy_(torch.eye(size))
        last.attention.self.value.bias.zero_()
        # The mean of many states is shorter than one of them, and [CLS]'s own state should hardly count.
        last.attention.output.dense.weight.copy_(8 * torch.eye(size))
        last.attention.output.dense.bias.zero_()
        last.attention.output.LayerNorm.weight.fill_(1.0)
        last.attention.output.LayerNorm.bias.zero_()
        last.output.dense.weight.mul_(0.1)
        last.output.dense.bias.zero_()


def sets(source: Path) -> list[tuple[str, list[tuple[str, str]], list[float], bool]]:
    """(name, pairs, labels, whether label 1 means the same) of every training set."""
    out = []
    for name in data.PAIRS:
        rows = data.rows(source, name, "train")
        labels = [float(r.get("score", r.get("label"))) for r in rows]
        out.append(
            (name, [(r["texta"], r["textb"]) for r in rows], labels, name not in ("stsb", "pawsx", "qbqtc"))
        )
    for name in data.NLI:
        rows = data.rows(source, name, "train")
        grade = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}
        out.append(
            (name, [(r["premise"], r["hypothesis"]) for r in rows], [grade[r["label"]] for r in rows], True)
        )
    rows = data.rows(source, "triclue", "train")
    pairs = [(r["anchor"], r[side]) for r in rows for side in ("positive", "negative")]
    out.append(("triclue", pairs, [1.0, 0.0] * len(rows), True))
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--nce", type=float, default=0.5, help="weight of the in-batch loss beside CoSENT")
    parser.add_argument("--boost", default="", help="weights of sets, as stsb=6,pawsx=8; others keep theirs")
    parser.add_argument("--pooling", choices=("cls", "mean"), default="cls")
    parser.add_argument(
        "--keep-last", action="store_true", help="do not start the last layer as mean pooling"
    )
    common.add_machine(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokenizer = Tokenizer.from_file(args.tokenizer)
    encoder, _, config = common.load(args.start, args.dropout)
    if args.pooling == "cls" and not args.keep_last:
        start_pooling(encoder)

    def encode(texts: list[str]) -> list[list[int]]:
        return [[common.CLS, *ids, common.SEP] for ids in common.ids_of(tokenizer, texts, LONGEST - 2)]

    train = []
    for name, pairs, labels, same in sets(args.data):
        a, b = encode([p[0] for p in pairs]), encode([p[1] for p in pairs])
        train.append((name, pairs, a, b, np.array(labels, np.float32), same))
    boost = {"bq": 2.0, "lcqmc": 2.0, "stsb": 3.0, "pawsx": 3.0, "cinlid": 0.4, "atec_ccks": 0.5}
    boost |= {name: float(value) for name, _, value in (b.partition("=") for b in args.boost.split(",") if b)}
    weights = np.array([len(labels) ** 0.5 * boost.get(name, 1.0) for name, *_, labels, _ in train])
    print(
        {name: f"{w:.3f}" for (name, *_), w in zip(train, weights / weights.sum(), strict=True)}, flush=True
    )
    dev = []
    for name in data.PAIRS:
        rows = data.rows(args.data, name, "dev")[:500]
        dev.append((name, encode([r["texta"] for r in rows]), encode([r["textb"] for r in rows]),
                    [float(r.get("score", r.get("label"))) for r in rows]))  # fmt: skip

    def evaluate() -> str:
        scores = {}
        for name, a, b, labels in dev:
            both = common.vectors(encoder, a + b, args.pooling)
            scores[name] = 100 * spearmanr((both[: len(a)] * both[len(a) :]).sum(1), labels).statistic
        mean = float(np.mean(list(scores.values())))
        line = f"step {step} dev Spearman {mean:.2f}  " + "  ".join(f"{k} {v:.1f}" for k, v in scores.items())
        print(line, flush=True)
        return line

    before = torch.load(args.start, weights_only=True).get("training")

    def save() -> None:
        run = common.record(args, before, step, dev_line)
        state = {"encoder": encoder.state_dict(), "config": config.to_dict(), "training": run}
        torch.save(state, args.output)

    optimizer = torch.optim.AdamW(common.parameters(encoder), lr=args.lr, betas=(0.9, 0.98), fused=True)
    clock, plans, step, total, next_eval = common.Clock(args.minutes), {}, 0, 0.0, 0.4
    encoder.train()
    while clock.done < 1:
        clock.set(optimizer, args.lr)
        k = int(rng.choice(len(train), p=weights / weights.sum()))
        _, pairs, a, b, labels, same = train[k]
        if not plans.get(k):
            lengths = np.array([max(len(x), len(y)) for x, y in zip(a, b, strict=True)])
            plans[k] = common.bucketed(lengths, args.pairs, rng)
        take = plans[k].pop()
        ids, sizes = common.pad([a[i] for i in take] + [b[i] for i in take])
        with common.products(args):
            states = common.pool(encoder(ids, sizes)[-1].float(), sizes, args.pooling)
        u, v = F.normalize(states, dim=-1).split(len(take))
        label = torch.from_numpy(labels[take])
        loss = cosent((u * v).sum(1), label)
        positive, negative = label == 1, label == 0
        if same and positive.sum() > 1:
            keys = torch.tensor([[hash(pairs[i][0]), hash(pairs[i][1])] for i in take])
            loss = loss + args.nce * info_nce(
                u[positive], v[positive], v[negative], keys[positive, 0], keys[positive, 1], keys[negative, 1]
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, total = step + 1, total + loss.item()
        if step % 100 == 0:
            print(f"{step} {clock.done:.0%} loss {total / 100:.3f}", flush=True)
            total = 0.0
        if clock.done > next_eval:
            next_eval += 0.4
            dev_line = evaluate()
            save()
    dev_line = evaluate()
    save()


if __name__ == "__main__":
    main()
