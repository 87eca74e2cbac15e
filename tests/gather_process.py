"""One of several processes that share a batch: run by test_train_distributed.py.

    python tests/gather_process.py RANK WORLD FOLDER

Reads batch.pt and writes RANK.pt there. The processes meet through a file and talk over the loopback device.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jinyi.train.distributed import gather_rows
from jinyi.train.losses import cosent, info_nce, supcon


def losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums (InfoNCE) or whole-batch values of this process's rows; alone, the rows are all there are."""
    a, b, n = model(batch["a"]), model(batch["b"]), model(batch["n"])
    (b_all, offset), (n_all, _) = gather_rows(b), gather_rows(n)
    (keys_b, _), (keys_n, _) = gather_rows(batch["keys_b"]), gather_rows(batch["keys_n"])
    nce = info_nce(
        a, b_all, negatives=n_all, keys_a=batch["keys_a"], keys_b=keys_b, keys_negatives=keys_n, offset=offset,
        hard_negative_weight=0.3, reduction="sum",
    )  # fmt: skip
    cosines, _ = gather_rows(torch.cosine_similarity(a, b))
    topics, _ = gather_rows(a)
    labels, _ = gather_rows(batch["labels"])
    share = len(a) / len(b_all)
    return {
        "info_nce": nce / len(b_all),
        "cosent": share * cosent(cosines, labels),
        "supcon": share * supcon(topics, labels, temperature=0.3),
    }


def network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)


def gradients(batch: dict[str, Tensor]) -> dict[str, tuple[float, list[Tensor]]]:
    """Loss and gradients of the network by name of the loss, added up over the processes there are."""
    out = {}
    for name in ("info_nce", "cosent", "supcon"):
        model = network(batch["a"].dtype)
        loss = losses(model, batch)[name]
        loss.backward()
        parts = [loss.detach().clone(), *(p.grad for p in model.parameters() if p.grad is not None)]
        if dist.is_initialized():
            for part in parts:
                dist.all_reduce(part)
        out[name] = (float(parts[0]), parts[1:])
    return out


def main() -> None:
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    result = []
    for sizes, batch in torch.load(folder / "batch.pt"):
        start = sum(sizes[:rank])
        own = {name: rows[start : start + sizes[rank]] for name, rows in batch.items()}
        gathered, offset = gather_rows(own["keys_a"])
        assert gathered.equal(batch["keys_a"]) and offset == start
        half = own["a"].bfloat16().requires_grad_()
        halves, _ = gather_rows(half)
        assert halves.equal(batch["a"].bfloat16())
        halves.sum().backward()
        assert half.grad is not None and half.grad.equal(torch.full_like(half, world))
        result.append(gradients(own))
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
