"""`jinyi average`: one model of several runs, by the mean of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jinyi.cli.common import Json, print_json, print_note, read_option
from jinyi.errors import InputError


def average(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL[=WEIGHT]...", help="Names or folders, each with its weight (1)."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    name: Annotated[str | None, typer.Option(help="Of the new model; default: the folder's.")] = None,
    summary: Annotated[
        str | None, typer.Option(help="One sentence on it; default: that of the first model.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier, where those of the models differ.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; default: as the first one is stored.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text for the end of the folder's README.md.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model folder at --output.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the mean of the weights of several runs that went on from the same weights: mostly as good as the best.

    Calibration and 8-bit ranges are those of other weights: `jinyi calibrate` and `jinyi quantize` measure them anew.

    jinyi average runs/seed1/last runs/seed2/last runs/seed3/last -o my-model

    jinyi average runs/more/last=0.3 jinyi-tiny-embed=0.7 -o my-model
    """
    from jinyi.convert.average import average as write_average

    given = [_weighted(model) for model in models]
    saved = write_average(
        given,
        output,
        name=name,
        summary=summary,
        licence=licence,
        dtype=dtype,
        card=None if card is None else read_option("--card", card, "a text file in UTF-8"),
        overwrite=overwrite,
    )
    if as_json:
        print_json(
            {"path": str(saved), "models": [{"model": model, "weight": weight} for model, weight in given]}
        )
    else:
        print_note(f"mean of {len(given)} models: {saved}")


def _weighted(given: str) -> tuple[str, float]:
    """The model and weight of MODEL[=WEIGHT]; an = in a path is part of it."""
    model, mark, weight = given.rpartition("=")
    if not mark or "/" in weight or Path(given).expanduser().exists():
        return given, 1.0
    try:
        return model, float(weight)
    except ValueError:
        raise InputError(
            found=f"the weight {weight!r}",
            expected="a number above 0",
            fix=f"Write {model}=0.5, say.",
            where=given,
        ) from None
