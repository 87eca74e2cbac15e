"""All commands by their names; nothing heavy is imported before one of them runs."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from jinyi.cli import (
    average,
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
from jinyi.cli.common import print_note


class _Commands(TyperGroup):
    """Takes what Typer would end on its own: Ctrl-C without a word, a reader that left with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; 130 after Ctrl-C, 141 (as other tools by SIGPIPE) where `head` has seen enough."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print_note("stopped")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise typer.Exit(141) from None
        return result


app = typer.Typer(
    cls=_Commands,
    help="Chinese sentence similarity, sentence vectors and topics. Exit codes: 0 done, 2 wrong use or bad input, 130 "
    "stopped by Ctrl-C, 141 the reader of the output left, 1 a defect of jinyi.",
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
app.command("average")(average.average)
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
