"""Speed of jinyi beside sentence-transformers (torch, onnx, openvino) and plain onnxruntime, in one interleaved run.

    python benchmarks/inference.py [--data DATA] [--json FILE] [--quick] [--rounds N] [--only SYSTEMS] [--models MODELS]

DATA is a folder with afqmc/dev.jsonl (texta, textb) and iflytek/dev.jsonl (text), .xz allowed; without it, made-up
texts of the same lengths are used. Every system is a process of its own that stays alive; in each round all of them
compute the same texts in turn, A B C and then C B A. Tables have medians over the rounds. What the systems compute is
compared before anything is timed. See benchmarks/README.md for the environment of the other side.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from command import names_of, parsed, shared_options, write_result
from inference_section import LEAST_COSINE, MOST_DIFFERENCE, PAUSE, REFERENCE, SECTIONS, SectionRun
from machine import describe
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
    worker_environment,
)

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / ("Scripts" if os.name == "nt" else "bin") / "python"
INSTALL_PEERS = (
    f"python -m venv .venv-peers; {PEERS.relative_to(ROOT)} -m pip install -r benchmarks/peers.txt"
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
        write_result(self.options.json, self.result)

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


def main() -> int:
    parser = shared_options(__doc__)
    parser.add_argument("--data", type=Path, help="folder with afqmc and iflytek; made-up texts without it")
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
    options = parsed(parser)
    return run_benchmark(lambda folder: Benchmark(options, folder), report, options.work)


if __name__ == "__main__":
    sys.exit(main())
