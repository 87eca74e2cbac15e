"""A real `jinyi serve` in a process of its own, on a free port of this machine."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PATIENCE_S = 180.0  # with a start or an end, on machines with much else to do
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


@dataclass
class Reply:
    """Status, headers and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that runs.

    Attributes:
        process: it.
        port: where it listens.
        log: the lines it wrote, checks of readiness left out.
        names: of its models, in their order.
    """

    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request on a connection of its own; `content` is sent as it is, `body` as JSON."""
        sent = dict(headers or {})
        if content is None and body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, named, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: object = None, **options: Any) -> Reply:
        """POST; see `ask`."""
        return self.ask("POST", path, body, **options)

    def get(self, path: str, **options: Any) -> Reply:
        """GET; see `ask`."""
        return self.ask("GET", path, **options)

    def wait_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the models compute."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            assert self.process.poll() is None, "\n".join(self.log)
            try:
                if self.get("/readyz").status == 200:
                    return
            except ConnectionRefusedError:
                pass  # bound, and not listening yet
            time.sleep(0.05)
        raise AssertionError("not ready in time:\n" + "\n".join(self.log))


@contextmanager
def serving(
    models: Mapping[str, Path | str] | None = None, *options: str, ready: bool = True
) -> Iterator[Server]:
    """Run `jinyi serve` with models by name; it is stopped at the end, and must stop with exit code 0.

    Args:
        models: what is served; None: the shipped models.
        options: more of the command line.
        ready: wait until the models compute.
    """
    named = [f"--model={name}={path}" for name, path in (models or {}).items()]
    command = [sys.executable, "-m", "jinyi", "serve", "--port=0", "--log-format=json", *named, *options]
    environment = os.environ | {"PYTHONUTF8": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    server = Server(process, 0, names=list(models or ()))
    heard = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if '"/readyz"' not in line:
                server.log.append(line.rstrip("\n"))
            found = _LISTENING.search(line)
            if found:
                server.port = int(found.group(1))
                heard.set()
        heard.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert heard.wait(PATIENCE_S) and server.port, "\n".join(server.log)
        if ready:
            server.wait_ready()
        yield server
    except BaseException:
        process.kill()
        raise
    finally:
        if process.poll() is None:
            process.terminate()
        code = process.wait(PATIENCE_S)
        reader.join(10)
        assert process.stdout is not None
        process.stdout.close()
    assert code == 0, f"exit code {code}:\n" + "\n".join(server.log)
