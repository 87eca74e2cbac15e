"""Speed and memory of cleaning and sharding a corpus, on one core.

    python benchmarks/corpus.py TEXTS.txt[.xz] TOKENIZER.json [--lines 20000]

TEXTS.txt has a document on a line. Times are processor time, so that a busy machine does not change them much; memory
is what Python counts as allocated.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, as the table says

from jinyi.tokens import Tokenizer  # noqa: E402
from jinyi.train.corpus import write_shards  # noqa: E402
from jinyi.train.corpus.clean import Rules, clean  # noqa: E402
from jinyi.train.corpus.duplicates import ExactSpans, NearDuplicates  # noqa: E402
from jinyi.train.corpus.read import read_documents  # noqa: E402


def timed(name: str, characters: int, work: Callable[[], object]) -> None:
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    print(f"{name:<32} {characters / seconds / 1e6:6.2f} million characters/s")


def memory(work: Callable[[], object]) -> int:
    tracemalloc.start()
    kept = work()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return used


def near(texts: list[str]) -> NearDuplicates:
    search = NearDuplicates()
    for text in texts:
        search.duplicate(text)
    return search


def spans(texts: list[str]) -> ExactSpans:
    search = ExactSpans(1)
    for text in texts:
        search.repeated([text])
    return search


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--lines", type=int, default=20_000)
    options = parser.parse_args()
    documents = list(islice(read_documents([options.texts], form="lines"), options.lines))
    texts = list(dict.fromkeys(line for lines in documents for line in lines))
    count = sum(map(len, texts))
    print(f"{len(texts):,} different lines, {count:,} characters")
    rules = Rules(span=None, near=None)
    timed("clean: rules alone", count, lambda: list(clean(documents, rules)))
    timed("clean: with duplicates", count, lambda: list(clean(documents)))
    simplified = Rules(span=None, near=None, simplified=True)
    timed("clean: rules, simplified", count, lambda: list(clean(documents, simplified)))
    tokenizer = Tokenizer.from_file(options.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        timed("shard", count, lambda: write_shards(documents, tokenizer, Path(folder, "shards")))
    print(f"{memory(lambda: near(texts)) / len(texts):.0f} bytes a document to find near duplicates")
    print(f"{memory(lambda: spans(texts)) / len(texts):.0f} bytes a span of lines to find exact ones")


if __name__ == "__main__":
    main()
