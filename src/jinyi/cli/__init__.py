"""The command line: `jinyi COMMAND`. One command, one function; nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import sys
import traceback

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
from jinyi.errors import JinyiError

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


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except JinyiError as error:
        _print_error(error, as_json="--json" in sys.argv)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        print("This is a defect of jinyi; please report it with the lines above.", file=sys.stderr)
        sys.exit(1)


def _print_error(error: JinyiError, *, as_json: bool) -> None:
    parts = {"where": error.where, "found": error.found, "expected": error.expected, "fix": error.fix}
    if as_json:
        print(json.dumps({"error": parts}, ensure_ascii=False), file=sys.stderr)
        return
    print(f"error: {error.where}" if error.where else "error", file=sys.stderr)
    for name in ("found", "expected", "fix"):
        print(f"  {name:<9} {parts[name]}", file=sys.stderr)
