"""The command line and what it prints to: closed pipes, full disks, other encodings, Ctrl-C, lines in errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from jinyi.batches import chunks

PAIR = ("怎么改密码", "如何修改登录密码😀")


def jinyi(
    *arguments: object, stdout: int | IO[Any] = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jinyi.cli", *map(str, arguments)]
    return subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=300,
    )


def test_output_in_an_encoding_without_chinese(small_folders: Path) -> None:
    arguments = ["score", *PAIR, "-m", small_folders / "pair"]
    done = jinyi(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and r"\u600e" in done.stdout and done.stderr == ""
    done = jinyi(*arguments, "--json", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and json.loads(done.stdout)["textb"] == PAIR[1]
    done = jinyi("score", PAIR[1], "-m", small_folders / "pair", "--json", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2 and "😀" in json.loads(done.stderr)["error"]["found"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_the_output(small_folders: Path) -> None:
    for arguments in (
        ["score", "a", "b", "-m", small_folders / "pair", "--json"],
        ["models", "list", "--json"],
    ):
        with open("/dev/full", "wb") as full:
            done = jinyi(*arguments, stdout=full)
        assert done.returncode == 2
        assert json.loads(done.stderr)["error"]["found"] == "No space left on device"


def test_a_reader_that_leaves(small_folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("".join(f"今天{number}\n" for number in range(2000)), encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = jinyi("classify", "-i", path, "-m", small_folders / "topic", "--json", stdout=closed)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_stopped_job_says_how_it_goes_on(small_folders: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "t.txt", tmp_path / "v.jsonl"
    path.write_text("".join(f"今天{number}\n" for number in range(100_000)), encoding="utf-8")
    arguments = ["embed", "-i", str(path), "-o", str(output), "-m", str(small_folders / "embed")]
    process = subprocess.Popen(
        [sys.executable, "-m", "jinyi.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background ignores the signal, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    part, deadline = tmp_path / "v.jsonl.part", time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("stopped after ") and "of 100,000 texts; the same command" in line


def test_other_commands_say_that_they_were_stopped(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jinyi.registry.list_models", stopping)
    assert run("models", "list") == (130, "", "stopped\n")


def test_errors_name_the_line_without_an_output_too(
    run, small_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("".join(f"今天{number}\n" for number in range(25)) + "今天天气" * 30, encoding="utf-8")
    monkeypatch.setattr("jinyi.batches.chunks", partial(chunks, size=20))
    code, _, err = run("classify", "-i", path, "-m", small_folders / "topic", "--truncate", "error")
    assert code == 2 and f"error: {path}:26\n" in err and "--truncate warn" in err


def test_a_narrow_terminal_loses_no_text(run, small_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    _, out, _ = run("score", "怎么", "如何", "-m", small_folders / "pair")
    assert "怎么" in out and "如何" in out
