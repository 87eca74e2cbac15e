"""`jinyi classify`: topics of texts."""

from __future__ import annotations

from collections.abc import Iterator
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
from jinyi.cli.job import answer, check_options, model_key, need_input, show_rows

if TYPE_CHECKING:
    from jinyi.files import TextRow


def classify(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...")] = None,
    source: Input = None,
    output: Output = None,
    labels: Annotated[
        str | None, typer.Option(help="Label words joined by commas, as 体育,财经; default: the model's own.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text before the input, {} for the label word.")] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Remove the preference for frequent label words; default: where some are new to the model.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels shown for each text.")] = 3,
    column: Annotated[str | None, typer.Option(help="Column of the text; found by usual names.")] = None,
    encoding: Encoding = "utf-8",
    model: Model = None,
    truncate: Truncate = "warn",
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """The topic of texts, or of every text in a file: no training, the label words are scored.

    jinyi classify 主队加时赛险胜对手 --labels 体育,财经

    jinyi classify --input news.jsonl --output topics.jsonl --labels 体育,财经,房产
    """
    need_input(bool(texts), source, "texts", output)
    check_options(truncate)
    from jinyi.files import RowEncoder, read_texts
    from jinyi.models.topic_classifier import TopicClassifier

    encoder = RowEncoder(output, ["text", "label", "score", "scores"]) if output else None

    def read(path: Path) -> Iterator[TextRow]:
        return read_texts(path, column=column, encoding=encoding)

    if source is not None:
        next(read(source))  # a bad file is told before a model is opened
    words = [word.strip() for word in labels.replace("，", ",").split(",")] if labels is not None else None
    classifier = TopicClassifier.load(
        model,
        labels=words,
        prompt=prompt,
        calibrate=calibrate,
        precision=precision,
        threads=threads,
        device=device,
    )

    def predict(part: list[str]) -> tuple[list[dict[str, Any]], int]:
        with quiet_truncation():
            proba, report = classifier.predict_proba(
                part, truncate=truncate, show_progress=False, return_report=True
            )
        names = classifier.classes_.tolist()
        rows = []
        for text, values in zip(part, proba, strict=True):
            order = (-values).argsort(kind="stable")[:top]
            scores = {str(names[place]): round(float(values[place]), 6) for place in order}
            rows.append(
                {
                    "text": text,
                    "label": names[order[0]],
                    "score": scores[str(names[order[0]])],
                    "scores": scores,
                }
            )
        return rows, report.cut

    settings = {
        "command": "classify",
        "column": column,
        "encoding": encoding,
        "labels": words,
        "prompt": prompt,
        "calibrate": calibrate,
        "top": top,
        "truncate": truncate,
    }
    answer(
        source,
        output,
        given=lambda: texts or [],
        read=read,
        item=lambda row: row.text,
        predict=predict,
        show=lambda rows, cut: show_rows(
            rows, cut, columns=["topic", "text"], cells=_cells, label="texts", as_json=as_json
        ),
        encoder=encoder,
        key=lambda: model_key(classifier.path, classifier.info(), settings),
        label="texts",
        as_json=as_json,
    )


def _cells(row: dict[str, Any]) -> list[str]:
    return ["  ".join(f"{label} {value:.3f}" for label, value in row["scores"].items()), row["text"]]
