"""Training steps of a 1.3B MegatronBERT with random weights: do they fit into memory, and how long do they take?

    python benchmarks/large_step.py [--rows 2] [--length 64] [--steps 2] [--precision bf16] [--limit 24] [--json FILE]

Shape of Erlangshen-MegatronBert-1.3B: 24 layers, 2048 wide, 32 heads, 8192 feed-forward, pre-layer-norm; a
vocabulary of 21128. The steps are those of `jinyi train` with an MLM recipe over made-up text: masking, forward and
backward pass with `machine.checkpointing` (--no-checkpointing for the difference), clipping, AdamW. Weights, gradients
and AdamW's two moments take 16 bytes a parameter whatever the precision; activations come on top.

Before anything is made, the free memory is compared with what will be needed, and the run refused if it is less: it
would push out everything else on the machine. The exit code is 1 when the peak was above --limit GiB. On CUDA (chosen
by itself) the peak is that of the device.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from jinyi.registry import default_model, find_model
from jinyi.tokens import Tokenizer
from jinyi.train.build import build_task
from jinyi.train.corpus import write_shards
from jinyi.train.recipe import Batch, Data, Machine, PretrainObjective, Recipe, Schedule, Source, Start
from jinyi.train.run.loop import start, steps
from jinyi.train.run.machine import open_machine

GIB = 2**30
STATE_BYTES = 16  # of a parameter: weight, gradient, two moments, float32 each
BASE = 1.0 * GIB  # Python, PyTorch and its buffers


def parameters(args: argparse.Namespace) -> int:
    """Parameters of the encoder and its MLM head."""
    width, inner = args.width, 4 * args.width
    layer = 4 * width * (width + 1) + width * inner * 2 + inner + width + 4 * width
    return args.layers * layer + (args.vocabulary + 512 + 2) * width + width * (width + 5) + args.vocabulary


def activations(args: argparse.Namespace) -> float:
    """Bytes kept for the backward pass, roughly: a float32 state for each layer, or all that is inside the layers."""
    states = args.rows * args.length * args.width * 4
    inside = 20 * states + 3 * args.rows * args.heads * args.length**2 * 4
    return args.layers * states + inside if args.checkpointing else args.layers * inside


def recipe(args: argparse.Namespace, folder: Path, tokenizer: Path) -> Recipe:
    """Masked language model over the shards in `folder`."""
    return Recipe(
        name="large-step",
        task="pretrain",
        data=Data(train=(Source(file=str(folder)),), max_length=args.length),
        start=Start(
            tokenizer=str(tokenizer),
            config={
                "vocab_size": args.vocabulary,
                "hidden_size": args.width,
                "num_hidden_layers": args.layers,
                "num_attention_heads": args.heads,
                "intermediate_size": 4 * args.width,
                "max_position_embeddings": 512,
                "pre_layer_norm": True,
            },
        ),
        batch=Batch(rows=args.rows, bucket=False),
        schedule=Schedule(steps=args.steps, warmup=0),
        objective=PretrainObjective(),
        machine=Machine(precision=args.precision, checkpointing=args.checkpointing, threads=args.threads),
    )


def made_up_shards(folder: Path, tokenizer: Tokenizer, tokens: int) -> Path:
    """Shards of random characters."""
    characters = [token for token in tokenizer.vocab if len(token) == 1 and "\u4e00" <= token <= "\u9fff"]
    drawn = np.random.default_rng(0).choice(characters, (tokens // 32 + 1, 32))
    return write_shards([["".join(line) for line in drawn]], tokenizer, folder / "shards", words=list)


def peak(device: torch.device) -> float:
    """Most memory so far in GiB: resident, or allocated on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make the network, train, and say what it took."""
    tokenizer_folder = find_model(default_model("embed"))
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = Tokenizer.from_folder(tokenizer_folder)
        shards = made_up_shards(Path(scratch), tokenizer, (args.steps + 1) * args.rows * args.length)
        plan = recipe(args, shards, tokenizer_folder)
        began = time.perf_counter()
        task = build_task(plan)
        count = sum(weight.numel() for weight in task.network.parameters())
        with open_machine(plan.machine) as accelerator:
            state = start(task, plan, accelerator)
            result: dict[str, Any] = {
                "parameters": count,
                "device": str(accelerator.device),
                "precision": args.precision,
                "checkpointing": args.checkpointing,
                "rows": args.rows,
                "length": args.length,
                "seconds_to_make": round(time.perf_counter() - began, 1),
                "gib_of_weights": round(peak(accelerator.device), 2),
                "steps": [],
            }
            for report in steps(task, plan, accelerator, state):
                step = {
                    "loss": round(report.loss, 3),
                    "seconds": round(report.seconds, 1),
                    "tokens": report.tokens,
                    "peak_gib": round(peak(accelerator.device), 2),
                }
                print(json.dumps(step), flush=True)
                result["steps"].append(step)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("rows", 2),
        ("length", 64),
        ("steps", 2),
        ("layers", 24),
        ("width", 2048),
        ("heads", 32),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocabulary", type=int, default=21128)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16")
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--limit", type=float, default=24.0, help="GiB")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    count = parameters(args)
    need = BASE + STATE_BYTES * count + activations(args)
    free = psutil.virtual_memory().available
    if torch.cuda.is_available():
        free, need = torch.cuda.mem_get_info()[0], need - BASE
    print(
        f"{count / 1e9:.2f}B parameters; needs about {need / GIB:.1f} GiB, {free / GIB:.1f} GiB are free",
        flush=True,
    )
    if need > free:
        print("Not started: too little memory is free.", file=sys.stderr)
        return 2
    result = measure(args)
    result["limit_gib"] = args.limit
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return int(result["steps"][-1]["peak_gib"] > args.limit)


if __name__ == "__main__":
    sys.exit(main())
