"""`jinyi embed`: sentence vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli.common import (
    Device,
    Encoding,
    Input,
    Json,
    Model,
    Output,
    Precision,
    Threads,
    Truncate,
    quiet_truncation,
)
from jinyi.cli.job import check_options, finish, model_key, need_input, run_job, show_rows

if TYPE_CHECKING:
    from jinyi.files import RowEncoder


def embed(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...")] = None,
    source: Input = None,
    output: Output = None,
    column: Annotated[str | None, typer.Option(help="Column of the text; found by usual names.")] = None,
    encoding: Encoding = "utf-8",
    model: Model = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="cls, mean, max, first_last or pooler, for folders that do not state it."),
    ] = None,
    normalize: Annotated[bool, typer.Option(help="Vectors of length 1.")] = True,
    prompt_name: Annotated[str | None, typer.Option(help="Named prompt of the model.")] = None,
    truncate: Truncate = "warn",
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Vectors of texts, or of every text in a file, to .npy (float32, one row a text) or .jsonl.

    jinyi embed --input texts.txt --output vectors.npy
    """
    need_input(bool(texts), source, "texts", output)
    check_options(truncate)
    from jinyi.errors import InputError
    from jinyi.files import npy_header, read_texts
    from jinyi.models.sentence_encoder import SentenceEncoder

    rows_out = None
    if source is not None:
        if output is None:
            raise InputError(
                found="--input without --output",
                expected="a file for the vectors",
                fix="Give --output vectors.npy or vectors.jsonl.",
            )
        if output.suffix.lower() != ".npy":
            rows_out = _row_encoder(output)
        next(
            read_texts(source, column=column, encoding=encoding)
        )  # a bad file is told before a model is opened
    encoder = SentenceEncoder.load(
        model, precision=precision, threads=threads, device=device, pooling=pooling
    )

    def vectors_of(part: list[str]) -> tuple[Any, int]:
        with quiet_truncation():
            vectors, report = encoder.encode(
                part,
                normalize=normalize,
                truncate=truncate,
                prompt_name=prompt_name,
                show_progress=False,
                return_report=True,
            )
        return vectors, report.cut

    if source is None or output is None:
        vectors, cut = vectors_of(texts or [])
        show_rows(
            [
                {"text": text, "vector": vector}
                for text, vector in zip(texts or [], vectors.tolist(), strict=True)
            ],
            cut,
            columns=[f"vector ({encoder.dimension} numbers)", "text"],
            cells=lambda row: [
                " ".join(f"{value:+.3f}" for value in row["vector"][:4]) + " ...",
                row["text"],
            ],
            label="texts",
            as_json=as_json,
        )
        return

    def compute(block: list[Any]) -> tuple[bytes, int]:
        part = [row.text for row in block]
        vectors, cut = vectors_of(part)
        if rows_out is None:
            return vectors.astype("<f4", copy=False).tobytes(), cut
        pairs = zip(part, vectors.tolist(), strict=True)
        return rows_out.encode({"text": text, "vector": vector} for text, vector in pairs), cut

    settings = {
        "command": "embed",
        "column": column,
        "encoding": encoding,
        "pooling": pooling,
        "normalize": normalize,
        "prompt_name": prompt_name,
        "truncate": truncate,
    }
    total, cut = run_job(
        source,
        output,
        read=lambda: read_texts(source, column=column, encoding=encoding),
        compute=compute,
        header=lambda rows: npy_header(rows, encoder.dimension) if rows_out is None else rows_out.header(),
        key=model_key(encoder.path, encoder.info(), settings),
        label="texts",
    )
    finish({"output": str(output), "rows": total, "dimension": encoder.dimension, "cut": cut}, as_json)


def _row_encoder(output: Path) -> RowEncoder:
    from jinyi.errors import InputError, shorten
    from jinyi.files import RowEncoder, file_format

    try:
        fits = file_format(output)[0] in ("jsonl", "tsv", "csv")
    except InputError:
        fits = False
    if not fits:
        raise InputError(
            found=f"a name ending in {shorten(''.join(output.suffixes[-2:]))}",
            expected=".npy; or .jsonl, .tsv or .csv (also .gz, .xz) with texts and vectors",
            fix="Give --output such a name.",
            where=str(output),
        )
    return RowEncoder(output, ["text", "vector"])
