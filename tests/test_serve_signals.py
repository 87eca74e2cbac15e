"""SIGTERM and SIGINT at every moment of a start: the server ends cleanly, and its worker with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jinyi.serve.signals import StopSignals
from serve_process import serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ENDS = {signal.SIGTERM: 0, signal.SIGINT: 130}
WRONG = ("Traceback", "Exception ignored", "never retrieved", "never awaited", '"level":"error"')
STEPS = ("jinyi.registry", "jinyi.serve.queue.process", "fastapi", "jinyi.serve.protocols.tei")
"""Modules, in the order of a start, before whose import a test sends a signal."""
MOMENTS = {signal.SIGTERM: (0.0, 0.2, 0.5, 1.0), signal.SIGINT: (0.1, 0.7)}


def test_signals_are_noted_and_handed_on() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.caught == [signal.SIGTERM]
        told: list[int] = []
        signals.forward = lambda number, frame: told.append(number)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.caught == [signal.SIGTERM, signal.SIGINT] and told == [signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before


def ended(process: subprocess.Popen[str], children: list[psutil.Process]) -> tuple[int, str]:
    """Wait for the end of a server and of its worker; return exit code and output."""
    output, _ = process.communicate(timeout=60)
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "the worker lives on"
    return process.returncode, output


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS, ids=lambda name: name.name)
@pytest.mark.parametrize("step", STEPS)
def test_a_signal_in_the_middle_of_an_import(
    folders: dict[str, Path], step: str, name: signal.Signals
) -> None:
    """The signal comes exactly when a module is about to be imported, in whatever thread."""
    script = f"""
import importlib.abc, os, signal, sys, time
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, module, path, target=None):
        if module == {step!r} and "jinyi.serve.run" in sys.modules:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name.name})
            time.sleep(0.05)
sys.meta_path.insert(0, Finder())
from jinyi.cli import main
main()
"""
    options = ("serve", "--port=0", "--log-format=json", f"--model={folders['embed']}")
    process = subprocess.Popen(
        [sys.executable, "-c", script, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    code, output = ended(process, [])
    assert code == ENDS[name], output
    assert not [word for word in WRONG if word in output], output


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS, ids=lambda name: name.name)
def test_a_signal_while_the_models_are_opened(folders: dict[str, Path], name: signal.Signals) -> None:
    models = [f"--model={kind}={folders[kind]}" for kind in ("embed", "pair", "topic")]
    command = [sys.executable, "-m", "jinyi", "serve", "--port=0", "--log-format=json", *models]
    for after in MOMENTS[name]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None and "listening" in process.stdout.readline()
        time.sleep(after)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(name)
        code, output = ended(process, children)
        assert code == ENDS[name], (after, output)
        assert not [word for word in WRONG if word in output], (after, output)


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_is_for_the_server_alone(folders: dict[str, Path]) -> None:
    with serving({"embed": folders["embed"]}) as running:
        worker = psutil.Process(running.process.pid).children()[0]
        assert os.getpgid(worker.pid) != os.getpgid(running.process.pid)
