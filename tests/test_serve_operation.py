"""The server as a process: signals, a worker that hangs or dies, slow clients, logs, exit codes."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serve_process import HOST, Reply, Server, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

TEXTS = {"inputs": ["怎么改密码", "今天天气很好"]}


def worker_of(server: Server) -> psutil.Process:
    """The process that computes."""
    children = psutil.Process(server.process.pid).children()
    return next(child for child in children if "jinyi.serve.worker" in child.cmdline())


def wait_for(what: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; return how long it took."""
    start = time.monotonic()
    while not what():
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - start


def metric(server: Server, name: str) -> float:
    """One figure of /metrics."""
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


def head_of(size: int) -> bytes:
    """A request whose body has so many bytes, as it goes over the wire."""
    lines = ("POST /embed HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {size}")
    return "\r\n".join((*lines, "", "")).encode()


class Later:
    """A request in a thread."""

    def __init__(self, send: Callable[[], Reply]) -> None:
        self.reply: Reply | None = None
        self.error: Exception | None = None

        def run() -> None:
            try:
                self.reply = send()
            except (OSError, http.client.HTTPException) as error:
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float = 30) -> Reply:
        self._thread.join(seconds)
        assert self.error is None, repr(self.error)
        assert self.reply is not None, "no answer"
        return self.reply


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    models = {"embed": folders["embed"], "pair": folders["pair"]}
    options = ("--body-timeout=1", "--hang-timeout=1", "--payload-limit=100000", "--threads=1")
    with serving(models, *options) as running:
        yield running


def test_a_stopped_worker_turns_readiness_red_and_green_again(server: Server) -> None:
    worker = worker_of(server)
    worker.send_signal(signal.SIGSTOP)
    red = wait_for(lambda: server.get("/readyz").status == 503, 5)
    assert red < 5
    reply = server.get("/health")
    if reply.status == 503:
        assert reply.json["error_type"] == "Unhealthy"
    assert server.get("/livez").status == 200
    wait_for(lambda: server.get("/readyz").status == 200, 30)
    assert worker_of(server).pid != worker.pid
    assert server.post("/embed", TEXTS).status == 200
    assert metric(server, "jinyi_worker_restarts_total") == 1


def test_a_killed_worker_loses_no_request(server: Server) -> None:
    before = server.post("/embed", TEXTS).json
    worker_of(server).send_signal(signal.SIGSTOP)
    waiting = [Later(lambda: server.post("/embed", TEXTS)) for _ in range(5)]
    time.sleep(0.2)
    worker_of(server).kill()
    replies = [later.wait() for later in waiting]
    assert [reply.status for reply in replies] == [200] * 5
    assert replies[0].json == before
    wait_for(lambda: server.get("/readyz").status == 200, 30)


def test_a_slow_body_is_given_up(server: Server) -> None:
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        start = time.monotonic()
        connection.sendall(head_of(100) + b"{")
        answer = ""
        while part := connection.recv(65536):  # until the door is shut
            answer += part.decode()
        assert answer.startswith("HTTP/1.1 400")
        assert "did not arrive within 1 s" in answer
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("sent", [b"", b"POST /embed HTTP/1.1\r\nhost: x\r\n", b"whole"])
def test_slow_headers_are_given_up(server: Server, sent: bytes) -> None:
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        if sent == b"whole":  # and then half of the next one
            connection.sendall(head_of(2) + b"{}")
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 422")
            sent = b"GET /livez HT"
        connection.sendall(sent)
        start = time.monotonic()
        assert connection.recv(65536) == b""
        assert 0.5 < time.monotonic() - start < 5


