"""`jinyi convert`: writes a model of any form as a model folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jinyi.cli.common import Json, Threads, print_json, print_note, print_table

if TYPE_CHECKING:
    from jinyi.convert import Conversion


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Model folder, file of weights, TensorFlow checkpoint (prefix, folder or zip), or the name of a "
            "model on this disk."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    task: Annotated[
        str | None,
        typer.Option(help="embed, pair, classes, topic, mlm or encoder; default: what the source holds."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="cls, mean, max, first_last, or pooler ([CLS] through the stored pooler as a linear layer), where the "
            "source does not state how vectors are made."
        ),
    ] = None,
    logits: Annotated[
        int | None, typer.Option(help="1: a pair model with two logits as one with a single, equal logit.")
    ] = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Drop pooler, classifier and the language model's head.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; default: as the source stores it.")
    ] = None,
    similar_label: Annotated[
        str | None,
        typer.Option(help="Name or number of the label that means similar, if the names do not tell."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="config.json to take in place of the source's own.")
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(help="vocab.txt or tokenizer.json to take in place of the source's own.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model folder there.")] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write a model as a folder that jinyi, transformers and sentence-transformers open, and compare both.

    Nothing in a PyTorch file is executed, and neither PyTorch nor TensorFlow is needed.

    jinyi convert chinese_L-12_H-768_A-12.zip bert-base-chinese

    jinyi convert downloads/Erlangshen-Roberta-110M-Similarity my-model --logits 1
    """
    from jinyi.convert import convert as write

    done = write(
        source,
        folder,
        task=task,
        pooling=pooling,
        logits=logits,
        encoder=encoder,
        dtype=dtype,
        similar_label=int(similar_label) if similar_label and similar_label.isdecimal() else similar_label,
        config=config,
        vocab=vocab,
        overwrite=overwrite,
        threads=threads,
    )
    if as_json:
        print_json(done.to_dict())
        return
    print_table(["", str(folder)], _rows(done))
    print_note(f"written: {done.path}")


def _rows(done: Conversion) -> list[list[str]]:
    config, model = done.folder.config, done.folder
    size = f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {config.vocab_size:,} tokens"
    rows = [
        ["source", f"{done.form}: {', '.join(done.files[:3])}{' ...' if len(done.files) > 3 else ''}"],
        ["recognised", f"{config.model_type}, {size}; task {model.task}"],
        ["pooling", model.pooling or ""],
        ["labels", ", ".join(model.labels[:8])],
        [
            "stored as",
            done.dtype if done.dtype == done.stored_before else f"{done.dtype} (was {done.stored_before})",
        ],
        ["parameters", f"{model.parameters:,}"],
        ["changed", "\n".join(done.changes)],
        ["left out", "\n".join(f"{len(names)} tensors: {what}" for what, names in done.left_out.items())],
        ["dropped", _dropped(done)],
        ["renamed", _renamed(done)],
        [
            "added",
            f"{', '.join(done.account.added)}, because readers ask for it" if done.account.added else "",
        ],
        ["note", "\n".join(done.notes)],
        ["parity", str(done.parity)],
    ]
    return [row for row in rows if row[1]]


def _dropped(done: Conversion) -> str:
    """Parts of the model by the first two words of their tensors' names."""
    names = done.account.dropped
    parts = Counter(".".join(name.split(".")[:2]) for name in names)
    listed = ", ".join(f"{part} ({count})" for part, count in sorted(parts.items()))
    return f"{len(names)} tensors, {done.account.dropped_parameters:,} parameters: {listed}" if names else ""


def _renamed(done: Conversion) -> str:
    names = done.account.renamed
    if not names:
        return ""
    new, old = next(iter(names.items()))
    return f"{len(names)} tensors, such as {old} -> {new}"
