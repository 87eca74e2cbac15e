"""`jinyi score`: P(similar) of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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
from jinyi.cli.job import answer, check_options, model_key, need_input, show_rows

if TYPE_CHECKING:
    from jinyi.files import PairRow


def score(
    first: Annotated[str | None, typer.Argument(metavar="A", help='A text, or "a[SEP]b".')] = None,
    second: Annotated[str | None, typer.Argument(metavar="B", help="The other text.")] = None,
    source: Input = None,
    output: Output = None,
    columns: Annotated[
        str | None, typer.Option(help="The two columns of the pair, as texta,textb; found by usual names.")
    ] = None,
    encoding: Encoding = "utf-8",
    model: Model = None,
    symmetric: Annotated[
        bool, typer.Option(help="Average both orders, or read the pair once as given.")
    ] = True,
    segment_ids: Annotated[
        str | None,
        typer.Option(help="pair (segments 0 and 1) or zeros (all 0); default: as the model's folder says."),
    ] = None,
    similar_label: Annotated[
        str | None,
        typer.Option(help="Name or index of the output that means similar, where the model does not tell."),
    ] = None,
    truncate: Truncate = "warn",
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """P(similar) of two texts, or of every pair in a file.

    jinyi score 怎么改密码 如何修改登录密码

    jinyi score --input pairs.tsv --output scores.jsonl
    """
    need_input(first is not None, source, "texts", output)
    check_options(truncate, windows=False)
    from jinyi.files import RowEncoder, read_pairs
    from jinyi.models.pair_rows import as_pairs
    from jinyi.models.pair_scorer import PairScorer

    names = _two_columns(columns)
    encoder = RowEncoder(output, ["texta", "textb", "score"]) if output else None

    def read(path: Path) -> Iterator[PairRow]:
        return read_pairs(path, columns=names, encoding=encoding)

    if source is not None:
        next(read(source))  # a bad file is told before a model is opened
    scorer = PairScorer.load(
        model,
        precision=precision,
        threads=threads,
        device=device,
        segment_ids=cast("Any", segment_ids),  # checked where it is used
        similar_label=similar_label,
    )

    def predict(pairs: Any) -> tuple[list[dict[str, Any]], int]:
        with quiet_truncation():
            values, report = scorer.predict(pairs, symmetric=symmetric, truncate=truncate, return_report=True)
        rows = zip(pairs, values.tolist(), strict=True)
        return [{"texta": a, "textb": b, "score": round(value, 6)} for (a, b), value in rows], report.cut

    settings = {
        "command": "score",
        "columns": names,
        "encoding": encoding,
        "symmetric": symmetric,
        "segment_ids": scorer.segment_ids,
        "similar_label": scorer.similar,
        "truncate": truncate,
    }
    answer(
        source,
        output,
        given=lambda: as_pairs(first if second is None else (first, second))[0],
        read=read,
        item=lambda row: (row.a, row.b),
        predict=predict,
        show=lambda rows, cut: show_rows(
            rows, cut, columns=["P(similar)", "A", "B"], cells=_cells, label="pairs", as_json=as_json
        ),
        encoder=encoder,
        key=lambda: model_key(scorer.path, scorer.info(), settings),
        label="pairs",
        as_json=as_json,
    )


def _two_columns(columns: str | None) -> tuple[str, str] | None:
    if columns is None:
        return None
    from jinyi.errors import InputError, shorten

    names = [name.strip() for name in columns.replace("，", ",").split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(
            found=shorten(columns),
            expected="two names joined by a comma",
            fix="For example --columns question1,question2.",
            where="--columns",
        )
    return names[0], names[1]


def _cells(row: dict[str, Any]) -> list[str]:
    return [f"{row['score']:.4f}", row["texta"], row["textb"]]
