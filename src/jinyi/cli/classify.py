"""`jinyi classify`: topics of texts."""

from __future__ import annotations

from typing import Annotated, Any

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
    check_options,
    finish,
    model_key,
    need_input,
    print_json,
    print_note,
    print_table,
    quiet_truncation,
    run_job,
)


def classify(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...")] = None,
    source: Input = None,
    output: Output = None,
    labels: Annotated[
        str | None, typer.Option(help="Label words joined by commas, as 体育,财经; default: the model's own.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text before the input, {} for the label word.")] = None,
    calibrate: Annotated[bool, typer.Option(help="Remove the preference for frequent label words.")] = False,
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
    if source is not None:
        next(
            read_texts(source, column=column, encoding=encoding)
        )  # a bad file is told before a model is opened
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

    if source is None:
        rows, cut = predict(texts or [])
        _show(rows, cut, as_json)
        return
    if output is None or encoder is None:
        from jinyi.batches import chunks

        for block in chunks(read_texts(source, column=column, encoding=encoding)):
            rows, cut = predict([row.text for row in block])
            _show(rows, cut, as_json)
        return

    def compute(block: list[Any]) -> tuple[bytes, int]:
        rows, cut = predict([row.text for row in block])
        return encoder.encode(rows), cut

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
    total, cut = run_job(
        source,
        output,
        read=lambda: read_texts(source, column=column, encoding=encoding),
        compute=compute,
        header=lambda rows: encoder.header(),
        key=model_key(classifier.path, classifier.info(), settings),
        label="texts",
    )
    finish({"output": str(output), "rows": total, "cut": cut}, as_json)


def _show(rows: list[dict[str, Any]], cut: int, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
    else:
        shown = [
            ["  ".join(f"{label} {value:.3f}" for label, value in row["scores"].items()), row["text"]]
            for row in rows
        ]
        print_table(["topic", "text"], shown)
    if cut:
        print_note(f"{cut:,} of {len(rows):,} texts were longer than the model reads and were cut")
