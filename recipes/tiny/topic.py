"""Training of jinyi-tiny-topic: prompts and label words, after TCBert (arXiv 2211.11304).

    python recipes/tiny/topic.py DATA TOKENIZER.json PRETRAINED.pt OUTPUT.pt --minutes 25

Each step takes texts of one set, puts a prompt with one [MASK] per label-word token before them and adds two losses:
cross-entropy at the masks over the whole vocabulary (the prompt-MLM loss of the paper's code), and cross-entropy over
the set's own labels, whose score is the mean log-probability of their tokens (what prediction uses). The contrastive
part of the paper is not published; ours pulls [CLS] vectors of one topic together (supervised contrastive loss,
temperature 0.05).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import data
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.tokens import Tokenizer

PROMPTS = {
    "tnews": ("下面是一则关于{}的新闻：", "接下来的新闻，是跟{}相关的内容："),
    "csldcp": ("这一句描述{}的内容如下：", "接下来的学科，是跟{}相关："),
    "iflytek": ("这一句描述{}的内容如下：", "接下来的生活内容，是跟{}相关："),
    "shopping10": ("下面是一则关于{}的评论：", "这一句描述{}的内容如下："),
    "eprstmt": ("下面是一则{}的评论：",),
    "chnsenticorp": ("下面是一则{}的评论：",),
    "book_review": ("下面是一则{}的评论：",),
}
WEIGHT = {
    "tnews": 6.0,
    "csldcp": 2.5,
    "iflytek": 2.5,
    "shopping10": 1.0,
    "chnsenticorp": 0.4,
    "book_review": 0.3,
    "eprstmt": 0.1,
}
LONGEST = {"tnews": 64, "csldcp": 160, "iflytek": 160}


def supcon(vectors: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020), temperature 0.05; rows without a partner do not count."""
    z = F.normalize(vectors, dim=-1)
    own = torch.eye(len(z), dtype=torch.bool)
    logits = (20.0 * z @ z.T).masked_fill(own, -1e4)
    same = (labels[:, None] == labels[None, :]) & ~own
    log_share = logits - torch.logsumexp(logits, 1, keepdim=True)
    has = same.any(1)
    if not has.any():
        return vectors.sum() * 0.0
    return -((log_share * same).sum(1)[has] / same.sum(1)[has]).mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--tokens", type=int, default=2560)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--dropout", type=float, default=0.05)
    common.add_machine(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokenizer = Tokenizer.from_file(args.tokenizer)
    encoder, head, config = common.load(args.start, args.dropout)

    def ids_of(text: str) -> list[int]:
        return common.ids_of(tokenizer, [text], 64)[0] if text else []

    sets = {}
    for name, prompts in PROMPTS.items():
        words = [ids_of(word) for word in data.label_words(args.data, name)]
        longest = max(map(len, words))
        # Label words of another length than two get a prompt with their own number of masks.
        halves = [tuple(map(ids_of, prompt.split("{}"))) for prompt in prompts]
        read = {}
        for split in ("train", "dev"):
            rows = data.rows(args.data, name, split)
            texts = common.ids_of(tokenizer, [r["text"] for r in rows], LONGEST.get(name, 96))
            read[split] = (texts, np.array([r["label"] for r in rows]))
        sets[name] = (words, longest, halves, read)

    def inputs(
        name: str, texts: list[list[int]], masks: int, half: int
    ) -> tuple[Tensor, Tensor | None, list[int]]:
        left, right = sets[name][2][half]
        front = [common.CLS, *left, *[common.MASK] * masks, *right]
        places = list(range(1 + len(left), 1 + len(left) + masks))
        ids, lengths = common.pad([[*front, *text, common.SEP] for text in texts])
        return ids, lengths, places

    def score(name: str, states: Tensor, places: list[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities at the masks [B, m, V], and the set's label scores [B, labels] (labels of m tokens)."""
        logits = head(states[:, places].flatten(0, 1), encoder.embeddings.word_embeddings.weight)
        logp = F.log_softmax(logits.float(), -1).view(len(states), len(places), -1)
        words = sets[name][0]
        chosen = [i for i, word in enumerate(words) if len(word) == len(places)]
        index = torch.tensor([words[i] for i in chosen])
        scores = torch.stack([logp[:, k, index[:, k]] for k in range(len(places))]).mean(0)
        return logp, scores

    def evaluate() -> str:
        encoder.eval()
        line = []
        with torch.no_grad():
            for name in ("tnews", "csldcp", "iflytek", "shopping10"):
                words, _, _, read = sets[name]
                texts, labels = read["dev"][0][:500], read["dev"][1][:500]
                best = np.full((len(texts), len(words)), -1e9, np.float32)
                order = np.argsort(list(map(len, texts)))
                for masks in {len(word) for word in words}:
                    chosen = [i for i, word in enumerate(words) if len(word) == masks]
                    for i in range(0, len(order), 48):
                        take = order[i : i + 48]
                        ids, lengths, places = inputs(name, [texts[j] for j in take], masks, 0)
                        _, scores = score(name, encoder(ids, lengths)[-1], places)
                        best[np.ix_(take, chosen)] = scores.numpy()
                line.append(f"{name} {np.mean(best.argmax(1) == labels):.4f}")
        encoder.train()
        report = "dev  " + "  ".join(line)
        print(report, flush=True)
        return report

    before = torch.load(args.start, weights_only=True).get("training")

    def save() -> None:
        run = common.record(args, before, step, dev_line)
        state = {
            "encoder": encoder.state_dict(),
            "head": head.state_dict(),
            "config": config.to_dict(),
            "training": run,
        }
        torch.save(state, args.output)

    names = list(sets)
    weights = np.array([WEIGHT[name] for name in names])
    groups = [*common.parameters(encoder), *common.parameters(head)]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    clock, plans, step, total, next_eval = common.Clock(args.minutes), {}, 0, 0.0, 0.5
    encoder.train()
    while clock.done < 1:
        clock.set(optimizer, args.lr)
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        words, _, halves, read = sets[name]
        texts, labels = read["train"]
        if not plans.get(name):
            width = np.array([len(text) for text in texts])
            size = max(12, int(args.tokens / (np.percentile(width, 75) + 16)))
            plans[name] = common.bucketed(width, size, rng)
        take = plans[name].pop()
        masks = int(rng.choice([len(words[labels[i]]) for i in take]))
        take = np.array([i for i in take if len(words[labels[i]]) == masks])
        ids, lengths, places = inputs(name, [texts[i] for i in take], masks, int(rng.integers(len(halves))))
        with common.products(args):
            states = encoder(ids, lengths)[-1]
            logp, scores = score(name, states, places)
        chosen = [i for i, word in enumerate(words) if len(word) == masks]
        answer = torch.tensor([chosen.index(labels[i]) for i in take])
        word = torch.tensor([words[labels[i]] for i in take])
        mlm = -logp.gather(2, word[:, :, None]).mean()
        loss = (
            F.cross_entropy(scores * masks, answer) + 0.5 * mlm + 0.2 * supcon(states[:, 0].float(), answer)
        )
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
