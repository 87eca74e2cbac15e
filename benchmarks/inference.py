"""Speed of jinyi beside sentence-transformers (torch, onnx, openvino) and plain onnxruntime, in one interleaved run.

    python benchmarks/inference.py [--data DATA] [--json FILE] [--quick] [--rounds N] [--only SYSTEMS] [--models MODELS]

DATA is a folder with afqmc/dev.jsonl (texta, textb) and iflytek/dev.jsonl (text), .xz allowed; without it, made-up
texts of the same lengths are used. Every system is a process of its own that stays alive; in each round all of them
compute the same texts in turn, A B C and then C B A. Tables have medians over the rounds. What the systems compute is
compared before anything is timed. See benchmarks/README.md for the environment of the other side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import busy_core, describe
from report import LEFT_OUT, report
from systems import (
    LIMITS,
    SYSTEMS,
    WORKER,
    Environment,
    System,
    Worker,
    WorkerError,
    last_error,
    run_benchmark,
    say,
    worker_environment,
)
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

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / ("Scripts" if os.name == "nt" else "bin") / "python"
INSTALL_PEERS = (
    f"python -m venv .venv-peers; {PEERS.relative_to(ROOT)} -m pip install -r benchmarks/peers.txt"
)

PAUSE = 0.3  # seconds between two systems: idle threads of the last one spin for a while
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


class Benchmark:
    """The run: options, environments, and the result that grows as JSON-ready data."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.work = work
        self.machine = describe()
        pythons = dict.fromkeys((sys.executable, str(options.peers)))
        self.environments = [Environment.probe(python) for python in pythons if shutil.which(python)]
        self.homes: dict[str, Environment] = {}
        self.result: dict[str, Any] = {
            "machine": self.machine,
            "settings": {
                "rounds": options.rounds,
                "quick": options.quick,
                "least_cosine": LEAST_COSINE,
                "most_difference": MOST_DIFFERENCE,
                "reference": REFERENCE,
                "texts": "made up" if options.data is None else "AFQMC and IFLYTEK, dev",
            },
            "limits": {},
            "systems": {},
            "sections": [],
        }
        for system in (*SYSTEMS, *LIMITS):
            status = self._place(system)
            if system in SYSTEMS:
                known = {"label": system.label, "ours": system.ours, "precision": self._precision(system)}
                self.result["systems"][system.name] = {**known, **status}

    def _precision(self, system: System) -> str:
        if system.precision == "native":
            return "bfloat16" if self.machine["bfloat16"] else "float32"
        return system.precision

    def _place(self, system: System) -> dict[str, Any]:
        """Choose the environment a system runs in; says why where there is none."""
        if self.options.only and system in SYSTEMS and system.name not in self.options.only:
            return {"status": LEFT_OUT}
        if system.precision == "bfloat16" and not self.machine["bfloat16"]:
            return {"status": "not on this processor (no AVX512_BF16 or AMX)"}
        home = next((environment for environment in self.environments if environment.has(system)), None)
        if home is None:
            return {"status": "missing; to install it: " + INSTALL_PEERS}
        self.homes[system.name] = home
        return {
            "status": "measured",
            "installed_mb": home.megabytes(system),
            "versions": home.versions(system),
        }

    def run(self) -> None:
        """Measure all sections; the JSON file is written after each."""
        with ExitStack() as stack:
            limits = [
                stack.enter_context(self.worker(system, {"precision": system.precision}, "limits"))
                for system in LIMITS
                if system.name in self.homes
            ]
            for section in SECTIONS:
                if section.name in self.options.models:
                    self._limits(limits)
                    run = SectionRun(self, section)
                    self.result["sections"].append(run.result)
                    run.run()
                    self._limits(limits)
                    self.write()

    def write(self) -> None:
        """Write what there is so far to --json."""
        if self.options.json:
            text = json.dumps(self.result, indent=1, ensure_ascii=False) + "\n"
            self.options.json.write_text(text, encoding="utf-8")

    def _limits(self, workers: list[Worker]) -> None:
        """Measure matrix products; the best there ever was is the limit."""
        limits = self.result["limits"]
        for worker in workers:
            time.sleep(PAUSE)
            file = self.work / "products.npy"
            worker.ask(many=None, save=str(file))
            precision, value = worker.system.precision, float(np.load(file)[0])
            if value > limits.get(precision, {}).get("gflops", 0.0):
                limits[precision] = {"gflops": value, "library": worker.system.label}

    @contextmanager
    def worker(self, system: System, spec: dict[str, Any], tag: str) -> Iterator[Worker]:
        """Run a worker of a system; SPEC is written beside its log."""
        worker = Worker(
            system, self.homes[system.name].python, self.spec_file(system, spec, tag), self.log(system)
        )
        try:
            yield worker
        finally:
            worker.close()

    def prepare(self, system: System, spec: dict[str, Any], tag: str) -> None:
        """Let a system export the model, in a process that ends afterwards."""
        file = self.spec_file(system, spec, tag)
        command = [self.homes[system.name].python, str(WORKER), "prepare", str(file)]
        with self.log(system).open("ab") as log:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=log, env=worker_environment(), check=False
            )
        if done.returncode:
            raise WorkerError(last_error(self.log(system)))

    def spec_file(self, system: System, spec: dict[str, Any], tag: str) -> Path:
        """Write a SPEC for worker.py."""
        file = self.work / f"{tag}-{system.name}.json"
        own = {
            "kind": system.kind,
            "precision": system.precision,
            "backend": system.backend,
            "symmetric": system.symmetric,
            "first": "",
        }
        file.write_text(json.dumps({**own, **spec}, ensure_ascii=False), encoding="utf-8")
        return file

    def log(self, system: System) -> Path:
        """Where a system's messages go."""
        return self.work / f"{system.name}.log"


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

            def measure(
                worker: Worker, number: int, name: str = name, count: int = count, total: int = total
            ) -> None:
                start = number * count % (total - count + 1)
                seconds = worker.ask(one=name, start=start, stop=start + count)["seconds"]
                self._of(worker.system).setdefault("one", {}).setdefault(name, []).extend(seconds)

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


def names_of(known: tuple[Any, ...]) -> Callable[[str], set[str]]:
    """An argparse type: names from a comma-separated list."""
    names = {item.name for item in known}

    def parse(text: str) -> set[str]:
        chosen = set(text.split(","))
        if not chosen <= names:
            raise argparse.ArgumentTypeError(
                f"unknown {', '.join(sorted(chosen - names))}; known: {', '.join(sorted(names))}"
            )
        return chosen

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with afqmc and iflytek; made-up texts without it")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: does it run at all")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    parser.add_argument(
        "--only",
        type=names_of(SYSTEMS),
        help="systems, comma-separated: " + ", ".join(s.name for s in SYSTEMS),
    )
    parser.add_argument(
        "--models",
        type=names_of(SECTIONS),
        default={section.name for section in SECTIONS},
        help="tiny, base, pairs; comma-separated",
    )
    parser.add_argument(
        "--peers", type=Path, default=PEERS, help="interpreter of the environment of peers.txt"
    )
    parser.add_argument(
        "--work", type=Path, help="keep exported models and logs in this folder for the next run"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    return run_benchmark(lambda folder: Benchmark(options, folder), report, options.work)


if __name__ == "__main__":
    sys.exit(main())
