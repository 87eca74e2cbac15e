"""Speed of training: jinyi beside Hugging Face's Trainer with transformers' BERT, in one interleaved run.

    python benchmarks/training.py [--data DATA] [--json FILE] [--quick] [--rounds N] [--only SYSTEMS]
                                  [--sections SECTIONS] [--device cuda] [--threads N]

Masked language model on rows of 128 tokens, and fine-tuning on pairs of their real lengths, for the tiny and the base
shape, random weights, dropout 0.1, AdamW, gradients clipped. DATA is a folder with afqmc/train.jsonl (texta, textb,
label) and iflytek/dev.jsonl (text), .xz allowed; without it made-up texts of the same lengths are used. Every system is
a process of its own that stays alive; in each round all train some steps in turn, A B C and then C B A. What is counted
are real tokens, from text ids to the finished optimiser step. Tables have medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command import names_of, parsed, shared_options, write_result
from machine import OthersLoad, describe
from report import disturbance, head, limits_line, number, rate_cell, table
from systems import LIMITS, System, Worker, WorkerError, run_benchmark, say
from training_worker import LENGTH, MASKED
from workloads import BASE, TINY, VOCABULARY, encoder_flops, made_up, random_folder, read_rows

from jinyi.config import EncoderConfig
from jinyi.tokens import Tokenizer
from jinyi.train.corpus.shards import Shards, write_shards

WORKER = Path(__file__).resolve().parent / "training_worker.py"
PAUSE = 0.3  # seconds between two systems: idle threads of the last one spin for a while
DEFAULT, BEST, PARTS = "hf", "hf-best", "hf-parts"

BOTH = ("mlm", "pair")
SYSTEMS = {
    system.name: system
    for system in (
        System("jinyi", "jinyi, bf16", "jinyi", (), precision="bfloat16", tasks=BOTH),
        System("jinyi-fp32", "jinyi, float32", "jinyi", (), tasks=BOTH),
        System(DEFAULT, "Trainer, defaults", "trainer", (), tasks=BOTH),
        System("hf-grouped", "Trainer, group_by_length", "trainer", (), tasks=("pair",)),
        System(BEST, "Trainer, bf16, fused AdamW, grouped", "trainer", (), precision="bfloat16", tasks=BOTH),
        System(PARTS, "the same, in parts like jinyi", "trainer", (), precision="bfloat16", tasks=BOTH),
    )
}


@dataclass(frozen=True)
class Section:
    """One model and one kind of training.

    Args:
        name: what --sections takes.
        task: "mlm" or "pair".
        shape: sizes of the encoder.
        rows: of an optimiser step.
        accumulate: parts jinyi computes a step in, so that what a layer makes stays in the cache.
        steps: measured in each round, full and with --quick.
    """

    name: str
    task: str
    shape: dict[str, int]
    rows: int
    accumulate: int
    steps: tuple[int, int]


SECTIONS = (
    Section("tiny-mlm", "mlm", TINY, 64, 4, (3, 1)),
    Section("tiny-pair", "pair", TINY, 64, 1, (12, 2)),
    Section("base-mlm", "mlm", BASE, 16, 1, (2, 1)),
    Section("base-pair", "pair", BASE, 16, 1, (4, 1)),
)


def write_work(work: Path, data: Path | None, count: int) -> dict[str, np.ndarray]:
    """Write tokenizer, shards, pairs and the same rows as arrays; returns the lengths of each task's rows."""
    folder = random_folder(work / "model", {**TINY, "num_hidden_layers": 1}, "embed")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    (work / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    if data is None:
        texts, sides = made_up(count * LENGTH // 12, seed=1), made_up(2 * count)
        pairs = [{"texta": a, "textb": b, "label": i % 2} for i, (a, b) in enumerate(pair_up(sides))]
    else:
        texts = list(dict.fromkeys(row["text"] for row in read_rows(data, "iflytek")))
        pairs = [
            {name: row[name] for name in ("texta", "textb", "label")}
            for row in read_rows(data, "afqmc", "train")
        ][:count]
    write_shards([[text] for text in texts], tokenizer, work / "shards", words=None)
    lines = (json.dumps(row, ensure_ascii=False) for row in pairs)
    (work / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ids = np.asarray(Shards.open(work / "shards").ids, np.int64)[: count * (LENGTH - 2)]
    inner = ids[: len(ids) // (LENGTH - 2) * (LENGTH - 2)].reshape(-1, LENGTH - 2)
    mlm = np.pad(inner, ((0, 0), (1, 1)))
    mlm[:, 0], mlm[:, -1] = tokenizer.cls_id, tokenizer.sep_id
    encoded = tokenizer.encode_pairs(
        [(row["texta"], row["textb"]) for row in pairs], max_length=LENGTH, truncate="report"
    )
    lengths = np.array([len(row) for row in encoded.ids])
    np.savez(
        work / "rows.npz",
        mlm=mlm,
        pairs=np.concatenate([np.asarray(row) for row in encoded.ids]),
        bounds=np.concatenate(([0], lengths.cumsum())),
        splits=np.asarray(encoded.splits),
        labels=np.array([int(row["label"]) for row in pairs]),
    )
    return {"mlm": np.full(len(mlm), LENGTH), "pair": lengths}


def pair_up(sides: list[str]) -> list[tuple[str, str]]:
    half = len(sides) // 2
    return list(zip(sides[:half], sides[half:], strict=True))


def useful_gflop(section: Section, lengths: np.ndarray) -> float:
    """Of the matrix products of one real token's forward and backward pass, MLM head at the masked places only."""
    config = EncoderConfig(vocab_size=VOCABULARY, **section.shape)
    width = config.hidden_size
    flops = encoder_flops(config, lengths) / lengths.sum()
    if section.task == "mlm":
        flops += MASKED * 2 * width * (width + VOCABULARY)
    return 3 * flops / 1e9


class Benchmark:
    """The run, and the result that grows as JSON-ready data."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        machine = describe()
        self.threads = options.threads or machine["cores"]
        self.result: dict[str, Any] = {
            "machine": machine,
            "settings": {
                "rounds": options.rounds,
                "quick": options.quick,
                "threads": self.threads,
                "device": options.device,
                "texts": "made up" if options.data is None else "AFQMC and IFLYTEK",
            },
            "limits": {},
            "sections": [],
        }
        # A system without the arithmetic would only emulate it.
        self.half = options.device == "cuda" or machine["bfloat16"]
        say("writing rows")
        self.lengths = write_work(work, options.data, 400 if options.quick else 6000)

    def run(self) -> None:
        """Measure all sections; the JSON file is written after each."""
        with ExitStack() as stack:
            limits = [self.open(stack, system, {}, "limits") for system in self.limit_systems()]
            for section in SECTIONS:
                if section.name in self.options.sections:
                    self.measure_limits(limits)
                    self.section(section)
                    self.measure_limits(limits)
                    self.write()

    def limit_systems(self) -> list[System]:
        systems = list(LIMITS)
        if self.options.device == "cuda":
            kinds = ("float32", "bfloat16")
            systems = [
                System(f"products-{kind}", "PyTorch", "products", (), precision=kind) for kind in kinds
            ]
        return [system for system in systems if self.half or system.precision == "float32"]

    def measure_limits(self, workers: list[Worker]) -> None:
        """The best there ever was is the limit."""
        for worker in workers:
            time.sleep(PAUSE)
            if self.options.device == "cuda":
                found = worker.ask(steps=0, round=0)["gflops"]
            else:
                worker.ask(many=None, save=str(self.work / "products.npy"))
                found = float(np.load(self.work / "products.npy")[0])
            limits, kind = self.result["limits"], worker.system.precision
            if found > limits.get(kind, {}).get("gflops", 0.0):
                limits[kind] = {"gflops": found, "library": worker.system.label}

    def section(self, section: Section) -> None:
        """Let all systems train some steps in turn."""
        lengths = self.lengths[section.task]
        found: dict[str, Any] = {
            "name": section.name,
            "rows": section.rows,
            "accumulate": section.accumulate,
            "mean_tokens": float(lengths.mean()),
            "gflop": useful_gflop(section, lengths),
            "systems": {},
            "failed": {},
        }
        self.result["sections"].append(found)
        with ExitStack() as stack:
            workers = []
            for system in SYSTEMS.values():
                wanted = self.options.only is None or system.name in self.options.only
                wanted &= section.task in system.tasks and (self.half or system.precision == "float32")
                if wanted and (system.name != PARTS or section.accumulate > 1):
                    say(f"{section.name}: opening {system.label}")
                    try:
                        workers.append(self.open(stack, system, self.spec(section, system), section.name))
                    except WorkerError as error:
                        found["failed"][system.name] = str(error)
            for number in range(self.options.rounds):
                say(f"{section.name}: round {number + 1}")
                for worker in workers if number % 2 == 0 else workers[::-1]:
                    if worker.system.name not in found["failed"]:
                        time.sleep(PAUSE)
                        self.visit(worker, section, number, found)

    def visit(self, worker: Worker, section: Section, number: int, found: dict[str, Any]) -> None:
        others = OthersLoad(worker.process)
        try:
            answer = worker.ask(steps=section.steps[self.options.quick], round=number)
        except WorkerError as error:
            found["failed"][worker.system.name] = str(error)
            return
        values = found["systems"].setdefault(worker.system.name, {"rounds": []})
        answer["rate"] = answer["tokens"] / answer["seconds"]
        values["rounds"].append({**answer, "others": others.share()})
        values["resident_mb"] = worker.megabytes()

    def spec(self, section: Section, system: System) -> dict[str, Any]:
        return {
            "task": section.task,
            "shape": section.shape,
            "rows": section.rows,
            "accumulate": section.accumulate if system.ours or system.name == PARTS else 1,
            "grouped": section.task == "pair" and system.name != DEFAULT,
        }

    def open(self, stack: ExitStack, system: System, spec: dict[str, Any], tag: str) -> Worker:
        file = self.work / f"{tag}-{system.name}.json"
        common = {
            "kind": system.kind,
            "precision": system.precision,
            "backend": system.backend,
            "first": "",
            "work": str(self.work),
            "device": self.options.device,
            "threads": self.threads,
        }
        file.write_text(json.dumps({**common, **spec}), encoding="utf-8")
        log = self.work / f"{tag}-{system.name}.log"
        limit_on_processor = system in LIMITS
        script = {} if limit_on_processor else {"script": WORKER}
        worker = Worker(system, sys.executable, file, log, **script)
        stack.callback(worker.close)
        return worker

    def write(self) -> None:
        write_result(self.options.json, self.result)


def report(result: dict[str, Any]) -> str:
    """Return the Markdown tables of a result (the content of --json)."""
    settings = result["settings"]
    loads = [
        row["others"]
        for section in result["sections"]
        for values in section["systems"].values()
        for row in values["rounds"]
    ]
    parts = [
        head(result, f"{settings['threads']} threads, device {settings['device']}"),
        limits_line(result),
        disturbance(loads),
    ]
    for section in result["sections"]:
        parts += [section_title(section), section_table(result, section)]
        parts += [f"- {SYSTEMS[name].label}: {why}" for name, why in section["failed"].items()]
    return "\n\n".join(part for part in parts if part)


def section_title(section: dict[str, Any]) -> str:
    return (
        f"## {section['name']}: {section['rows']} rows a step, {section['mean_tokens']:.1f} tokens a row, "
        f"{1e3 * section['gflop']:.1f} MFLOP a token"
    )


def section_table(result: dict[str, Any], section: dict[str, Any]) -> str:
    header = ["", "real tokens/s", "x defaults", "x best", "GFLOP/s", "of the limit", "loss", "resident, MB"]
    measured = section["systems"]
    rates = {
        name: statistics.median(row["rate"] for row in values["rounds"]) for name, values in measured.items()
    }
    rows = []
    for name, values in measured.items():
        gflops = rates[name] * section["gflop"]
        limit = result["limits"].get(SYSTEMS[name].precision)
        losses = values["rounds"][0]["losses"][0], values["rounds"][-1]["losses"][1]
        rows.append(
            [
                SYSTEMS[name].label,
                rate_cell(values["rounds"]),
                *(f"{rates[name] / rates[base]:.2f}" if base in rates else "" for base in (DEFAULT, BEST)),
                number(gflops),
                f"{gflops / limit['gflops']:.0%}" if limit else "",
                f"{losses[0]:.2f} to {losses[1]:.2f}",
                f"{values['resident_mb']:,.0f}",
            ]
        )
    return table(header, rows)


def main() -> int:
    parser = shared_options(__doc__)
    parser.add_argument("--data", type=Path, help="folder with afqmc and iflytek; made-up texts without it")
    parser.add_argument("--only", type=names_of(SYSTEMS.values()), help=", ".join(SYSTEMS))
    parser.add_argument(
        "--sections",
        type=names_of(SECTIONS),
        default={section.name for section in SECTIONS},
        help=", ".join(section.name for section in SECTIONS),
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="default: the cores really there")
    options = parsed(parser)
    return run_benchmark(lambda folder: Benchmark(options, folder), report)


if __name__ == "__main__":
    sys.exit(main())
