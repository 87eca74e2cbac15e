"""The benchmark of servers: its load is what it says it is, and it prints tables of what is measured."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
STALL_S = 0.5


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers what the path says: /200, /429, /close (and hangs up), /stall (the first request holds up all)."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    stalled = False
    seen: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.client_address[0], self.path, body))
        if self.path == "/stall":
            with self.lock:
                if not type(self).stalled:
                    type(self).stalled = True
                    time.sleep(STALL_S)
        content = b"x" * 300_000
        self.send_response(429 if self.path == "/429" else 200)
        self.send_header("Content-Length", str(len(content)))
        if self.path == "/close":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[tuple[int, list[tuple[str, str, bytes]]]]:
    """A port, and what is asked there."""
    handler = type("Handler", (Answers,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running.server_address[1], handler.seen  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def load(port: int, tmp_path: Path, *groups: dict[str, Any], seconds: float = 1.0) -> dict[str, Any]:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_bytes(b'{"a": 1}\n{"b": "' + b"y" * 3_000_000 + b'"}\n')
    for group in groups:
        group["bodies"] = str(bodies)
    spec = {"port": port, "seconds": seconds, "warm_up": 0.0, "groups": groups}
    command = [sys.executable, "-S", str(BENCHMARKS / "load.py")]
    done = subprocess.run(command, input=json.dumps(spec), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_clients_send_their_bodies_one_after_the_other(server: Any, tmp_path: Path) -> None:
    port, seen = server
    result = load(
        port,
        tmp_path,
        {"name": "one", "path": "/200", "clients": 2},
        {"name": "other", "path": "/429", "clients": 1, "pause": 0.2, "source": "127.0.0.2"},
        seconds=0.6,
    )
    one, other = result["groups"]["one"], result["groups"]["other"]
    assert set(one["counts"]) == {"200"}
    assert set(other["counts"]) == {"429"}
    assert 2 <= other["counts"]["429"] <= 3  # each rests 0.2 s
    assert other["per_second"] == 0  # of answers 200
    assert one["unanswered"] == other["unanswered"] == 0
    assert result["connections"] == 3  # kept
    assert {(address, path) for address, path, _ in seen} == {("127.0.0.1", "/200"), ("127.0.0.2", "/429")}
    bodies = [body for _, path, body in seen if path == "/200"]
    assert len(bodies) == one["counts"]["200"]
    assert {len(body) for body in bodies} == {8, 3_000_009}  # whole, also where they do not go at once


def test_the_open_loop_counts_from_when_a_request_was_due(server: Any, tmp_path: Path) -> None:
    port, _ = server
    group = {"name": "all", "path": "/stall", "rate": 40, "seed": 3}
    found = load(port, tmp_path, group, seconds=1.0)["groups"]["all"]
    assert sum(found["counts"].values()) == pytest.approx(40, abs=20)
    # About 20 came while nothing moved: clients that wait for their answers would have met the stall once.
    assert found["ms"]["200"]["p95"] > 1e3 * STALL_S / 2
    assert found["ms"]["200"]["max"] >= 1e3 * STALL_S
    assert found["unanswered"] == 0


def test_a_connection_that_the_server_ends_is_opened_again(server: Any, tmp_path: Path) -> None:
    port, seen = server
    group = {"name": "all", "path": "/close", "clients": 1}
    found = load(port, tmp_path, group, seconds=0.3)["groups"]["all"]
    assert set(found["counts"]) == {"200"}
    assert found["counts"]["200"] == len(seen) > 1


@pytest.mark.slow
def test_server_prints_tables_of_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    options = ["--quick", "--rounds", "1", "--only", "jinyi,infinity", "--sections", "load,queue"]
    options += ["--peers", str(tmp_path / "none"), "--json", str(file)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "server.py"), *options],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "infinity, torch: missing" in done.stdout
    assert "benchmarks/server_peers.txt" in done.stdout
    result = json.loads(file.read_text(encoding="utf-8"))
    ours = result["systems"]["jinyi"]
    assert ours["least_cosine"] >= 0.9999
    (found,) = ours["rounds"]["load"]
    assert found["one"]["per_second"] > 0
    assert found["one"]["counts"].keys() == {"200"}
    assert found["one"]["cores"]["server"] > 0
    assert result["queue"]["jinyi"]["difference"] < 1e-5
    assert ours["label"] in done.stdout
