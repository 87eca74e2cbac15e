"""The machine a benchmark ran on: what it is, how busy others kept it, and one core taken away on purpose."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from jinyi.runtime.cores import available_cores, processor_flags

FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
BF16_FEATURES = {"avx512_bf16", "amx_bf16"}


def describe() -> dict[str, Any]:
    """Return processor, features that matter for matrix products, cores, memory and versions."""
    cores = available_cores()
    flags = processor_flags()
    return {
        "processor": _processor_name(),
        "features": [name for name in FEATURES if name in flags],
        "cores": cores.count,
        "why_cores": cores.why,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "bfloat16": bool(BF16_FEATURES & flags),
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key} {values[key]}" for key in ("cpu family", "model") if key in values]
    return f"{values.get('model name', platform.machine())} ({', '.join(numbers)})"


class OthersLoad:
    """Share of all cores that processes other than one took since this was made."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.before = self._seconds()

    def share(self) -> float:
        """Return 0 (a quiet machine) to 1."""
        busy, everything, own = (new - old for new, old in zip(self._seconds(), self.before, strict=True))
        return max(0.0, (busy - own) / everything) if everything > 0 else 0.0

    def _seconds(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        everything = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
        own = self.process.cpu_times()
        return everything - times.idle - getattr(times, "iowait", 0), everything, own.user + own.system


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy with another process."""
    spinning = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        yield
    finally:
        spinning.kill()
        spinning.wait()
