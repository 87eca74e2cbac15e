"""The servers that server.py compares: how each is started, what it takes, and the load that is put on it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from systems import WORKER, WorkerError, last_error, worker_environment

HERE = Path(__file__).resolve().parent
LOAD = HERE / "load.py"
NAME = "tiny"  # what every server calls the model
PATH = "/v1/embeddings"
READY_S = 120.0


@dataclass(frozen=True)
class ServerSystem:
    """One row of the tables.

    Args:
        name: what --only takes.
        label: what the tables say.
        kind: "jinyi", "infinity" or "plain".
        precision: of its arithmetic.
        engine: infinity's.
        options: further ones of its command.
        variant_of: another system, with whose capacity and in whose place it is put under overload alone.
    """

    name: str
    label: str
    kind: str
    precision: str = "float32"
    engine: str = ""
    options: tuple[str, ...] = ()
    variant_of: str = ""

    @property
    def ours(self) -> bool:
        """Whether this is jinyi."""
        return self.kind == "jinyi"

    def needs(self) -> tuple[str, ...]:
        """Distributions without which it does not run."""
        return {
            "jinyi": ("jinyi", "fastapi", "uvicorn", "orjson", "prometheus-client"),
            "infinity": (
                "infinity-emb",
                *(("optimum-onnx", "onnxruntime") if self.engine == "optimum" else ()),
            ),
            "plain": ("sentence-transformers", "fastapi", "uvicorn"),
        }[self.kind]

    def installed(self, python: str) -> dict[str, Any]:
        """Return versions, and MB of all that is needed, as an environment has them; empty where one is missing."""
        further = ("torch", "transformers", "openvino", "onnxruntime")
        done = subprocess.run(
            [python, str(WORKER), "probe", *self.needs(), *further],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        if not all(name in found for name in self.needs()):
            return {}
        sizes: dict[str, int] = {}
        for name in self.needs():
            sizes |= found[name]["sizes"]
        told = [*self.needs(), *(name for name in further if name in sizes)]
        versions = {name: found[name]["version"] for name in dict.fromkeys(told)}
        return {"versions": versions, "installed_mb": sum(sizes.values()) / 1e6}

    def command(self, python: str, folder: Path, port: int) -> list[str]:
        """Return what starts it; infinity's ONNX engine takes the current folder's model.onnx."""
        if self.kind == "plain":
            return [python, str(HERE / "server_peer.py"), str(folder), str(port)]
        address = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        if self.kind == "jinyi":
            command = [python, "-m", "jinyi", "serve", "--model", f"{NAME}={folder}"]
            return [*command, "--precision", self.precision, *self.options, *address]
        model = "." if self.engine == "optimum" else str(folder)
        command = [str(Path(python).with_name("infinity_emb")), "v2", "--model-id", model, "--device", "cpu"]
        command += ["--engine", self.engine, "--pooling-method", "cls", "--dtype", self.precision]
        return [*command, "--served-model-name", NAME, "--url-prefix", "/v1", *address]


SERVERS = (
    ServerSystem("jinyi", "jinyi serve, float32", "jinyi"),
    ServerSystem(
        "jinyi-brief",
        "jinyi serve, float32, --max-wait 0.005",
        "jinyi",
        options=("--max-wait", "0.005"),
        variant_of="jinyi",
    ),
    ServerSystem("jinyi-bf16", "jinyi serve, bfloat16", "jinyi", precision="bfloat16"),
    ServerSystem("jinyi-int8", "jinyi serve, int8", "jinyi", precision="int8"),
    ServerSystem("infinity", "infinity, torch", "infinity", engine="torch"),
    ServerSystem("infinity-onnx", "infinity, onnx", "infinity", engine="optimum"),
    ServerSystem("st", "sentence-transformers, FastAPI", "plain"),
)


def export_onnx(python: str, folder: Path, place: Path, log: Path) -> Path:
    """Make the ONNX file that infinity's engine reads, with Optimum, whose engine it is."""
    if not (place / "model.onnx").exists():
        command = [str(Path(python).with_name("optimum-cli")), "export", "onnx", "--model", str(folder)]
        command += ["--library", "transformers", "--task", "feature-extraction", str(place)]
        with log.open("ab") as errors:
            done = subprocess.run(command, stdout=errors, stderr=errors, env=_environment(log), check=False)
        if done.returncode:
            raise WorkerError(last_error(log))
    return place


def _environment(log: Path) -> dict[str, str]:
    """No telemetry, no network, and a cache that goes with the run."""
    return {**worker_environment(), "DO_NOT_TRACK": "1", "HF_HOME": str(log.parent / "hf")}


class Server:
    """A server that runs, and its whole family of processes."""

    def __init__(self, system: ServerSystem, python: str, folder: Path, log: Path) -> None:
        self.system = system
        self.port = _free_port()
        self._log = log
        begin = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                system.command(python, folder, self.port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(log),
                cwd=folder,
                start_new_session=True,
            )
        self.process = psutil.Process(self._process.pid)
        try:
            self._wait()
        except WorkerError:
            self.close()
            raise
        self.start_up = {"total": time.perf_counter() - begin, "resident_mb": self.megabytes()}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, float32 [n, d], and raise for any answer but 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", PATH, body(texts), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise WorkerError(f"answered {answer.status}: {content[:200]!r}")
        rows = sorted(json.loads(content)["data"], key=lambda row: row["index"])
        return np.array([row["embedding"] for row in rows], np.float32)

    def load(self, groups: list[dict[str, Any]], seconds: float, warm_up: float) -> dict[str, Any]:
        """Put a load on it; see load.py. Adds the shares of the processor and the memory over time."""
        spec = {"port": self.port, "seconds": seconds, "warm_up": warm_up, "groups": groups}
        for group in groups:
            group.setdefault("path", PATH)
        busy, own = _busy_seconds(), self._cpu()
        with subprocess.Popen(
            [sys.executable, "-S", str(LOAD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(spec))
            process.stdin.close()
            resident: list[float] = []
            begin = time.perf_counter()
            while process.poll() is None and (seconds > 20 or not resident):
                resident.append(self.megabytes())
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            output = process.stdout.read()
        if process.returncode:
            raise WorkerError(f"load.py ended with exit code {process.returncode}; {last_error(self._log)}")
        result: dict[str, Any] = json.loads(output)
        wall = time.perf_counter() - begin
        server = (self._cpu() - own) / wall
        load = result["cpu"] / wall
        others = (_busy_seconds() - busy) / wall - server - load
        result["cores"] = {"server": server, "load": load, "others": max(0.0, others)}
        result["resident_mb"] = resident
        return result

    def megabytes(self) -> float:
        """Resident memory of all its processes."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss / 1e6
        return total

    def close(self) -> None:
        """End it, gently first."""
        family = self._family()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _wait(self) -> None:
        end = time.perf_counter() + READY_S
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise WorkerError(f"ended with exit code {self._process.returncode}; {last_error(self._log)}")
            try:
                self.embed(["准备好了吗？"])
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
            except WorkerError as error:
                if "answered 503" not in str(error):
                    raise
                time.sleep(0.02)
            else:
                return
        raise WorkerError(f"not ready after {READY_S:.0f} s; {last_error(self._log)}")

    def _family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def _cpu(self) -> float:
        """Processor seconds of all its processes so far."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def body(texts: Sequence[str]) -> bytes:
    """A request of OpenAI's form, on one line."""
    return json.dumps({"model": NAME, "input": list(texts)}, ensure_ascii=False).encode()


def _busy_seconds() -> float:
    """Processor seconds of everything on this machine so far."""
    times = psutil.cpu_times()
    return float(
        times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0)
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
