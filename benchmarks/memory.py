"""Resident memory while a million short lines are embedded: it should stay flat, whatever the number of lines.

    python benchmarks/memory.py [--lines N] [--model MODEL] [--cli] [--json FILE]

Made-up lines, all distinct, go through `SentenceEncoder.encode_stream` in a process of its own, or with --cli through
`jinyi embed --input ... --output ...`. Vectors go block by block to a file in TMPDIR, which is deleted in the end. This
process looks at the other's resident size ten times a second. Warm-up is the first tenth of the vectors, at least two
blocks. The exit code is 1 if the size afterwards grew by as much as the output takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from workloads import TINY, made_up, random_folder

import jinyi
from jinyi.batches import CHUNK
from jinyi.errors import ModelNotFoundError
from jinyi.folder import read_folder
from jinyi.registry import default_model, find_model

INTERVAL = 0.1
WARM_UP = 0.1
ROWS = 20  # of the table


def lines(count: int) -> Iterator[str]:
    """Distinct short lines, made as they are drawn."""
    parts = made_up(10_000)
    for number in range(count):
        yield f"{parts[number % len(parts)]}{number // len(parts) or ''}"


def embed(model: Path, count: int, output: Path) -> None:
    """Embed through encode_stream; the vectors go to a file without a header."""
    encoder = jinyi.SentenceEncoder.load(model)
    with output.open("wb") as file:
        for block in encoder.encode_stream(lines(count)):
            file.write(block.tobytes())
            file.flush()


def watch(process: subprocess.Popen[bytes], output: Path, row: int) -> list[tuple[float, float, float]]:
    """Return (seconds, vectors written, resident MB) until the process ends; a vector takes `row` bytes."""
    watched, begin, seen = psutil.Process(process.pid), time.perf_counter(), []
    while process.poll() is None:
        resident = watched.memory_info().rss / 1e6
        if not resident:  # it has just ended
            break
        # The command line writes a .part file and renames it when it is whole.
        written = max(size(output), size(output.with_name(output.name + ".part"))) / row
        seen.append((time.perf_counter() - begin, written, resident))
        time.sleep(INTERVAL)
    return seen


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def show(seen: list[tuple[float, float, float]], count: int, width: int) -> dict[str, float]:
    """Print the course and the verdict."""
    print("| vectors written | seconds | resident, MB |\n|---:|---:|---:|")
    for place in np.linspace(0, len(seen) - 1, min(ROWS, len(seen))).astype(int):
        seconds, written, resident = seen[place]
        print(f"| {written:,.0f} | {seconds:.1f} | {resident:,.0f} |")
    border = max(WARM_UP * count, 2 * CHUNK)
    warm = max(resident for _, written, resident in seen if written <= border)
    most = max((resident for _, written, resident in seen if written > border), default=warm)
    result = {
        "lines": count,
        "lines_per_second": count / seen[-1][0],
        "warm_mb": warm,
        "growth_mb": most - warm,
        "output_mb": count * width * 4 / 1e6,
        "block_mb": CHUNK * width * 4 / 1e6,
    }
    print(
        f"\nResident at most {warm:,.0f} MB during warm-up, {most - warm:+,.1f} MB afterwards; the output is "
        f"{result['output_mb']:,.0f} MB, one block of {CHUNK} vectors {result['block_mb']:.1f} MB. "
        f"{result['lines_per_second']:,.0f} lines/s, start-up included."
    )
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--model", help="default: the shipped one, or a random one of its shape")
    parser.add_argument("--cli", action="store_true", help="through `jinyi embed` in place of encode_stream")
    parser.add_argument("--json", type=Path, help="also write course and verdict to this file")
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)  # this is the watched process
    options = parser.parse_args()
    if options.stream:
        embed(Path(options.model), options.lines, options.stream)
        return 0
    with tempfile.TemporaryDirectory(prefix="jinyi-memory-") as temporary:
        folder = Path(temporary)
        try:
            model = find_model(options.model or default_model("embed"))
        except ModelNotFoundError:
            if options.model:
                raise
            model = random_folder(folder / "random-tiny", TINY, "embed")
        output = folder / "vectors.npy"
        if options.cli:
            source = folder / "lines.txt"
            with source.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines(options.lines))
            command = ["-m", "jinyi.cli", "embed", "--input", str(source), "--output", str(output)]
        else:
            command = [__file__, "--stream", str(output), "--lines", str(options.lines)]
        print(f"{options.lines:,} lines, {model.name}, {'jinyi embed' if options.cli else 'encode_stream'}\n")
        width = read_folder(model, task="embed").vector_size
        process = subprocess.Popen([sys.executable, *command, "--model", str(model)])
        seen = watch(process, output, width * 4)
        if process.wait():
            return 1
        result = show(seen, options.lines, width)
    if options.json:
        options.json.write_text(json.dumps({**result, "course": seen}) + "\n", encoding="utf-8")
    return 0 if result["growth_mb"] < result["output_mb"] else 1


if __name__ == "__main__":
    sys.exit(main())