def test_a_quiet_connection_is_kept(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    for _ in range(2):
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b""
        time.sleep(1.5)  # longer than headers may take
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_large_body_is_answered_and_not_cut_off(server: Server) -> None:
    for size in (100_001, 3_000_000):
        reply = server.post("/embed", content=b" " * size)
        assert reply.status == 413
        assert f"{size:,}" in reply.json["error"] and "100,000" in reply.json["error"]


def test_a_large_body_in_chunks(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    chunks = (b" " * 10_000 for _ in range(50))
    connection.request("POST", "/embed", chunks, {"content-type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_connection_is_kept(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    for _ in range(3):
        for body, status in ((json.dumps(TEXTS), 200), ("{", 400), (json.dumps({"inputs": []}), 400)):
            connection.request("POST", "/embed", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            assert response.status == status
    connection.close()


def test_the_rows_of_a_client_that_left_are_dropped(server: Server) -> None:
    before = metric(server, 'jinyi_given_up_total{reason="left"}')
    worker = worker_of(server)
    worker.send_signal(signal.SIGSTOP)
    body = json.dumps({"inputs": [f"{number}怎么改密码" for number in range(50)]}).encode()
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(head_of(len(body)) + body)
        wait_for(lambda: metric(server, "jinyi_requests_in_flight") == 1, 5)
    wait_for(lambda: metric(server, "jinyi_requests_in_flight") == 0, 5)
    worker.send_signal(signal.SIGCONT)
    wait_for(lambda: server.get("/readyz").status == 200, 30)
    assert metric(server, 'jinyi_given_up_total{reason="left"}') == before + 1
    assert metric(server, "jinyi_queue_requests") == metric(server, "jinyi_queue_running_rows") == 0


def test_the_containers_health_check(server: Server) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    line = next(line for line in guide.splitlines() if line.startswith("HEALTHCHECK"))
    command = json.loads(line[line.index("[") :])
    assert command[:2] == ["python", "-c"]
    for port, code in ((server.port, 0), (1, 1)):
        script = command[2].replace("8000", str(port))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
        assert done.returncode == code


def test_the_guide_names_metrics_that_there_are(server: Server) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    text = server.get("/metrics").body.decode()
    named = set(re.findall(r"`((?:jinyi|process)_\w+)", guide))
    assert len(named) > 20
    assert not [name for name in named if f"\n{name}" not in text]


def test_garbage_is_no_http(server: Server) -> None:
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    assert server.get("/livez").status == 200


@pytest.mark.slow
def test_the_log_is_json_without_texts(folders: dict[str, Path]) -> None:
    mark = "秘密的句子"
    models = {"embed": folders["embed"], "topic": folders["topic"]}
    with serving(models, "--payload-limit=5000", "--log-level=debug") as running:
        running.post("/embed", {"inputs": mark})
        running.post("/embed", {"inputs": [mark, 1]})
        running.post("/embed", {"inputs": mark, mark: 1})
        running.post("/embed", {"inputs": mark * 300})
        running.post("/embed", content=("{" + mark).encode())
        running.post("/embed", content=mark.encode() * 2000)
        running.post("/v1/embeddings", {"input": mark, "model": mark})
        running.post("/v1/classify", {"input": mark, "labels": [mark, "财经"]})
        running.get("/" + "%E7%A7%98" * 3)
        running.get("/embed?inputs=%E7%A7%98%E5%AF%86")
        running.get("/livez", headers={"x-request-id": "mine-1"})
        log = running.log
    lines = [json.loads(line) for line in log]
    text = json.dumps(lines, ensure_ascii=False)
    assert not set(mark[:2]) & set(text)
    assert "%E7" not in text
    assert sum(line["message"] == "request" for line in lines) >= 11
    assert {"ready", "stopping", "stopped"} <= {line["message"] for line in lines}
    assert any(line.get("request_id") == "mine-1" for line in lines)
    assert all(set(line) >= {"time", "level", "message"} for line in lines)


@pytest.mark.slow
def test_a_key_from_the_environment(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINYI_API_KEY", "one two")
    with serving({"embed": folders["embed"]}) as running:
        assert running.post("/embed", TEXTS).status == 401
        assert running.post("/embed", TEXTS, headers={"authorization": "Bearer two"}).status == 200
        assert running.get("/metrics").status == 200


@pytest.mark.slow
def test_stopping_loses_nothing(folders: dict[str, Path]) -> None:
    """SIGTERM with 100 requests in flight: all are answered, new ones find nobody, and the exit code is 0."""
    count, late = 100, 20
    options = ("--threads=1", "--max-wait=1000", "--hang-timeout=60")
    with serving({"embed": folders["embed"]}, *options) as running:
        worker = worker_of(running)
        worker.send_signal(signal.SIGSTOP)
        sockets = []
        for number in range(count + late):
            if number == count:  # those after it may lie in their connections unread
                wait_for(lambda: metric(running, "jinyi_requests_in_flight") == count, 20)
            body = json.dumps({"inputs": [f"{number}怎么改密码{row}" * 4 for row in range(20)]}).encode()
            connection = socket.create_connection((HOST, running.port), timeout=40)
            connection.sendall(head_of(len(body)) + body)
            sockets.append(connection)
        running.process.terminate()
        wait_for(lambda: any('"stopping"' in line for line in running.log), 10)
        worker.send_signal(signal.SIGCONT)
        statuses = []
        for connection in sockets:
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert len(json.loads(response.read())) == 20
            statuses.append(response.status)
            connection.close()
        assert statuses == [200] * (count + late)
        with pytest.raises(ConnectionError):
            running.get("/livez")
        assert running.process.wait(30) == 0
        stopping = next(json.loads(line) for line in running.log if '"stopping"' in line)
        assert stopping["in_flight"] >= count


@pytest.mark.slow
def test_patience_has_an_end(folders: dict[str, Path]) -> None:
    with serving({"embed": folders["embed"]}, "--drain=1", "--hang-timeout=60") as running:
        worker_of(running).send_signal(signal.SIGSTOP)
        later = Later(lambda: running.post("/embed", TEXTS))
        wait_for(lambda: metric(running, "jinyi_requests_in_flight") == 1, 5)
        start = time.monotonic()
        running.process.terminate()
        assert later.wait().status == 503
        assert running.process.wait(20) == 0
        assert time.monotonic() - start < 10


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(folders: dict[str, Path]) -> None:
    with serving({"embed": folders["embed"]}, "--drain=60", "--hang-timeout=60") as running:
        worker = worker_of(running)
        worker.send_signal(signal.SIGSTOP)
        later = Later(lambda: running.post("/embed", TEXTS))
        wait_for(lambda: metric(running, "jinyi_requests_in_flight") == 1, 5)
        running.process.terminate()
        time.sleep(0.5)
        assert running.process.poll() is None
        running.process.terminate()
        assert running.process.wait(10) == 0
        assert later.wait(5).status == 503
        wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5)


def run_serve(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jinyi", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)


@pytest.mark.slow
def test_wrong_use_ends_with_what_to_do(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        cases = [
            (("--model", "nothing-like-this"), "nothing-like-this"),
            (("--model", str(tmp_path / "broken"), "--port=0"), "broken"),
            (("--model", str(folders["embed"]), f"--port={taken.getsockname()[1]}"), "--port"),
            (("--max-batch-tokens=1",), "max_batch_tokens"),
        ]
        for options, word in cases:
            done = run_serve(*options)
            assert done.returncode == 2, done.stderr
            assert word in done.stderr and "expected" in done.stderr
            assert "Traceback" not in done.stderr
