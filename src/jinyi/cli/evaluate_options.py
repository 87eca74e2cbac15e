"""Options that the kinds of `jinyi evaluate` share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jinyi.errors import InputError

Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Name or folder; repeatable. Default: the shipped model."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        metavar="[NAME=]FILE",
        help="Labelled file; repeatable, further files may follow. Default name: the file's, or for dev.jsonl and the "
        "like its folder's.",
    ),
]
Files = Annotated[
    list[str] | None, typer.Argument(metavar="[[NAME=]FILE]...", help="Further labelled files.")
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Folder for the report: HTML, Markdown, JSON, figures."
    ),
]
Baselines = Annotated[bool, typer.Option(help="Compute the baselines too.")]
Intervals = Annotated[bool, typer.Option(help="95% bootstrap intervals, 1,000 draws.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the bootstrap and of whatever else is drawn.")]
Quoted = Annotated[bool, typer.Option(help="Show published rows of the same sets, marked as quoted.")]
Examples = Annotated[int, typer.Option(min=0, help="Wrong answers shown for each set in the report.")]
Whitening = Annotated[
    list[str] | None,
    typer.Option(help="none, transductive (fitted on the scored texts), or a file of texts; repeatable."),
]
Widths = Annotated[
    list[str] | None,
    typer.Option("--k", help="Dimensions kept by whitening, a number or all; repeatable."),
]

Without = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Leave out scored pairs that stand in this file, as a model's training file, in either order and whatever "
        "their punctuation; repeatable.",
    ),
]


def watched(as_json: bool) -> bool:
    """Tell whether someone wants to read how far the work is."""
    return not as_json and sys.stderr.isatty()


def names_of(models: list[str] | None) -> list[str | None]:
    """Return the models given, or None alone, which every task reads as its shipped model."""
    return [*models] if models else [None]


def widths_of(given: list[str] | None) -> list[int | None]:
    """Return --k as numbers, None for all.

    Raises:
        InputError: something else.
    """
    widths: list[int | None] = []
    for entry in given or ["all"]:
        if entry != "all" and not (entry.isascii() and entry.isdigit() and int(entry) > 0):
            raise InputError(
                found=entry, expected="a number above 0, or all", fix="For example --k 256.", where="--k"
            )
        widths.append(None if entry == "all" else int(entry))
    return widths
