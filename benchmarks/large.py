"""A pair model of 1.3 billion parameters on processors: memory, time to open, pairs a second in each precision.

    python benchmarks/large.py                               # writes 2.6 GB into TMPDIR and deletes it in the end
    python benchmarks/large.py --model FOLDER                # a pair model that is on the disk
    python benchmarks/large.py --write FOLDER                # keeps what it wrote, for --model
    python benchmarks/large.py --precisions float32,int8-weights --layers 12 --width 768 --json result.json

The model has the shape of Erlangshen-MegatronBert-1.3B (MegatronBERT, 24 layers, 2,048 wide), random float16 weights in
one file a layer, and texts of random characters: neither speed nor memory depends on the values. Each precision runs in
a process of its own, one after the other. Seconds are of the wall clock with files cached: `load` is `PairScorer.load`,
`first pair` the first call, in which the graph is compiled. Pairs are read in one order (`symmetric=False`); the
default reads both and takes twice as long. `peak` is the most resident memory of the process, which in the end also
scores single pairs of 8 to 512 tokens; `own` and `mapped` are resident then: the process's own memory, and pages of the
weight files, which the system takes back when it needs them. `P` is the greatest difference of P(similar) to the first
precision. Exit code 1: a peak is above --limit GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import describe
from safetensors.numpy import save_file
from workloads import CHARACTERS, HAN_FROM, HAN_TO, SPECIAL

from jinyi import PairScorer
from jinyi.config import EncoderConfig
from jinyi.folder.weights import encoder_shapes

GIB = 2**30
LENGTHS = (16, 64, 128)
# Kernels lay weights out in their own way; which one runs depends on how many tokens there are.
OTHER_LENGTHS = (8, 32, 48, 96, 192, 256, 512)
SPREAD = 0.02  # of random weights, as BERT's begin
CLASSIFIER_SPREAD = 0.06  # so that the logits are about as far apart as a trained model's


def write_model(path: Path, config: EncoderConfig, seed: int = 0) -> Path:
    """Write a pair folder with random float16 weights, one shard a layer; holds one shard in memory at a time."""
    path.mkdir(parents=True)
    width, rng = config.hidden_size, np.random.default_rng(seed)
    shapes = {f"bert.{name}": shape for name, shape in encoder_shapes(config)}
    shapes |= {"bert.pooler.dense.weight": (width, width), "bert.pooler.dense.bias": (width,)}
    shapes |= {"classifier.weight": (2, width), "classifier.bias": (2,)}
    files: dict[str, list[str]] = {}
    for name in shapes:
        layer = name.split("encoder.layer.")[1].split(".")[0] if "encoder.layer." in name else "others"
        files.setdefault(f"model-{layer}.safetensors", []).append(name)
    for file, names in files.items():
        tensors = {}
        for name in names:
            spread = CLASSIFIER_SPREAD if name == "classifier.weight" else SPREAD
            values = rng.standard_normal(shapes[name], np.float32)
            values *= np.float32(spread)
            values += np.float32(name.endswith(("LayerNorm.weight", "ln.weight")))
            tensors[name] = values.astype(np.float16)
        save_file(tensors, path / file, metadata={"format": "pt"})
    weight_map = {name: file for file, names in files.items() for name in names}
    write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    labels = {"0": "not similar", "1": "similar"}
    architecture = "MegatronBertForSequenceClassification"
    write_json(
        path / "config.json", {**config.to_dict(), "architectures": [architecture], "id2label": labels}
    )
    tokens = [*SPECIAL, *map(chr, range(HAN_FROM, HAN_TO))][: config.vocab_size]
    tokens += [f"[unused{number}]" for number in range(config.vocab_size - len(tokens))]
    (path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    write_json(path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return path


def write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def made_up_pairs(count: int, length: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of random characters that take `length` tokens, [CLS] and both [SEP] included."""
    first = (length - 3) // 2
    drawn = np.random.default_rng((seed, length)).choice(list(CHARACTERS), (count, length - 3))
    return [("".join(row[:first]), "".join(row[first:])) for row in drawn]


