"""The systems under test, the environments they are installed in, and their worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
from machine import OthersLoad

WORKER = Path(__file__).resolve().parent / "worker.py"


@dataclass(frozen=True)
class System:
    """One row of the tables.

    Args:
        name: what --only takes.
        label: what the tables say.
        kind: class in worker.py.
        needs: distributions it needs installed; their size counts.
        prepared_by: further ones needed once, to export the model.
        precision: of its arithmetic; "bfloat16" is left out where the processor does not have it, "native" is
            bfloat16 there and float32 elsewhere.
        backend: of sentence-transformers.
        tasks: "embed", "pair" or both.
        symmetric: both orders of a pair are computed.
    """

    name: str
    label: str
    kind: str
    needs: tuple[str, ...]
    prepared_by: tuple[str, ...] = ()
    precision: str = "float32"
    backend: str = ""
    tasks: tuple[str, ...] = ("embed", "pair")
    symmetric: bool = False

    @property
    def ours(self) -> bool:
        """Whether this is jinyi."""
        return self.kind == "jinyi"


ST = ("sentence-transformers",)
SYSTEMS = (
    System("jinyi", "jinyi, float32", "jinyi", ("jinyi",)),
    System("jinyi-bf16", "jinyi, bfloat16", "jinyi", ("jinyi",), precision="bfloat16"),
    System("jinyi-int8", "jinyi, int8", "jinyi", ("jinyi",), precision="int8"),
    System("jinyi-both", "jinyi, float32, both orders", "jinyi", ("jinyi",), tasks=("pair",), symmetric=True),
    System("st", "sentence-transformers, torch", "sentence-transformers", ST, backend="torch"),
    System(
        "st-bf16",
        "sentence-transformers, torch bfloat16",
        "sentence-transformers",
        ST,
        precision="bfloat16",
        backend="torch",
    ),
    System(
        "st-onnx",
        "sentence-transformers, onnx",
        "sentence-transformers",
        (*ST, "optimum-onnx", "onnxruntime"),
        backend="onnx",
    ),
    System(
        "st-openvino",
        "sentence-transformers, openvino",
        "sentence-transformers",
        (*ST, "optimum-intel", "openvino"),
        precision="native",  # OpenVINO takes bfloat16 by itself where the processor has it
        backend="openvino",
    ),
    System("ort", "onnxruntime, fused", "onnxruntime", ("onnxruntime", "tokenizers"), (*ST, "optimum-onnx")),
    System(
        "ort-int8",
        "onnxruntime, fused, dynamic int8",
        "onnxruntime",
        ("onnxruntime", "tokenizers"),
        (*ST, "optimum-onnx"),
        precision="int8",
    ),
)
LIMITS = (
    System("products-numpy", "numpy", "products", ("numpy",), backend="numpy"),
    System("products-openvino", "OpenVINO", "products", ("openvino",), backend="openvino"),
    System(
        "products-bf16",
        "OpenVINO bfloat16",
        "products",
        ("openvino",),
        precision="bfloat16",
        backend="openvino",
    ),
)
VERSIONS_OF = ("torch", "transformers", "numpy", "openvino", "onnxruntime", "tokenizers")


class WorkerError(Exception):
    """A worker process ended instead of answering."""


@dataclass(frozen=True)
class Environment:
    """A Python environment and what is installed in it, as `worker.py probe` tells."""

    python: str
    found: dict[str, Any]

    @classmethod
    def probe(cls, python: str) -> Environment:
        """Ask an interpreter."""
        systems = (*SYSTEMS, *LIMITS)
        names = sorted(
            {name for system in systems for name in (*system.needs, *system.prepared_by)} | {*VERSIONS_OF}
        )
        done = subprocess.run(
            [python, str(WORKER), "probe", *names], capture_output=True, encoding="utf-8", check=True
        )
        return cls(python, json.loads(done.stdout))

    def has(self, system: System) -> bool:
        """Whether a system can run here."""
        return all(name in self.found for name in (*system.needs, *system.prepared_by))

    def megabytes(self, system: System) -> float:
        """Size of all that a system needs installed."""
        sizes: dict[str, int] = {}
        for name in system.needs:
            sizes |= self.found[name]["sizes"]
        return sum(sizes.values()) / 1e6

    def versions(self, system: System) -> dict[str, str]:
        """Versions of what a system needs and of the libraries that do its work."""
        needed = {key for name in system.needs for key in self.found[name]["sizes"]} | {*system.needs}
        return {
            name: self.found[name]["version"]
            for name in (*system.needs, *VERSIONS_OF)
            if name in needed and name in self.found
        }


class Worker:
    """A running worker.py, or another script that speaks like it; see its `serve` for the requests."""

    def __init__(self, system: System, python: str, spec: Path, log: Path, script: Path = WORKER) -> None:
        self.system = system
        self._log = log
        begin = time.perf_counter()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, str(script), "serve", str(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env=worker_environment(),
            )
        self.process = psutil.Process(self._process.pid)
        try:
            parts = self._answer()
        except WorkerError:
            self.close()
            raise
        self.start_up = {"total": time.perf_counter() - begin, **parts}

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer, or rather its absence, tells
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def rate(self, workload: str, count: int) -> dict[str, float]:
        """Compute a workload; returns inputs per second, processor seconds per second, and others' load."""
        others = OthersLoad(self.process)
        result = self.ask(many=workload)
        return {
            "rate": count / result["seconds"],
            "cores": result["cpu"] / result["seconds"],
            "others": others.share(),
        }

    def megabytes(self) -> float:
        """Resident memory now."""
        return float(self.process.memory_info().rss / 1e6)

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of a process that has ended before
                    pipe.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise WorkerError(f"ended with exit code {code}; {last_error(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Measurement(Protocol):
    """What `run_benchmark` runs: `result` fills up in `run`, with its "sections" and what "failed" in each."""

    result: dict[str, Any]

    def run(self) -> None:
        """Measure everything."""

    def write(self) -> None:
        """Write the result to the file that was asked for, if any."""


def run_benchmark(
    begin: Callable[[Path], Measurement], report: Callable[[dict[str, Any]], str], place: Path | None = None
) -> int:
    """Run a benchmark; print and write what was measured, also where it is interrupted.

    Args:
        begin: makes the benchmark, from the folder it may write to.
        report: the result as text.
        place: that folder; None for a temporary one.

    Returns:
        The exit code: 0, 1 where a system failed, 130 after an interruption.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `timeout` leaves no workers and files
    with tempfile.TemporaryDirectory(prefix="jinyi-benchmark-") as temporary:
        folder = place or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        benchmark = begin(folder.resolve())
        interrupted = False
        try:
            benchmark.run()
        except KeyboardInterrupt:
            say("interrupted: tables of what was measured")
            interrupted = True
        print(report(benchmark.result))
        benchmark.write()
    failed = any(section["failed"] for section in benchmark.result["sections"])
    return 130 if interrupted else int(failed)


def say(text: str) -> None:
    """Tell how it goes, on standard error."""
    print(text, file=sys.stderr, flush=True)


def worker_environment() -> dict[str, str]:
    """Peers look for newer files on the Hugging Face hub unless told not to."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def last_error(log: Path) -> str:
    """The last exception in a log, or what comes last, on one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    begins = [place for place, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)]
    return " ".join(line.strip() for line in lines[begins[-1] if begins else -3 :]) or "no message"
