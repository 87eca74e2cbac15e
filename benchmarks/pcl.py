"""Losses for ordered labels on QBQTC: cross-entropy, label smoothing, logit adjustment, our PCL; several seeds.

    python benchmarks/pcl.py DATA [--model NAME] [--seeds 5] [--rows N] [--epochs 3] [--json FILE]

DATA has `qbqtc/train.jsonl` and `dev.jsonl` (or .jsonl.xz) with `texta` (query), `textb` (title) and `label`: "0"
irrelevant, "1" some correlation, "2" highly relevant. Under a seed every loss starts from the same weights and sees the
same batches with the same dropout, so losses are compared run by run. Scores are those of the last step: nothing is
chosen on dev, and no option of a loss was tuned. Printed: macro-F1 and accuracy x100, mean and standard deviation over
the seeds, the mean difference to cross-entropy with its 95 % interval (Student's t), and the median seconds of a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import machine as hardware
import numpy as np
from report import mean_cell, table
from scipy.stats import t as student

from jinyi.train.build import build_task
from jinyi.train.recipe import (
    Batch,
    Data,
    Evaluation,
    Machine,
    Optimizer,
    PairObjective,
    Recipe,
    Schedule,
    Source,
    Start,
)
from jinyi.train.run.loop import evaluate, start, steps
from jinyi.train.run.machine import open_machine

LABELS = ("0", "1", "2")
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "cross_entropy": ("cross-entropy", {}),
    "smoothing": ("label smoothing 0.1", {"smoothing": 0.1}),
    "prior": ("logit adjustment, tau 1", {"prior": 1.0}),
    "pcl": ("PCL (ours)", {"loss": "pcl"}),
    "pcl_smoothing": ("PCL (ours), smoothing 0.1", {"loss": "pcl", "smoothing": 0.1}),
    "focal": ("focal, gamma 2", {"loss": "focal"}),
    "pcl_compat": ("PCL as published", {"loss": "pcl_compat"}),
}
SCORES = ("macro_f1", "accuracy")


def file_of(data: Path, split: str) -> str:
    for suffix in (".jsonl", ".jsonl.xz"):
        if (data / "qbqtc" / (split + suffix)).exists():
            return f"qbqtc/{split}{suffix}"
    raise SystemExit(f"{data / 'qbqtc'}: no {split}.jsonl or {split}.jsonl.xz")


def recipe_of(args: argparse.Namespace, options: dict[str, Any], seed: int) -> Recipe:
    return Recipe(
        name="pcl",
        task="pair",
        seed=seed,
        start=Start(model=args.model),
        data=Data(
            train=(Source(file_of(args.data, "train"), limit=args.rows),),
            dev=(Source(file_of(args.data, "dev"), limit=args.dev_rows),),
            folder=str(args.data),
            max_length=args.max_length,
        ),
        batch=Batch(rows=args.batch),
        optimizer=Optimizer(lr=args.lr),
        schedule=Schedule(epochs=args.epochs),
        evaluation=Evaluation(metric="macro_f1"),
        machine=Machine(precision=args.precision, threads=args.threads),
        # A query is not a title: one order only.
        objective=PairObjective(outputs=3, labels=LABELS, both_orders=False, **options),
    )


def run(recipe: Recipe) -> dict[str, float]:
    """Train once; dev scores after the last step, and seconds."""
    begin = time.perf_counter()
    task = build_task(recipe)
    with open_machine(recipe.machine) as accelerator:
        state = start(task, recipe, accelerator)
        losses = [report.loss for report in steps(task, recipe, accelerator, state)]
        scores = evaluate(state)
    return {
        **{name: 100 * scores[name] for name in SCORES},
        "loss": float(np.mean(losses[-20:])),
        "steps": len(losses),
        "seconds": time.perf_counter() - begin,
    }


def difference(values: list[float], base: list[float]) -> str:
    """Mean difference of runs with equal seeds, with its 95 % interval."""
    gaps = [value - other for value, other in zip(values, base, strict=True)]
    if len(gaps) < 2:
        return f"{gaps[0]:+.2f}"
    reach = student.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    middle = statistics.mean(gaps)
    return f"{middle:+.2f} ({middle - reach:+.2f} to {middle + reach:+.2f})"


def report_of(runs: dict[str, list[dict[str, float]]]) -> str:
    base = runs.get("cross_entropy")
    rows = []
    for name, done in runs.items():
        row = [LOSSES[name][0], *(mean_cell([one[score] for one in done]) for score in SCORES)]
        for score in SCORES:
            compared = base is not None and name != "cross_entropy"
            row.append(
                difference([one[score] for one in done], [one[score] for one in base]) if compared else ""
            )
        rows.append([*row, f"{statistics.median(one['seconds'] for one in done):.0f}"])
    header = ["loss", "macro-F1", "accuracy", "macro-F1 to cross-entropy", "accuracy to it", "seconds"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="jinyi-tiny-pair", help="model folder or name to start from")
    parser.add_argument(
        "--losses", default="cross_entropy,smoothing,prior,pcl", help=f"of {', '.join(LOSSES)}"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="only the first so many training rows")
    parser.add_argument("--dev-rows", type=int)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write every run here")
    args = parser.parse_args()
    names = args.losses.split(",")
    if unknown := sorted(set(names) - set(LOSSES)):
        parser.error(f"--losses {','.join(unknown)}: choose from {', '.join(LOSSES)}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    begin = time.perf_counter()
    for seed in range(args.seeds):
        for name in names:
            one = run(recipe_of(args, LOSSES[name][1], seed))
            runs[name].append(one)
            print(
                f"seed {seed} {name}: macro-F1 {one['macro_f1']:.2f} accuracy {one['accuracy']:.2f} "
                f"loss {one['loss']:.3f}, {one['steps']} steps, {one['seconds']:.0f} s",
                flush=True,
            )
    about = hardware.describe()
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    if args.json:
        content = {"machine": about, "settings": settings, "runs": runs}
        args.json.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    print(
        f"\n{about['processor']}, {about['cores']} cores. From {args.model}; {args.rows or 'all'} rows, "
        f"{args.epochs:g} epochs, batch {args.batch}, lr {args.lr:g}, {args.precision}; seeds 0 to {args.seeds - 1}; "
        f"{time.perf_counter() - begin:.0f} s.\n"
    )
    print(report_of(runs))


if __name__ == "__main__":
    main()
