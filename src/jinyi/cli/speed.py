"""`jinyi evaluate speed`: how fast shapes and models are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli.common import Json, Precision, Threads, print_note
from jinyi.errors import InputError

if TYPE_CHECKING:
    from jinyi.evals.speed.measure import Train


def speed(
    shapes: Annotated[
        str | None,
        typer.Option(
            help="base-21k,base-8k,tiny-21k,tiny-8k is the default; also tiny3l768-8k, tiny3l312-8k, large-8k; or none."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Also this sentence encoder, name or folder; repeatable."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Sentences; default: made-up ones.")
    ] = None,
    training: Annotated[
        bool | None, typer.Option(help="Measure training too; default: if jinyi[train] is installed.")
    ] = None,
    training_precision: Annotated[str, typer.Option(help="Of training: float32 or bf16.")] = "float32",
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON", help="Interpreter whose sentence-transformers is measured beside; here: python."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="About how long a system computes at a time.")
    ] = 2.0,
    singles: Annotated[int, typer.Option(min=1, help="Sentences computed one by one in a round.")] = 50,
    precision: Precision = "auto",
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the report.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sentences a second, latency, and training tokens a second of shapes: base and tiny, 21K and 8K vocabulary.

    jinyi evaluate speed --peers .venv-peers/bin/python
    """
    from jinyi.cli.printing import check_output, show_evaluation
    from jinyi.evals.speed import evaluate_speed, make_shapes
    from jinyi.evals.speed.shapes import DEFAULT
    from jinyi.files import read_texts

    check_output(output)
    names: Sequence[str] = DEFAULT if shapes is None else [] if shapes == "none" else shapes.split(",")
    make_shapes(names)
    texts = None if data is None else [row.text for row in read_texts(data)]
    evaluation = evaluate_speed(
        names,
        models or [],
        texts=texts,
        rounds=rounds,
        seconds=seconds,
        singles=singles,
        precision=precision,
        threads=threads,
        peers=_interpreter(peers),
        train=_trainer(training, texts, training_precision, threads) if names else None,
        say=print_note,
    )
    show_evaluation(evaluation, output=output, as_json=as_json)


def _interpreter(given: str | None) -> str | None:
    """ "python" is the interpreter that runs this command."""
    import sys

    return sys.executable if given == "python" else given


def _trainer(
    wanted: bool | None, texts: Sequence[str] | None, precision: Any, threads: int | None
) -> Train | None:
    """The training room's measurement, if it is wanted and can be had."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "accelerate", "rjieba") if find_spec(name) is None]
    if wanted is False or (wanted is None and missing):
        return None
    if missing:
        raise InputError(
            found=f"no package {missing[0]}",
            expected="the training packages",
            fix='Run: pip install "jinyi[train]", or give --no-training.',
            where="--training",
        )
    if precision not in ("float32", "bf16"):
        raise InputError(
            found=precision,
            expected="float32 or bf16",
            fix="bf16 needs a processor that has it.",
            where="--training-precision",
        )
    from jinyi.evals.speed.texts import made_up
    from jinyi.train.speed import training_speed

    return partial(training_speed, texts=texts or made_up(4096), precision=precision, threads=threads)