def peak_gib() -> float:
    """Most resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def measure(model: Path, precision: str, threads: int | None, seconds: float, output: Path) -> dict[str, Any]:
    """Load, score, and say what it took; the probabilities of some pairs go to `output`."""
    begin = time.perf_counter()
    scorer = PairScorer.load(model, precision=precision, threads=threads)
    loaded = time.perf_counter()
    after_load = peak_gib()
    compared = made_up_pairs(16, LENGTHS[0], seed=1)
    scorer.predict(compared[0], symmetric=False)
    answered = time.perf_counter()
    result: dict[str, Any] = {
        "precision": precision,
        "engine": scorer.info(),
        "load_seconds": loaded - begin,
        "first_pair_seconds": answered - loaded,
        "load_peak_gib": after_load,
        "first_pair_peak_gib": peak_gib(),
        "pairs_per_second": {},
    }
    alone = []
    for pair in compared[1:9]:
        begin = time.perf_counter()
        scorer.predict(pair, symmetric=False)
        alone.append(time.perf_counter() - begin)
    result["one_pair_seconds"] = float(np.median(alone))
    for length in LENGTHS:
        scorer.predict(made_up_pairs(2, length, seed=2), symmetric=False)  # kernels of this length
        # Work for about `seconds`, by the speed of one pair.
        count = max(int(seconds / result["one_pair_seconds"] * LENGTHS[0] / length), 4)
        pairs = made_up_pairs(count, length)
        begin = time.perf_counter()
        scorer.predict(pairs, symmetric=False)
        result["pairs_per_second"][length] = count / (time.perf_counter() - begin)
    for length in OTHER_LENGTHS:
        scorer.predict(made_up_pairs(1, min(length, scorer.max_length)), symmetric=False)
    np.save(output, scorer.predict(compared, symmetric=False))
    memory = psutil.Process().memory_info()
    result["peak_gib"] = peak_gib()
    result["mapped_gib"] = getattr(memory, "shared", 0) / GIB
    result["own_gib"] = memory.rss / GIB - result["mapped_gib"]
    return result


def compare(model: Path, precisions: list[str], threads: int | None, seconds: float) -> list[dict[str, Any]]:
    """Measure each precision in a process of its own."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="jinyi-large-") as scratch:
        reference = None
        for precision in precisions:
            output = Path(scratch) / f"{precision}.npy"
            command = [sys.executable, __file__, "--worker", precision, "--model", str(model)]
            command += ["--seconds", str(seconds), "--output", str(output)]
            command += ["--threads", str(threads)] if threads else []
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
            if done.returncode:
                print(f"{precision}: not measured (see above)", file=sys.stderr)
                continue
            result = json.loads(done.stdout)
            scores = np.load(output)
            reference = scores if reference is None else reference
            result["probability_difference"] = float(np.abs(scores - reference).max())
            results.append(result)
            print(f"{precision} measured", file=sys.stderr, flush=True)
    return results


def show(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    rates = " | ".join(f"{length} tokens" for length in LENGTHS)
    print(f"| precision | load, s | first pair, s | one pair, s | {rates} | peak, GiB | own | mapped | P |")
    print("|---|" + "---:|" * (7 + len(LENGTHS)))
    for result in results:
        seconds = " | ".join(
            f"{result[name]:.2f}" for name in ("load_seconds", "first_pair_seconds", "one_pair_seconds")
        )
        rates = " | ".join(f"{result['pairs_per_second'][str(length)]:.2f}" for length in LENGTHS)
        memory = " | ".join(f"{result[name]:.1f}" for name in ("peak_gib", "own_gib", "mapped_gib"))
        print(
            f"| {result['precision']} | {seconds} | {rates} | {memory} | {result['probability_difference']:.2g} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a pair model; left out, one is made")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the made model here")
    parser.add_argument("--precisions", default="float32,bfloat16,int8-weights,int8-dynamic")
    sizes = {"layers": 24, "width": 2048, "heads": 32, "vocabulary": 21248}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="of the made model")
    parser.add_argument("--threads", type=int, help="default: the cores really available")
    parser.add_argument("--seconds", type=float, default=5.0, help="of work for each length, about")
    parser.add_argument("--limit", type=float, default=24.0, help="GiB")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # this process measures one precision
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.model, args.worker, args.threads, args.seconds, args.output)))
        return 0
    with tempfile.TemporaryDirectory(prefix="jinyi-large-") as scratch:
        model = args.model
        if model is None:
            config = EncoderConfig(
                vocab_size=args.vocabulary,
                hidden_size=args.width,
                num_hidden_layers=args.layers,
                num_attention_heads=args.heads,
                intermediate_size=4 * args.width,
                pre_layer_norm=True,
            )
            model = write_model(args.write or Path(scratch) / "model", config)
        results = compare(model, args.precisions.split(","), args.threads, args.seconds)
    show(results)
    if args.json:
        write_json(args.json, {"machine": describe(), "results": results})
    return int(len(results) == 0 or max(result["peak_gib"] for result in results) > args.limit)


if __name__ == "__main__":
    sys.exit(main())
