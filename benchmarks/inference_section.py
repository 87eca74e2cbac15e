"""One model of benchmarks/inference.py: what is measured with it, and all of its measurements."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import busy_core
from systems import SYSTEMS, System, Worker, WorkerError, say
from tokenizers import Tokenizer as Backend
from workloads import (
    BASE,
    TINY,
    encoder_flops,
    long_texts,
    random_folder,
    short_texts,
    text_pairs,
    token_lengths,
)

from jinyi.folder import ModelFolder, read_folder
from jinyi.registry import find_model, shipped_models

if TYPE_CHECKING:
    from inference import Benchmark

PAUSE = 0.3  # seconds between two systems: idle threads of the last one spin for a while
SETTLE = 3.0  # seconds: after the first single calls jinyi compiles graphs for their shapes
LEAST_COSINE = 0.9999  # of two float32 systems
MOST_DIFFERENCE = 1e-3  # of their probabilities
REFERENCE = "st"  # what the others' results are compared with


@dataclass(frozen=True)
class Section:
    """One model and what is measured with it.

    Args:
        name: what --models takes.
        task: "embed" or "pair".
        shape: sizes of the random model.
        shipped: name of the model in the package that is taken instead, if it is there.
        many: inputs of each workload whose throughput is measured, full and with --quick.
        one: inputs computed one by one in each round, full and with --quick.
        start_up: start-up is measured with this model.
        busy: the first workload is measured with one busy core too.
    """

    name: str
    task: str
    shape: dict[str, int]
    shipped: str | None
    many: dict[str, tuple[int, int]]
    one: dict[str, tuple[int, int]]
    start_up: bool = False
    busy: bool = False


SECTIONS = (
    Section(
        "tiny",
        "embed",
        TINY,
        "jinyi-tiny-embed",
        {"short": (3000, 300), "128": (300, 24), "512": (40, 4)},
        {"short": (150, 40), "128": (40, 8)},
        start_up=True,
        busy=True,
    ),
    Section(
        "base",
        "embed",
        BASE,
        None,
        {"short": (80, 12), "128": (12, 2), "512": (3, 1)},
        {"short": (20, 5)},
    ),
    Section("pairs", "pair", TINY, "jinyi-tiny-pair", {"pairs": (1500, 150)}, {"pairs": (80, 20)}, busy=True),
)


class SectionRun:
    """All measurements of one model."""

    def __init__(self, benchmark: Benchmark, section: Section) -> None:
        self.benchmark = benchmark
        self.section = section
        self.rounds = benchmark.options.rounds
        folder = self._folder()
        self.folder: ModelFolder = read_folder(folder, task=section.task)
        tokenizer = Backend.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        self.inputs = self._inputs(tokenizer)
        self.work_file = benchmark.work / f"{section.name}-inputs.json"
        self.work_file.write_text(json.dumps(self.inputs, ensure_ascii=False), encoding="utf-8")
        # With --work the exports outlive the run, but never their model.
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]
        prepared = benchmark.work / f"prepared-{digest}"
        prepared.mkdir(exist_ok=True)
        first = next(iter(self.inputs.values()))
        self.spec = {
            "model": str(folder),
            "prepared": str(prepared),
            "task": section.task,
            "max_length": self.folder.config.max_position_embeddings,
            "pooling": self.folder.pooling,
            "similar": self.folder.similar if section.task == "pair" else 0,
            "first": first[0],
        }
        self.result: dict[str, Any] = {
            "name": section.name,
            "task": section.task,
            "model": self.folder.path.name,
            "layers": self.folder.config.num_hidden_layers,
            "width": self.folder.config.hidden_size,
            "workloads": {
                name: self._describe(name, token_lengths(inputs, tokenizer))
                for name, inputs in self.inputs.items()
            },
            "int8": self.folder.record.get("int8"),
            "failed": {},
            "systems": {},
        }

    def run(self) -> None:
        """Prepare, start, compare, then time."""
        say(f"{self.section.name}: {self.folder.path.name}")
        with ExitStack() as stack:
            workers = self._start(stack)
            workers = self._compare(workers)
            self._throughput(workers)
            self._latency(workers)
            if self.section.busy:
                self._busy(workers)
            for worker in workers:
                if worker.system.name not in self.result["failed"]:
                    self._of(worker.system)["resident_mb"] = worker.megabytes()
        if self.section.start_up:
            self._start_up(workers)

    # ------------------------------------------------------------ preparation

    def _folder(self) -> Path:
        section = self.section
        if section.shipped in {entry.name for entry in shipped_models()}:
            return find_model(str(section.shipped))
        path = self.benchmark.work / f"random-{section.name}"
        return path if path.exists() else random_folder(path, section.shape, section.task)

    def _inputs(self, tokenizer: Backend) -> dict[str, list[Any]]:
        data, quick = self.benchmark.options.data, self.benchmark.options.quick
        makers: dict[str, Callable[[int], list[Any]]] = {
            "short": lambda count: short_texts(data, count),
            "pairs": lambda count: text_pairs(data, count),
        }
        return {
            name: makers[name](sizes[quick])
            if name in makers
            else long_texts(data, sizes[quick], int(name), tokenizer)
            for name, sizes in self.section.many.items()
        }

    def _describe(self, name: str, lengths: np.ndarray) -> dict[str, float]:
        return {
            "inputs": len(lengths),
            "mean_tokens": float(lengths.mean()),
            "p95_tokens": float(np.percentile(lengths, 95)),
            "gflop": encoder_flops(self.folder.config, lengths) / len(lengths) / 1e9,
        }

    def _start(self, stack: ExitStack) -> list[Worker]:
        workers = []
        for system in SYSTEMS:
            if system.name in self.benchmark.homes and self.section.task in system.tasks:
                say(f"  opening {system.label}")
                try:
                    self.benchmark.prepare(system, self.spec, self.section.name)
                    worker = stack.enter_context(self.benchmark.worker(system, self.spec, self.section.name))
                    worker.ask(load=str(self.work_file))
                    workers.append(worker)
                except WorkerError as error:
                    self._fail(system, str(error))
        return workers

    def _compare(self, workers: list[Worker]) -> list[Worker]:
        """Compute everything once, unmeasured, and compare; returns the workers that may be timed."""
        say("  comparing what they compute")
        outputs: dict[str, dict[str, np.ndarray]] = {}

        def collect(worker: Worker, number: int) -> None:
            outputs[worker.system.name] = self._outputs(worker)

        self._visit(workers, 1, collect)
        workers = [worker for worker in workers if worker.system.name in outputs]
        agreed = []
        if REFERENCE not in outputs and outputs:
            self.benchmark.result["settings"]["reference"] = next(iter(outputs))
        reference = outputs.get(self.benchmark.result["settings"]["reference"], {})
        for worker in workers:
            system = worker.system
            worst = [agreement(outputs[system.name][name], values) for name, values in reference.items()]
            embed = self.section.task == "embed"
            value = min(worst) if embed else max(worst)
            self._of(system)["agreement"] = value
            wrong = not (value >= LEAST_COSINE if embed else value <= MOST_DIFFERENCE)
            if wrong and system.precision == "float32" and not system.symmetric:
                self._fail(system, f"not timed, its results differ ({value:.6f})")
            else:
                agreed.append(worker)
        return agreed

    def _outputs(self, worker: Worker) -> dict[str, np.ndarray]:
        file = self.benchmark.work / "outputs.npy"
        outputs = {}
        for name in self.inputs:
            worker.ask(many=name, save=str(file))
            outputs[name] = np.load(file)
        return outputs

    # ------------------------------------------------------------ measurement

    def _visit(self, workers: list[Worker], rounds: int, measure: Callable[[Worker, int], None]) -> None:
        """Measure A B C, C B A, A B C ..., with a pause before each; a worker that ends drops out."""
        for number in range(rounds):
            for worker in workers if number % 2 == 0 else workers[::-1]:
                if worker.system.name in self.result["failed"]:
                    continue
                time.sleep(PAUSE)
                try:
                    measure(worker, number)
                except WorkerError as error:
                    self._fail(worker.system, str(error))

    def _throughput(self, workers: list[Worker]) -> None:
        for name, inputs in self.inputs.items():
            say(f"  throughput: {name}")

            def measure(worker: Worker, number: int, name: str = name, count: int = len(inputs)) -> None:
                rates = self._of(worker.system).setdefault("many", {}).setdefault(name, [])
                rates.append(worker.rate(name, count))

            self._visit(workers, self.rounds, measure)

    def _latency(self, workers: list[Worker]) -> None:
        for name, sizes in self.section.one.items():
            say(f"  one at a time: {name}")
            total = len(self.inputs[name])
            count = min(sizes[self.benchmark.options.quick], total)

            def warm(worker: Worker, number: int, name: str = name, count: int = count) -> None:
                worker.ask(one=name, start=0, stop=count)
                time.sleep(SETTLE)

            def measure(
                worker: Worker, number: int, name: str = name, count: int = count, total: int = total
            ) -> None:
                start = number * count % (total - count + 1)
                seconds = worker.ask(one=name, start=start, stop=start + count)["seconds"]
                self._of(worker.system).setdefault("one", {}).setdefault(name, []).extend(seconds)

            self._visit(workers, 1, warm)
            self._visit(workers, self.rounds, measure)

    def _busy(self, workers: list[Worker]) -> None:
        say("  with one busy core")
        name, inputs = next(iter(self.inputs.items()))

        def measure(worker: Worker, number: int) -> None:
            self._of(worker.system).setdefault("busy", []).append(worker.rate(name, len(inputs)))

        with busy_core():
            self._visit(workers, min(self.rounds, 3), measure)

    def _start_up(self, workers: list[Worker]) -> None:
        """Time fresh processes until their first vector; their files are cached by now."""
        say("  start-up")

        def measure(worker: Worker, number: int) -> None:
            with self.benchmark.worker(worker.system, self.spec, self.section.name) as fresh:
                measured = {**fresh.start_up, "resident_mb": fresh.megabytes()}
            self._of(worker.system).setdefault("start_up", []).append(measured)

        self._visit(workers, 1 if self.benchmark.options.quick else self.rounds, measure)

    def _fail(self, system: System, why: str) -> None:
        say(f"  {system.label}: {why}")
        self.result["failed"][system.name] = why
        self.result["systems"].pop(system.name, None)

    def _of(self, system: System) -> dict[str, Any]:
        values: dict[str, Any] = self.result["systems"].setdefault(system.name, {})
        return values


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the least cosine of rows, or the largest difference of probabilities."""
    if found.shape != expected.shape:
        return float("nan")
    if found.ndim == 1:
        return float(np.abs(found - expected).max())
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / lengths).min())
