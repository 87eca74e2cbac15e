"""All commands by their names; nothing heavy is imported before one of them runs."""

from __future__ import annotations

import typer

from jinyi.cli import (
    calibrate,
    classify,
    clue,
    convert,
    corpus,
    data,
    embed,
    evaluate,
    export,
    models,
    quantize,
    score,
    serve,
    train,
    vocab,
)

app = typer.Typer(
    help="Chinese sentence similarity, sentence vectors and topics. Exit codes: 0 done, 2 wrong use or bad input, 1 a "
    "defect of jinyi.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("score")(score.score)
app.command("embed")(embed.embed)
app.command("classify")(classify.classify)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("quantize")(quantize.quantize)
app.command("export")(export.export)
app.command("convert")(convert.convert)
app.command("serve")(serve.serve)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
app.add_typer(corpus.app, name="corpus")
app.add_typer(data.app, name="data")
app.add_typer(vocab.app, name="vocab")
app.add_typer(clue.app, name="clue")


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    if version:
        from jinyi import __version__

        print(__version__)
        raise typer.Exit
