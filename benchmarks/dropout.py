"""Dropout while training on processors: PyTorch's beside jinyi's.

    python benchmarks/dropout.py [--threads N]

Forward and backward on the tensors of one layer of the tiny shape and 2,048 tokens (16 texts of 128): hidden states and
attention weights. Median of rounds that take turns, in nanoseconds an element.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.runtime.torch_dropout import add_dropped, dropout

RATE, ROUNDS = 0.1, 9
Call = Callable[[Tensor], Tensor]


def nanoseconds(call: Call, x: Tensor, slope: Tensor) -> float:
    began = time.perf_counter()
    call(x).backward(slope)
    return 1e9 * (time.perf_counter() - began) / x.numel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print("| | precision | PyTorch, ns | jinyi, ns | times as fast |\n|---|---|---:|---:|---:|")
    for kind in (torch.float32, torch.bfloat16):
        residual = torch.randn(2048, 312)
        cases: dict[str, tuple[tuple[int, ...], Call, Call]] = {
            "attention weights": (
                (192, 128, 128),
                lambda x: F.dropout(x, RATE),
                lambda x: dropout(x, RATE),
            ),
            "residual + dropout": (
                (2048, 312),
                lambda x, r=residual: r + F.dropout(x, RATE),
                lambda x, r=residual: add_dropped(r, x, RATE),
            ),
        }
        for name, (shape, theirs, ours) in cases.items():
            x = torch.randn(shape, dtype=kind, requires_grad=True)
            slope = torch.randn(theirs(x).shape, dtype=theirs(x).dtype)
            times: list[list[float]] = [[], []]
            for turn in range(ROUNDS + 2):
                for place in (0, 1) if turn % 2 else (1, 0):
                    spent = nanoseconds((theirs, ours)[place], x, slope)
                    if turn > 1:
                        times[place].append(spent)
            a, b = map(statistics.median, times)
            print(
                f"| {name} | {str(kind).removeprefix('torch.')} | {a:.2f} | {b:.2f} | {a / b:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
