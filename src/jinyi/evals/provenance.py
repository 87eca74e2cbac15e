"""Where numbers come from: the scored file, the version, the machine, the command."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

from jinyi.evals.result import Evaluation


def machine() -> str:
    """Return processor, usable cores, system and the versions that numbers depend on, in one line."""
    from importlib.metadata import version

    from jinyi.runtime.cores import available_cores

    cores = available_cores().count
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "openvino", "tokenizers"))
    return (
        f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, {versions}"
    )


def command_line() -> str:
    """Return the command of this process as it can be typed again, the program without its folder."""
    name = Path(sys.argv[0]).name
    return shlex.join(["jinyi" if name == "__main__.py" else name, *sys.argv[1:]])


def stamp(evaluation: Evaluation, *, command: str | None = None) -> Evaluation:
    """Fill in command, version and machine where they are empty, and return the evaluation.

    Args:
        evaluation: changed in place.
        command: the command line; None takes this process's.
    """
    from jinyi import __version__

    evaluation.command = evaluation.command or (command_line() if command is None else command)
    evaluation.version = evaluation.version or __version__
    evaluation.machine = evaluation.machine or machine()
    return evaluation


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [
        value.strip()
        for key, _, value in (line.partition(":") for line in lines)
        if key.strip() == "model name"
    ]
    return names[0] if names else platform.processor() or platform.machine()
