"""`jinyi models`: which models there are, and what is in one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jinyi.cli.common import Json, print_json, print_table

app = typer.Typer(help="Models: list, show.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Names of the shipped and the published models; "here" are those on this disk."""
    from jinyi import registry

    rows: list[dict[str, Any]] = []
    for entry in registry.list_models():
        rows.append(
            {
                "name": entry.name,
                "task": entry.task,
                "layers": entry.layers,
                "width": entry.width,
                "parameters_millions": entry.parameters,
                "licence": entry.licence,
                "here": str(entry.path) if entry.path else None,
                "note": entry.note,
            }
        )
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(
        ["name", "task", "layers x width", "million", "here"],
        [
            [
                row["name"],
                row["task"],
                f"{row['layers']} x {row['width']}",
                f"{row['parameters_millions']:g}" if row["parameters_millions"] else "",
                "yes" if row["here"] else "",
            ]
            for row in rows
        ],
    )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name or folder.")],
    verify: Annotated[bool, typer.Option(help="Check every byte against the checksums.")] = False,
    as_json: Json = False,
) -> None:
    """What is in a model: task, sizes, pooling, labels, prompts, results."""
    from jinyi.folder import read_folder, verify_folder
    from jinyi.registry import find_model

    path = find_model(name)
    folder = read_folder(path)
    config = folder.config
    facts: dict[str, Any] = {
        "path": str(folder.path),
        "task": folder.task,
        "architecture": "MegatronBERT" if config.pre_layer_norm else "BERT",
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "vocabulary": config.vocab_size,
        "parameters": folder.parameters,
        "stored_as": folder.dtype,
        "max_length": folder.max_length,
        "pooling": folder.pooling,
        "vector": folder.vector_size if folder.task == "embed" else None,
        "labels": list(folder.labels),
        "prompts": dict(folder.prompts),
        "licence": folder.record.get("licence"),
        "golden": len(folder.golden.inputs) if folder.golden else 0,
        "training": folder.record.get("training"),
        "results": folder.record.get("results") or [],
        "notes": list(folder.notes),
    }
    if verify:
        facts["verified_files"] = len(verify_folder(path).checked)
    if as_json:
        print_json(facts)
        return
    print_table(
        ["", str(name)],
        [[key, _readable(value)] for key, value in facts.items() if value not in (None, [], {})],
    )


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_readable(part)}" for key, part in value.items())
    if isinstance(value, list):
        lines = any(isinstance(part, dict) for part in value)
        return "\n".join(map(_readable, value)) if lines else ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
