"""`jinyi serve` beside infinity-emb and sentence-transformers behind FastAPI: one model, the same cores, interleaved.

    python benchmarks/server.py [--data DATA] [--json FILE] [--quick] [--rounds N] [--only SYSTEMS] [--sections NAMES]

Every server is a process (or several) of its own that stays alive; load.py, another process, sends the requests. In
each round all servers get the same load in turn, A B C and then C B A. What they answer is compared before anything is
timed. See benchmarks/README.md for what is measured and for the environment of the other side.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from machine import describe
from report import LEFT_OUT
from server_report import report
from server_systems import SERVERS, Server, ServerSystem, body, export_onnx
from systems import WorkerError, last_error, run_benchmark, say
from workloads import short_texts

import jinyi
from jinyi.registry import find_model

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = ROOT / ".venv-infinity" / ("Scripts" if os.name == "nt" else "bin") / "python"
INSTALL_PEERS = (
    f"python -m venv .venv-infinity; {PEERS.relative_to(ROOT)} -m pip install -r benchmarks/server_peers.txt"
)
MODEL = "jinyi-tiny-embed"
SECTIONS = ("load", "start", "queue", "overload", "fair")
PAUSE = 0.5  # seconds between two servers
LEAST_COSINE = 0.9999
LIMIT_MS = 100.0  # of the 99th percentile, for the highest rate that keeps it
MANY = 32  # texts of a larger request
BULK = 2000  # texts of a request that should not hold others up
SHIFTS = (0.5, 0.25, 0.125, 0.0625)  # of the closed loop's rate, by which the search for a rate moves


class ServerBenchmark:
    """The run: options, environments, and the result that grows as JSON-ready data."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.work = work
        self.folder = find_model(MODEL)
        self.machine = describe()
        self.seconds = 2.0 if options.quick else 6.0
        self.texts = short_texts(options.data, 3000)
        self.bodies = {
            "one": self._bodies("one", [[text] for text in self.texts]),
            "many": self._bodies("many", self._chunks(MANY)),
            "bulk": self._bodies("bulk", [self.texts[:BULK]]),
        }
        self.homes: dict[str, str] = {}
        self.result: dict[str, Any] = {
            "machine": self.machine,
            "settings": {
                "rounds": options.rounds,
                "quick": options.quick,
                "seconds": self.seconds,
                "clients": options.clients,
                "many": MANY,
                "bulk": BULK,
                "limit_ms": LIMIT_MS,
                "model": MODEL,
                "texts": "made up" if options.data is None else "AFQMC, dev",
            },
            "systems": {system.name: self._place(system) for system in SERVERS},
            "sections": [{"name": "servers", "failed": {}}],
            "queue": {},
        }
        self.failed: dict[str, str] = self.result["sections"][0]["failed"]

    def run(self) -> None:
        """Measure every section that is asked for; the JSON file is written after each."""
        wanted = self.options.sections
        systems = [system for system in SERVERS if system.name in self.homes]
        if "queue" in wanted:
            self._queue([system for system in systems if system.ours and not system.variant_of])
        with ExitStack() as stack:
            servers = [server for system in systems if (server := self._open(system, stack))]
            for section, measure in (
                ("load", self._load),
                ("overload", self._overload),
                ("fair", self._fair),
            ):
                if section in wanted:
                    self._each_round(servers, measure, section)
        if "start" in wanted:
            self._starts(systems)
        self.write()

    def write(self) -> None:
        """Write what there is so far to --json."""
        if self.options.json:
            text = json.dumps(self.result, indent=1, ensure_ascii=False) + "\n"
            self.options.json.write_text(text, encoding="utf-8")

    # ------------------------------------------------------------ preparation

    def _chunks(self, size: int) -> list[list[str]]:
        return [self.texts[at : at + size] for at in range(0, len(self.texts) - size + 1, size)]

    def _bodies(self, name: str, requests: list[list[str]]) -> str:
        place = self.work / f"{name}.jsonl"
        place.write_bytes(b"\n".join(map(body, requests)) + b"\n")
        return str(place)

    def _place(self, system: ServerSystem) -> dict[str, Any]:
        """Find the environment a system runs in; says why where there is none."""
        entry: dict[str, Any] = {"label": system.label, "ours": system.ours, "precision": system.precision}
        if self.options.only and system.name not in self.options.only:
            return {**entry, "status": LEFT_OUT}
        if system.precision == "bfloat16" and not self.machine["bfloat16"]:
            return {**entry, "status": "not on this processor (no AVX512_BF16 or AMX)"}
        python = str(self.options.peers) if system.kind == "infinity" else sys.executable
        if shutil.which(python) and (installed := system.installed(python)):
            self.homes[system.name] = python
            return {**entry, **installed, "status": "measured", "rounds": {}}
        missing = INSTALL_PEERS if system.kind == "infinity" else 'pip install -e ".[serve,dev]"'
        return {**entry, "status": f"missing; to install it: {missing}"}

    def _start(self, system: ServerSystem) -> Server:
        log = self.work / f"{system.name}.log"
        folder = self.folder
        if system.engine == "optimum":
            folder = export_onnx(self.homes[system.name], folder, self.work / "onnx", log)
        return Server(system, self.homes[system.name], folder, log)

    def _open(self, system: ServerSystem, stack: ExitStack) -> Server | None:
        """Start a server and compare its vectors with those of `encode`."""
        try:
            server = stack.enter_context(closing(self._start(system)))
            sample = self.texts[:64]
            found = server.embed(sample)
            expected = jinyi.SentenceEncoder.load(self.folder, precision="float32").encode(sample)
            least = float((found * expected).sum(axis=1).min())
            self._of(system)["least_cosine"] = least
            if system.precision == "float32" and least < LEAST_COSINE:
                raise WorkerError(f"computes other vectors: least cosine {least:.5f}")
        except WorkerError as error:
            self.failed[system.name] = str(error)
            say(f"{system.label}: {error}")
            return None
        say(f"{system.label}: up, least cosine {least:.7f}")
        return server

    def _of(self, system: ServerSystem) -> dict[str, Any]:
        entry: dict[str, Any] = self.result["systems"][system.name]
        return entry

    # ------------------------------------------------------------ measurements

    def _each_round(
        self, servers: list[Server], measure: Callable[[Server, int], dict[str, Any]], name: str
    ) -> None:
        rounds = self.options.rounds if name == "load" else 1
        for number in range(rounds):
            for server in servers[:: -1 if number % 2 else 1]:
                if server.system.name in self.failed or (server.system.variant_of and name != "overload"):
                    continue
                time.sleep(PAUSE)
                try:
                    measured = measure(server, number)
                except WorkerError as error:
                    self.failed[server.system.name] = str(error)
                    say(f"{server.system.label}: {error}")
                    continue
                self._of(server.system)["rounds"].setdefault(name, []).append(measured)
                self.write()

    def _closed(self, server: Server, bodies: str, clients: int, **more: Any) -> dict[str, Any]:
        group = {"name": "all", "bodies": self.bodies[bodies], "clients": clients, **more}
        return _one_group(server.load([group], self.seconds, 0.2 * self.seconds))

    def _open_loop(self, server: Server, rate: float, seed: int) -> dict[str, Any]:
        group = {"name": "all", "bodies": self.bodies["one"], "rate": rate, "seed": seed}
        return {"rate": rate, **_one_group(server.load([group], self.seconds, 0.2 * self.seconds))}

    def _load(self, server: Server, number: int) -> dict[str, Any]:
        """Idle latency, saturation by single and larger requests, and the highest rate within the limit."""
        idle = self._closed(server, "one", 1, pause=0.005)
        one = self._closed(server, "one", self.options.clients)
        many = self._closed(server, "many", max(2, self.options.clients // 4))
        probes = []
        factor, kept = 0.9, 0.0
        for shift in SHIFTS[: 1 if self.options.quick else None]:
            probe = self._open_loop(server, factor * one["per_second"], number)
            probes.append(probe)
            # The share that comes back in time counts too: with a backlog that grows, few answers are slow yet.
            good = probe["counts"].keys() == {"200"} and probe["unanswered"] == 0
            if good and probe["ms"]["200"]["p99"] <= LIMIT_MS:
                kept = max(kept, probe["rate"])
                factor += shift / 2
            else:
                factor -= shift
            time.sleep(PAUSE)
        say(
            f"round {number}, {server.system.label}: idle {idle['ms']['200']['p50']:.1f} ms, "
            f"{one['per_second']:.0f} x 1, {many['per_second']:.1f} x {MANY}, {kept:.0f} within {LIMIT_MS:.0f} ms"
        )
        return {"idle": idle, "one": one, "many": many, "probes": probes, "rate": kept}

    def _overload(self, server: Server, number: int) -> dict[str, Any]:
        """Twice the capacity for a minute."""
        name = server.system.variant_of or server.system.name
        rounds = self.result["systems"][name].get("rounds", {}).get("load")
        if not rounds:
            raise WorkerError("its capacity was not measured: add load to --sections")
        capacity = statistics.median(row["one"]["per_second"] for row in rounds)
        idle = statistics.median(row["idle"]["ms"]["200"]["p99"] for row in rounds)
        seconds = 3.0 if self.options.quick else 60.0
        group = {"name": "all", "bodies": self.bodies["one"], "rate": 2 * capacity, "seed": number}
        measured = _one_group(server.load([group], seconds, 0.1 * seconds))
        counts = measured["counts"]
        say(f"overload, {server.system.label}: {counts}, {measured['ms']}")
        return {"capacity": capacity, "idle_p99_ms": idle, **measured}

    def _fair(self, server: Server, number: int) -> dict[str, Any]:
        """One text at a time, alone and beside a client with large requests, from another and from the same address."""
        single = {"name": "single", "bodies": self.bodies["one"], "clients": 1, "pause": 0.005}
        bulk = {"name": "bulk", "bodies": self.bodies["bulk"], "clients": 1}
        seconds = 2 * self.seconds
        found = {}
        for name, groups in {
            "alone": [single],
            "beside another client's": [single, {**bulk, "source": "127.0.0.2"}],
            "beside the same client's": [single, bulk],
        }.items():
            found[name] = server.load([dict(group) for group in groups], seconds, 0.2 * seconds)
            say(f"fair, {server.system.label}, {name}: {found[name]['groups']['single']['ms']}")
            time.sleep(PAUSE)
        return found

    def _starts(self, systems: list[ServerSystem]) -> None:
        """Fresh processes until the first vector."""
        for number in range(self.options.rounds):
            for system in systems[:: -1 if number % 2 else 1]:
                if system.name not in self.failed and not system.variant_of:
                    with closing(self._start(system)) as server:
                        say(f"start, {system.label}: {server.start_up['total']:.2f} s")
                        self._of(system)["rounds"].setdefault("start", []).append(server.start_up)

    def _queue(self, systems: list[ServerSystem]) -> None:
        """What the queue and its worker cost beside a direct `encode`, in one process."""
        texts = self.work / "texts.json"
        chosen = self.texts[: 300 if self.options.quick else None]
        texts.write_text(json.dumps(chosen, ensure_ascii=False), encoding="utf-8")
        for system in systems:
            command = [sys.executable, str(HERE / "server_queue.py"), str(self.folder), system.precision]
            command += [str(texts), str(2 if self.options.quick else 15)]
            log = self.work / f"queue-{system.name}.log"
            with log.open("ab") as errors:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=False)
            if done.returncode:
                self.failed[f"queue, {system.name}"] = last_error(log)
                say(f"queue, {system.label}: {last_error(log)}")
            else:
                self.result["queue"][system.name] = json.loads(done.stdout)


def _one_group(result: dict[str, Any]) -> dict[str, Any]:
    """The only group's figures beside those of the run."""
    (group,) = result.pop("groups").values()
    if "200" not in group["ms"]:
        raise WorkerError(f"no answer 200: {group['counts']}, {group['unanswered']} not answered")
    return {**result, **group}


def main() -> int:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [system.name for system in SERVERS]
    parser.add_argument(
        "--data", type=Path, help="folder with afqmc/dev.jsonl (.xz); without it: made-up texts"
    )
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="does it run: seconds too short for a verdict")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--clients", type=int, default=64, help="of the closed loop; a quarter for larger requests"
    )
    parser.add_argument("--only", type=_names(names), default=[], metavar=",".join(names))
    parser.add_argument("--sections", type=_names(SECTIONS), default=SECTIONS, metavar=",".join(SECTIONS))
    parser.add_argument("--peers", type=Path, default=PEERS, help="python of infinity's environment")
    parser.add_argument("--work", type=Path, help="folder for logs and the exported model, kept")
    options = parser.parse_args()
    return run_benchmark(lambda place: ServerBenchmark(options, place), report, options.work)


def _names(known: list[str] | tuple[str, ...]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"found {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return chosen

    return read


if __name__ == "__main__":
    sys.exit(main())
