"""A worker whose engines do what the token ids say: raise, hang, die, or give no number. Started by the queue's tests.

Outputs are a function of the ids, computed without a runtime; `expected` says which.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from jinyi.runtime import Head

RAISES, HANGS, DIES, NO_NUMBER, SLOW = range(1_000_001, 1_000_006)
WIDTH = 3
DEADLY = "deadly"
"""A file in a model's folder: the worker ends whenever it opens that."""


def expected(ids: list[int]) -> list[float]:
    return [float(sum(ids)), float(len(ids)), float(ids[-1])]


class StubEngine:
    precision = "float32"

    def __init__(self, speed: float) -> None:
        self.speed = speed  # tokens a second; 0: as fast as it goes

    def info(self) -> dict:
        return {"streams": 1, "pid": os.getpid()}

    def run(self, batches, *, shared=False):
        for batch in batches:
            ids = [row[:length].tolist() for row, length in zip(batch.ids, batch.lengths, strict=True)]
            flat = {number for row in ids for number in row}
            if DIES in flat:
                os._exit(7)
            if HANGS in flat:
                time.sleep(60)
            if RAISES in flat:
                raise RuntimeError("this row is poison")
            if SLOW in flat:
                time.sleep(0.3)
            if self.speed:
                time.sleep(sum(map(len, ids)) / self.speed)
            out = np.array([expected(row) for row in ids], np.float32)
            for place, row in enumerate(ids):
                if NO_NUMBER in row:
                    out[place, 1] = np.nan
            yield batch, out


def open_stub(model: dict, head: Head) -> StubEngine:
    if (Path(model["model"]) / DEADLY).is_file():
        os._exit(9)
    if head.kind == "tokens":
        time.sleep(0.5)  # as a large model takes
    return StubEngine(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)


if __name__ == "__main__":
    from jinyi.serve.worker import main

    main(open_stub)
