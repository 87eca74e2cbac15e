"""Attention while training on processors: PyTorch's fused kernel beside the products multiplied out.

    python benchmarks/attention.py [--threads N]

Forward and backward of one layer of the tiny shape (12 heads of 26) on 2,048 tokens of texts of one length, what a
training step sees; median of rounds that take turns, in milliseconds. It is where `jinyi.runtime.torch_encoder.attend`
has its limits from; where that calls the fused kernel itself both columns are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.runtime.torch_encoder import attend

HEADS, SIZE, TOKENS, ROUNDS = 12, 26, 2048, 9


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


def ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attend(query, key, value, None, 0.0)


def milliseconds(function, inputs: list[Tensor], slope: Tensor) -> float:
    began = time.perf_counter()
    function(*inputs).backward(slope)
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print("| length | precision | fused, ms | ours, ms | times as fast |\n|---:|---|---:|---:|---:|")
    for kind in (torch.float32, torch.bfloat16):
        for length in (16, 32, 64, 128, 256, 512):
            shape = (TOKENS // length, HEADS, length, SIZE)
            inputs = [torch.randn(shape, dtype=kind, requires_grad=True) for _ in range(3)]
            slope = torch.randn(shape, dtype=kind)
            times: dict[str, list[float]] = {"fused": [], "ours": []}
            for turn in range(ROUNDS + 2):
                for function in (fused, ours) if turn % 2 else (ours, fused):
                    spent = milliseconds(function, inputs, slope)
                    if turn > 1:
                        times[function.__name__].append(spent)
            a, b = (statistics.median(times[name]) for name in ("fused", "ours"))
            print(
                f"| {length} | {str(kind).removeprefix('torch.')} | {a:.1f} | {b:.1f} | {a / b:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
