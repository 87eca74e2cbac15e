"""`jinyi evaluate`: how good a model is, with baselines and intervals beside it."""

from __future__ import annotations

from typing import Annotated

import typer

from jinyi.cli.common import Json, Precision, Threads
from jinyi.cli.evaluate_options import (
    Baselines,
    Data,
    Examples,
    Files,
    Intervals,
    Models,
    Quoted,
    Report,
    Seed,
    Whitening,
    Widths,
    Without,
    names_of,
    watched,
    widths_of,
)
from jinyi.cli.named import named_files
from jinyi.cli.speed import speed
from jinyi.cli.topics import topics

app = typer.Typer(
    help="Scores of models on labelled files: sentence vectors, pairs, topics; speed. See docs/evaluation.md.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("sts")
def sts(
    files: Files = None,
    models: Models = None,
    data: Data = None,
    output: Report = None,
    pooling: Annotated[
        list[str] | None,
        typer.Option(help="own, cls, mean, first_last, max or pooler; repeatable. Default: the model's own."),
    ] = None,
    whitening: Whitening = None,
    k: Widths = None,
    without: Without = None,
    baselines: Baselines = True,
    quoted: Quoted = True,
    intervals: Intervals = True,
    seed: Seed = 0,
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Spearman and Pearson of cosine and label.

    jinyi evaluate sts --data lcqmc=lcqmc/dev.jsonl bq=bq/dev.jsonl --pooling own --pooling cls --output report
    """
    from jinyi.cli.printing import check_output, show_evaluation

    named = named_files([*(data or ()), *(files or ())])
    widths = widths_of(k)
    check_output(output)
    from jinyi.evals.sts import evaluate_sts

    evaluation = evaluate_sts(
        names_of(models),
        named,
        pooling=pooling,
        whitening=whitening or ["none"],
        k=widths,
        baselines=baselines,
        intervals=intervals,
        seed=seed,
        quoted=quoted,
        without=without or (),
        precision=precision,
        threads=threads,
        progress=watched(as_json),
    )
    show_evaluation(evaluation, output=output, as_json=as_json)


@app.command("pairs")
def pairs(
    files: Files = None,
    models: Models = None,
    data: Data = None,
    output: Report = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="Labelled file, never the scored one, on which the threshold of the set of that name is chosen; "
            "repeatable.",
        ),
    ] = None,
    examples: Examples = 10,
    without: Without = None,
    baselines: Baselines = True,
    intervals: Intervals = True,
    seed: Seed = 0,
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Accuracy, F1, AUC and average precision of P(similar); majority class, asymmetry, errors.

    jinyi evaluate pairs --data lcqmc=test.jsonl --choose lcqmc=dev.jsonl --output report
    """
    from jinyi.cli.printing import check_output, show_evaluation

    named = named_files([*(data or ()), *(files or ())])
    chosen = named_files(choose, option="--choose", of=named) if choose else {}
    check_output(output)
    from jinyi.evals.pairs import evaluate_pairs

    evaluation = evaluate_pairs(
        names_of(models),
        named,
        choose=chosen,
        baselines=baselines,
        intervals=intervals,
        seed=seed,
        examples=examples,
        without=without or (),
        precision=precision,
        threads=threads,
        progress=watched(as_json),
    )
    show_evaluation(evaluation, output=output, as_json=as_json)


app.command("topics")(topics)
app.command("speed")(speed)
