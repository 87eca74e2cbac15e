"""Memory while many short lines are embedded: resident size must not grow with the input.

    python benchmarks/memory.py [--lines 1000000] [--model jinyi-tiny-embed]

Lines are made from common characters (seed 0), 5 to 20 long, one in ten a repetition. They are streamed through
`SentenceEncoder.encode_stream` into a .npy file, as `jinyi embed` does. Printed: resident size after warm-up (the
first tenth), its maximum afterwards, the size of the output, and lines per second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

import jinyi
from jinyi.files import BulkOutput, npy_header

COMMON = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
)


def lines(count: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    recent: list[str] = []
    while count > 0:
        lengths = rng.integers(5, 21, 1000)
        letters = rng.integers(0, len(COMMON), int(lengths.sum()))
        end = 0
        for length in lengths[:count]:
            begin, end = end, end + int(length)
            line = "".join(COMMON[place] for place in letters[begin:end])
            recent.append(line)
            yield recent[begin % len(recent)] if begin % 10 == 0 else line
        recent = recent[-100:]
        count -= 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--model", default=None)
    options = parser.parse_args()

    encoder = jinyi.SentenceEncoder.load(options.model)
    process = psutil.Process()
    done, warm, most = 0, 0, 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        header = npy_header(options.lines, encoder.dimension)
        with BulkOutput(Path(folder) / "vectors.npy", key={}, header=header) as out:
            for vectors in encoder.encode_stream(lines(options.lines)):
                out.append(vectors.tobytes(), len(vectors))
                done += len(vectors)
                size = process.memory_info().rss
                if done <= options.lines // 10 or not warm:
                    warm = most = size
                most = max(most, size)
            out.finish()
        output = (Path(folder) / "vectors.npy").stat().st_size
    seconds = time.perf_counter() - start
    print(f"lines               {done:>12,}")
    print(f"lines per second    {done / seconds:>12,.0f}")
    print(f"resident, warm      {warm / 2**20:>12,.1f} MiB")
    print(f"resident, most      {most / 2**20:>12,.1f} MiB")
    print(f"growth              {(most - warm) / 2**20:>12,.1f} MiB")
    print(f"output              {output / 2**20:>12,.1f} MiB")


if __name__ == "__main__":
    main()
