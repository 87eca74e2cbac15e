"""What is measured: jinyi in this process, others in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError
from jinyi.models.sentence_encoder import SentenceEncoder

SCRIPT = Path(__file__).with_name("peer.py")
LEAST_COSINE = 0.9999
"""A system whose float32 vectors are farther from jinyi's is not measured: it computes something else."""


class System(Protocol):
    """One system with one model."""

    name: str
    """For tables."""

    def vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Vectors [texts, width] of length 1."""
        ...

    def many(self, texts: list[str]) -> float:
        """Compute texts all at once; seconds."""
        ...

    def one(self, texts: list[str]) -> list[float]:
        """Compute texts one by one; seconds of each."""
        ...

    def close(self) -> None:
        """Give memory and processes back."""
        ...


class Jinyi:
    """jinyi as a user calls it."""

    def __init__(self, model: str | os.PathLike[str] | None, *, precision: str, threads: int | None) -> None:
        self._encoder = SentenceEncoder.load(model, precision=precision, threads=threads)
        self.precision = str(self._encoder.info()["precision"])
        self.name = f"jinyi, {self.precision}"

    def vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Vectors [texts, width] of length 1."""
        return self._encoder.encode(texts, show_progress=False)

    def many(self, texts: list[str]) -> float:
        """Compute texts all at once; seconds."""
        begin = time.perf_counter()
        self.vectors(texts)
        return time.perf_counter() - begin

    def one(self, texts: list[str]) -> list[float]:
        """Compute texts one by one; seconds of each."""
        return [self.many([text]) for text in texts]

    def close(self) -> None:
        """Nothing is kept but memory, which goes with the object."""


class PeerFailedError(Exception):
    """A reference runtime ended instead of answering; the message says how."""


class Peer:
    """A reference runtime in a process of its own, in this or another Python environment.

    Args:
        kind: one of those `installed_peers` names.
        python: interpreter of the environment.
        model: model folder.
        threads: None leaves the choice to the runtime.

    Raises:
        PeerFailedError: it could not open the model.
    """

    def __init__(self, kind: str, python: str, model: Path, *, threads: int | None) -> None:
        self.name = kind
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(SCRIPT), "serve", kind, str(model), str(threads or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env=_environment(),
        )
        try:
            self._answer()
        except PeerFailedError:
            self.close()
            raise

    def vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Vectors [texts, width] of length 1."""
        found = np.asarray(self._ask("vectors", texts), np.float32)
        lengths: npt.NDArray[np.float32] = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, lengths, dtype=np.float32)

    def many(self, texts: list[str]) -> float:
        """Compute texts all at once; seconds."""
        return float(self._ask("many", texts))

    def one(self, texts: list[str]) -> list[float]:
        """Compute texts one by one; seconds of each."""
        return [float(value) for value in self._ask("one", texts)]

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of a process that has ended before
                    pipe.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, what: str, texts: list[str]) -> Any:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer, or rather its absence, tells
            self._process.stdin.write(json.dumps({"what": what, "texts": texts}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            last = [line.strip() for line in self._log.read().splitlines() if line.strip()][-1:]
            raise PeerFailedError(" ".join([f"ended with exit code {code}", *last]))
        return json.loads(line)


def installed_peers(python: str | None = None) -> dict[str, str]:
    """Ask a Python environment which reference runtimes it has: {kind: version}. None asks this one.

    Raises:
        InputError: no interpreter there.
    """
    try:
        done = subprocess.run(
            [python or sys.executable, str(SCRIPT), "probe"],
            capture_output=True,
            encoding="utf-8",
            env=_environment(),
            check=True,
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as fault:
        raise InputError(
            found=f"no usable interpreter ({fault})",
            expected="the python of an environment with reference runtimes",
            fix="Give its path, as in .venv-peers/bin/python, or leave --peers out.",
            where=str(python),
        ) from fault
    return found


def _environment() -> dict[str, str]:
    """Peers look for newer files on the Hugging Face hub unless told not to."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
