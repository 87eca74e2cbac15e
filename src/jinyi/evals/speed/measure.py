"""Measures prediction, and has training measured, of several model shapes in one interleaved run."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jinyi.arguments import whole_number
from jinyi.errors import InputError
from jinyi.evals.result import Evaluation, Figure, Row
from jinyi.evals.speed.shapes import DEFAULT, make_shapes, write_shape
from jinyi.evals.speed.systems import LEAST_COSINE, Jinyi, Peer, PeerFailedError, System, installed_peers
from jinyi.evals.speed.texts import long_texts, made_up
from jinyi.folder import read_folder
from jinyi.registry import default_model, find_model
from jinyi.runtime.cores import available_cores
from jinyi.scratch import Scratch

LONG = 126  # characters: 128 tokens with [CLS] and [SEP]
_PROBE = 16
_LEAST, _LEAST_LONG = 32, 4

Train = Callable[[Mapping[str, Any], Path], Sequence[float]]
"""Training of an encoder of this configuration with this tokenizer.json, measured: tokens/s of each step."""


@dataclass(slots=True)
class _Measured:
    """One system with one model: rates of each round, seconds of single texts."""

    model: str
    system: System
    short: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    counts: tuple[int, int] = (0, 0)
    reads_long: bool = True
    training: list[float] = field(default_factory=list)


def evaluate_speed(
    shapes: Sequence[str] = DEFAULT,
    models: Sequence[str | None] = (),
    *,
    texts: Sequence[str] | None = None,
    rounds: int = 3,
    seconds: float = 2.0,
    singles: int = 50,
    precision: str = "auto",
    threads: int | None = None,
    peers: str | None = None,
    train: Train | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """Measure how fast shapes and models make sentence vectors, beside other runtimes, and how fast shapes train.

    In each round every system computes the same texts, forwards in one round and backwards in the next, so that what
    else the machine does hits all alike; scores are medians over rounds. Everything is computed once before. Shapes
    have random weights in a temporary folder. Time: about rounds x systems x 3 x `seconds`, longer for large shapes.

    Args:
        shapes: names from `SHAPES`; the first is what the others are compared with.
        models: also these model folders or names of sentence encoders; None is the shipped one.
        texts: sentences to compute; None makes up some with the lengths of AFQMC's.
        rounds: how often everything is measured.
        seconds: about how long a system computes at a time.
        singles: texts computed one by one in a round.
        precision, threads: as in `SentenceEncoder.load`; training has its own precision.
        peers: interpreter of an environment; the reference runtimes found in it (sentence-transformers on torch, onnx,
            openvino) are measured too, each in a process of its own, if their vectors agree. None measures jinyi alone.
        train: measures training, such as `jinyi.train.speed.training_speed` with its options; None leaves it out.
        say: gets lines about the progress.

    Returns:
        an evaluation of kind "speed": a row for each model and system. Notes say what was left out and why.

    Raises:
        InputError: an unknown shape, nothing to measure, too few texts, a number out of range, or no interpreter at
            `peers`.
        ModelNotFoundError, FolderError: as `SentenceEncoder.load`.
    """
    whole_number(rounds, "rounds", fix="3 tells outliers from speed.")
    whole_number(singles, "singles", fix="50 texts a round give a p99 of sorts.")
    if not 0 <= seconds < float("inf"):
        raise InputError(found=f"{seconds}", expected="a number from 0", fix="Leave it out.", where="seconds")
    chosen = make_shapes(shapes)
    short = list(dict.fromkeys(texts)) if texts is not None else made_up(4096)
    if len(short) < _LEAST or not (chosen or models):
        raise InputError(
            found=f"{len(short)} distinct texts" if chosen or models else "neither a shape nor a model",
            expected=f"at least {_LEAST} texts and one shape or model",
            fix="Leave the texts out to measure made-up ones.",
        )
    singles = min(singles, len(short))
    long = long_texts(short, 256, LONG)
    load = _load()
    notes: list[str] = []
    kinds = {} if peers is None else installed_peers(peers)
    if peers is not None and not kinds:
        notes.append(f"No reference runtime is installed for {peers}.")
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        folders = {shape.name: write_shape(work / shape.name, shape) for shape in chosen}
        folders |= {name: find_model(name) for name in (model or default_model("embed") for model in models)}
        measured = []
        for name, folder in folders.items():
            say(f"opening {name}")
            own = Jinyi(folder, precision=precision, threads=threads)
            stack.callback(own.close)
            reads_long = read_folder(folder).config.max_position_embeddings >= LONG + 2
            measured.append(_Measured(name, own, reads_long=reads_long))
            for kind in kinds:
                peer = _open_peer(kind, peers or "", folder, threads, own, short, notes, name)
                if peer is not None:
                    stack.callback(peer.close)
                    measured.append(_Measured(name, peer, reads_long=reads_long))
        for one in measured:
            _warm(one, short, long, seconds, singles)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for one in measured if number % 2 == 0 else reversed(measured):
                _measure(one, short, long, singles, number)
        for one in measured:
            if train is not None and one.model in shapes and isinstance(one.system, Jinyi):
                say(f"training {one.model}")
                config = read_folder(folders[one.model]).config
                one.training = list(train(_sizes(config), folders[one.model] / "tokenizer.json"))
        rows = _rows(measured, folders)
    notes = [*_notes(rounds, singles, load, texts is None, kinds), *notes]
    return Evaluation(
        title="Speed", kind="speed", rows=rows, figures=[_figure(rows)], notes=notes, layout="one per row"
    )


def _open_peer(
    kind: str,
    python: str,
    folder: Path,
    threads: int | None,
    own: System,
    texts: list[str],
    notes: list[str],
    name: str,
) -> Peer | None:
    """Open a peer and compare its vectors with ours; None with a note where it is not to be measured."""
    peer: Peer | None = None
    try:
        peer = Peer(kind, python, folder, threads=threads)
        cosine = float((peer.vectors(texts[:_PROBE]) * own.vectors(texts[:_PROBE])).sum(1).min())
    except PeerFailedError as fault:
        notes.append(f"{kind} with {name} was left out: it {fault}")
        if peer is not None:
            peer.close()
        return None
    if cosine >= LEAST_COSINE:
        return peer
    notes.append(f"{kind} with {name} was left out: its vectors are at cosine {cosine:.4f} to jinyi's")
    peer.close()
    return None


def _warm(one: _Measured, short: list[str], long: list[str], seconds: float, singles: int) -> None:
    """Compute all kinds of input once, and see how many fill the time of a measurement."""
    counts = []
    for texts, least in ((short, _LEAST), (long, _LEAST_LONG)):
        if texts is long and not one.reads_long:
            counts.append(0)
            continue
        one.system.many(texts[:least])
        rate = least / one.system.many(texts[:least])
        counts.append(min(max(int(rate * seconds), least), len(texts)))
        one.system.many(texts[: counts[-1]])
    one.counts = counts[0], counts[1]
    one.system.one(short[:singles])


def _measure(one: _Measured, short: list[str], long: list[str], singles: int, number: int) -> None:
    for texts, count, rates in ((short, one.counts[0], one.short), (long, one.counts[1], one.long)):
        if count:
            rates.append(count / one.system.many(texts[:count]))
    first = number * singles % max(len(short) - singles, 1)
    one.single += one.system.one(short[first : first + singles])


def _rows(measured: Sequence[_Measured], folders: Mapping[str, Path]) -> list[Row]:
    first = measured[0]
    rows = []
    for one in measured:
        base = next(
            (
                other
                for other in measured
                if other.model == first.model and other.system.name == one.system.name
            ),
            None,
        )
        config = read_folder(folders[one.model]).config
        short = statistics.median(one.short)
        scores = {
            "sentences/s": short,
            **({"long texts/s": statistics.median(one.long)} if one.long else {}),
            "p50 ms": 1e3 * float(np.quantile(one.single, 0.5)),
            "p99 ms": 1e3 * float(np.quantile(one.single, 0.99)),
        }
        if base is not None:
            scores["speed-up"] = short / statistics.median(base.short)
        if one.training:
            rate = statistics.median(one.training)
            scores["training tokens/s"] = rate
            if first.training:
                scores["training speed-up"] = rate / statistics.median(first.training)
        rows.append(
            Row(
                data=one.model,
                system=one.system.name,
                protocol=f"{config.num_hidden_layers} x {config.hidden_size}, {config.vocab_size:,} entries",
                scores=scores,
                settings={
                    "sentences": one.counts[0],
                    "texts of 128 tokens": one.counts[1],
                    "rates": [round(rate, 2) for rate in one.short],
                    "rates of 128 tokens": [round(rate, 2) for rate in one.long],
                    "training rates": [round(rate, 1) for rate in one.training],
                },
            )
        )
    return rows


def _notes(
    rounds: int, singles: int, load: float | None, invented: bool, kinds: Mapping[str, str]
) -> list[str]:
    texts = "made-up sentences with the lengths of AFQMC's" if invented else "the sentences given"
    notes = [
        f"Prediction: sentence vectors of {texts}, and of long texts of {LONG} characters (128 tokens where characters "
        f"are words), from strings to arrays; medians of {rounds} interleaved rounds. p50 and p99: {rounds * singles} "
        "sentences one by one. Speed-ups are over the first shape with the same system.",
    ]
    if load is not None:
        cores = available_cores().count
        notes.append(
            f"Load average when this began: {load:.1f} on {cores} cores"
            + ("." if load < 0.3 * cores else ": not a quiet machine, so speeds are low and ratios rough.")
        )
    if kinds:
        found = "; ".join(f"{kind} ({version})" for kind, version in kinds.items())
        notes.append(f"Reference runtimes, each in a process of its own: {found}.")
    return notes


def _figure(rows: Sequence[Row]) -> Figure:
    bars = {f"{row.data}: {row.system}": row.scores["sentences/s"] for row in rows}
    return Figure(kind="bars", title="Sentences a second", values={"bars": bars, "unit": "sentences/s"})


def _load() -> float | None:
    """Processes that ran or waited over the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _sizes(config: Any) -> dict[str, Any]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {name: getattr(config, name) for name in names}
