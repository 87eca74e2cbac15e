"""What the server's queue and worker cost beside a direct `encode`: both in one process, in turn; see server.py.

    python server_queue.py FOLDER PRECISION TEXTS.json ROUNDS > RESULT

RESULT has seconds of every round: all texts at once, and single texts (their median in each round). The queue's time
includes tokenising, which the server does outside it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from jinyi import SentenceEncoder
from jinyi.serve.queue import RowQueue

SINGLE = 100  # texts computed one by one in each round
PAUSE = 0.2  # seconds: idle threads of the one spin for a while


async def main(folder: str, precision: str, texts: list[str], rounds: int) -> dict[str, Any]:
    """Measure; the vectors of both ways are compared first."""
    queue = RowQueue()
    await queue.start()
    direct = SentenceEncoder.load(folder, precision=precision)
    queued = await asyncio.to_thread(SentenceEncoder.load, folder, precision=precision, opener=queue.opener)

    async def directly(part: list[str]) -> np.ndarray:
        return direct.encode(part, show_progress=False)

    async def by_queue(part: list[str]) -> np.ndarray:
        if len(part) == 1:
            work = queued.prepare(part)
        else:
            work = await asyncio.to_thread(queued.prepare, part)
        vectors, _ = await queue.compute(work)
        return np.asarray(vectors)

    ways: dict[str, Callable[[list[str]], Awaitable[np.ndarray]]] = {"direct": directly, "queued": by_queue}
    found: dict[str, dict[str, list[float]]] = {
        "many": {way: [] for way in ways},
        "one": {way: [] for way in ways},
    }
    vectors = [await compute(texts) for compute in ways.values()]
    for number in range(rounds):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            await asyncio.sleep(PAUSE)
            begin = time.perf_counter()
            await ways[way](texts)
            found["many"][way].append(time.perf_counter() - begin)
            await asyncio.sleep(PAUSE)
            seconds = []
            for at in range(SINGLE):
                begin = time.perf_counter()
                await ways[way]([texts[(number * SINGLE + at) % len(texts)]])
                seconds.append(time.perf_counter() - begin)
            found["one"][way].append(statistics.median(seconds))
    await queue.close(drain_s=5.0)
    return {"texts": len(texts), "difference": float(np.abs(vectors[0] - vectors[1]).max()), **found}


if __name__ == "__main__":
    place, arithmetic, file, count = sys.argv[1:]
    inputs = json.loads(Path(file).read_text(encoding="utf-8"))
    json.dump(asyncio.run(main(place, arithmetic, inputs, int(count))), sys.stdout)
