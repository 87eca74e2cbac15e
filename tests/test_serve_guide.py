"""The Dockerfile and the systemd unit of docs/serving.md: their sources are there, their commands and options real."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from jinyi.cli.commands import app
from jinyi.serve.settings import Settings, model_setting

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return str(text)


DOCKERFILE = [line.split(" ", 1) for line in block("dockerfile").splitlines() if line[:1] not in ("", "#")]
UNIT = [line.split("=", 1) for line in block("ini").splitlines() if "=" in line and line[0] != "#"]
SERVE = get_command(app).commands["serve"]  # type: ignore[attr-defined]
VARIABLES = {param.envvar for param in SERVE.params if param.envvar}


def project(key: str, section: str) -> str:
    """The value of a key of pyproject.toml, without quotes and brackets."""
    found = re.search(rf"^\[{re.escape(section)}\]\n(?:[^\[\n].*\n|\n)*?{key} = (.*)", PROJECT, re.MULTILINE)
    assert found, key
    return found[1].strip('[]"')


def docker(instruction: str) -> list[str]:
    return [value for name, value in DOCKERFILE if name == instruction]


def unit(key: str) -> str:
    (value,) = (value for name, value in UNIT if name == key)
    return value


def variables(line: str) -> dict[str, str]:
    """The settings of a line, which `jinyi serve` knows."""
    found = dict(pair.split("=", 1) for pair in shlex.split(line))
    assert set(found) <= VARIABLES
    return found


def parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch, **environment: str) -> typer.Context:
    """What the real command reads from arguments and variables; it raises for what it does not know."""
    for name in VARIABLES:
        monkeypatch.delenv(str(name), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return SERVE.make_context("serve", arguments)


def test_what_the_image_copies_is_there_and_what_pip_installs_was_copied() -> None:
    inside: set[Path] = set()
    for line in docker("COPY"):
        *sources, target = shlex.split(line)
        for source in sources:
            path = ROOT / source
            assert path.is_file() or path.is_dir(), source
            inside |= {Path(target) / source if target.endswith("/") else Path(target)}
    (run,) = docker("RUN")
    install = shlex.split(run.split(" && ")[0])
    assert install[:2] == ["pip", "install"]
    assert Path(install[install.index("--constraint") + 1]) in inside
    folder, _, extra = install[-1].rstrip("]").partition("[")
    assert project(extra, "project.optional-dependencies") == ""  # a list follows
    # All that a build of the package reads.
    read = [
        "pyproject.toml",
        project("readme", "project"),
        project("license-files", "project"),
        project("path", "tool.hatch.version"),
        project("packages", "tool.hatch.build.targets.wheel"),
    ]
    for name in read:
        place = Path(folder) / name
        assert (ROOT / name).exists() and inside & {place, *place.parents}, f"{name} is not copied"
    (base,) = docker("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    least = re.fullmatch(r">=3\.(\d+)", project("requires-python", "project"))
    assert version and least and int(version[1]) >= int(least[1])


def test_the_image_starts_the_real_command(monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = docker("CMD")
    program, name, *arguments = json.loads(command)
    assert (program, name) == ("jinyi", "serve")
    (line,) = docker("ENV")
    options = parsed(arguments, monkeypatch, **variables(line)).params
    assert options["host"] == "0.0.0.0"  # noqa: S104 - or nobody outside of the container reaches it
    assert docker("EXPOSE") == [str(options["port"])]
    (run,) = docker("RUN")
    (user,) = docker("USER")
    assert f"useradd --create-home {user}" in run
    assert docker("STOPSIGNAL") == ["SIGTERM"]
    example = re.search(r"^# Own models: .* and JINYI_MODELS=\"(.*)\"$", block("dockerfile"), re.MULTILINE)
    assert example
    models = parsed([], monkeypatch, JINYI_MODELS=example[1]).params["model"]
    assert [model_setting(text).name for text in models] == ["faq", None]


@contextmanager
def unready() -> Iterator[int]:
    """A server that is not ready; yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/readyz" else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_health_check_follows_readiness() -> None:
    """Of a server that is ready: `test_serve_operation.py`."""
    (line,) = docker("HEALTHCHECK")
    program, *arguments = json.loads(line.partition("CMD ")[2])
    assert program == "python"
    port = f"'127.0.0.1', {docker('EXPOSE')[0]}"
    assert port in arguments[-1]
    with unready() as free:
        arguments[-1] = arguments[-1].replace(port, f"'127.0.0.1', {free}")
        assert subprocess.run([sys.executable, *arguments], check=False, timeout=60).returncode == 1


def test_the_unit_starts_the_real_command(monkeypatch: pytest.MonkeyPatch) -> None:
    program, name, *arguments = shlex.split(unit("ExecStart"))
    assert (Path(program).name, name) == ("jinyi", "serve") and Path(program).is_absolute()
    environment = variables(unit("Environment"))
    options = parsed(arguments, monkeypatch, **environment).params
    assert [model_setting(text).name for text in options["model"]] == ["faq", None]
    assert str(options["port"]) == environment["JINYI_PORT"]
    assert options["log_format"] == "json"


def test_the_unit_and_the_container_give_the_server_time_to_drain() -> None:
    assert unit("KillMode") == "mixed"  # the worker must not be ended before what it computes is answered
    assert unit("Restart") == "on-failure"
    seconds = [unit("TimeoutStopSec"), *re.findall(r"docker stop --time (\d+)", GUIDE)]
    seconds += re.findall(r"terminationGracePeriodSeconds: (\d+)", GUIDE)
    assert len(seconds) == 3 and all(float(value) > Settings().drain_s for value in seconds)


def test_wrong_use_is_not_started_again(run: Any) -> None:
    code, _, _ = run("serve", "--model", "no-such-model", "--port", "0")
    assert str(code) == unit("RestartPreventExitStatus")
