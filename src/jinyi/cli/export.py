"""`jinyi export`: a model for other runtimes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jinyi.cli.common import Json, check_copy, print_json, print_note, print_table


def export(
    model: Annotated[str, typer.Argument(help="Name or folder.")],
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    to: Annotated[
        list[str], typer.Option("--to", help="onnx, openvino or sentence-transformers; repeatable.")
    ],
    dtype: Annotated[
        str, typer.Option(help="How matrices are stored: float32, float16, or auto for the model's own.")
    ] = "auto",
    task: Annotated[
        str | None, typer.Option(help="Open the model as embed, encoder, mlm, pair or classes.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="cls, mean, max, first_last or pooler, where the folder states none.")
    ] = None,
    similar_label: Annotated[
        str | None, typer.Option(help="Name of a pair model's output that means similar.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model folder.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX, OpenVINO IR or a sentence-transformers folder, and compare it with the model.

    The folder is one that sentence-transformers opens; the graph lies in onnx/ or openvino/. Whitening is done in the
    graph, so that every reader gets the same vectors.

    jinyi export my-model my-model-onnx --to onnx
    """
    from jinyi.convert.export import export as write

    check_copy(folder, folder, overwrite, "exported model")
    done = write(
        model,
        folder,
        to=to,
        dtype=dtype,
        task=task,
        pooling=pooling,
        similar_label=similar_label,
        overwrite=overwrite,
    )
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    print_table(
        ["compared with the model", "rows", "cosine", "difference"],
        [
            [
                f"{parity.compared} ({parity.reader.split()[0]})",
                str(parity.rows),
                "" if parity.least_cosine is None else f"{parity.least_cosine:.7f}",
                f"{parity.largest_difference:.1e}",
            ]
            for parity in done.parities
        ],
        numbers=True,
    )
    for note in done.notes:
        print_note(note)
    print_note(f"exported ({done.task}, {done.dtype}): {done.path}")
    for file in done.files:
        print_note(f"  {file}  {(done.path / file).stat().st_size / 1e6:,.1f} MB")
