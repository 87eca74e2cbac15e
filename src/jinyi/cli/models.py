"""`jinyi models`: which models there are, what is in one, and fetching published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli.common import Json, print_json, print_note, print_table
from jinyi.errors import InputError, ModelNotFoundError, shorten

if TYPE_CHECKING:
    from jinyi.registry import ModelEntry

app = typer.Typer(help="Models: list, show, download.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_models(
    task: Annotated[
        str | None, typer.Option(help="Only those made for it: embed, pair, topic, mlm, encoder.")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Only those on this disk.")] = False,
    as_json: Json = False,
) -> None:
    """Names of the models on this disk, the shipped ones first, and of the published ones; size: layers x width."""
    from jinyi import registry
    from jinyi.folder.model import TASKS

    if task is not None and task not in TASKS:
        raise InputError(
            where="--task",
            found=shorten(task),
            expected=f"one of {', '.join(TASKS)}",
            fix="Choose one of them.",
        )
    entries = [
        entry
        for entry in registry.list_models()
        if task in (None, entry.task) and (entry.path is not None or not here)
    ]
    if as_json:
        for entry in entries:
            print_json(_row(entry))
        return
    # Two narrow tables: names have up to 60 characters, and a line of a terminal 80.
    found = [entry for entry in entries if entry.path is not None]
    others = [entry for entry in entries if entry.path is None]
    for title, group in (("On this disk", found), ("Published", others)):
        if group:
            rows = [[entry.name, entry.task, f"{entry.layers}x{entry.width}"] for entry in group]
            print_table(["name", "task", "size"], rows, title=title)
    if others:
        print_note("`jinyi models show NAME` says more of one, `jinyi models download NAME` fetches it.")


def _row(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "task": entry.task,
        "architecture": entry.architecture,
        "layers": entry.layers,
        "width": entry.width,
        "parameters_millions": entry.parameters,
        "pooling": entry.pooling,
        "licence": entry.licence,
        "here": str(entry.path) if entry.path else None,
        "note": entry.note,
    }


def _facts(entry: ModelEntry) -> dict[str, Any]:
    """What the registry knows of a model that is not on this disk."""
    return {
        "name": entry.name,
        **{key: value for key, value in _row(entry).items() if key not in ("name", "licence", "note")},
        "labels": list(entry.labels),
        "prompts": dict(entry.prompts),
        "segment_ids": entry.segment_ids,
        "licence": entry.licence or "none stated on its card",
        "base": entry.base,
        "huggingface": f"https://huggingface.co/{entry.name}",
        "modelscope": entry.modelscope and f"https://modelscope.cn/models/{entry.modelscope}",
        "tensorflow": entry.tensorflow,
        "also_called": list(entry.aliases),
        "note": entry.note,
    }


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name or folder.")],
    verify: Annotated[bool, typer.Option(help="Check every byte against the checksums.")] = False,
    as_json: Json = False,
) -> None:
    """What is in a model: task, sizes, pooling, labels, prompts, results; of one not here, what is known of it."""
    from jinyi.folder import read_folder, verify_folder
    from jinyi.registry import find_entry, locate

    try:
        found = locate(name)
    except ModelNotFoundError:
        entry = find_entry(name)
        if entry is None or verify:
            raise
        _print_facts(name, _facts(entry), as_json)
        print_note(f"Not on this disk; `jinyi models download {entry.name}` fetches it.")
        return
    folder = read_folder(found.path, facts=found.facts)
    config = folder.config
    facts: dict[str, Any] = {
        "path": str(folder.path),
        "task": folder.task,
        "architecture": config.architecture,
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
        "training": _training(folder.record.get("training"), whole=as_json),
        "results": folder.record.get("results") or [],
        "source": folder.record.get("source"),
        "notes": list(folder.notes),
    }
    if verify:
        facts["verified_files"] = len(verify_folder(found.path).checked)
    _print_facts(name, facts, as_json)


@app.command("download")
def download(
    name: Annotated[str, typer.Argument(help="A name of `jinyi models list`, or OWNER/NAME.")],
    source: Annotated[str, typer.Option(help="huggingface or modelscope.")] = "huggingface",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: the newest.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A mirror of huggingface.co; default: HF_ENDPOINT, else the official."
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="For models that ask for one; better: `hf auth login` or HF_TOKEN.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="No connection: from Hugging Face's cache on this disk.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Default: where the name finds it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch a published model; a stopped download started again goes on where it was.

    jinyi models download IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese

    jinyi models download hfl/rbt3 --endpoint https://hf-mirror.com
    """
    from jinyi.convert.hub import download

    path = download(
        name,
        source=source,
        revision=revision,
        endpoint=endpoint,
        token=token,
        offline=offline,
        output=output,
        overwrite=overwrite,
        say=print_note,
    )
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if as_json:
        print_json({"name": name, "path": str(path), "bytes": size})
    else:
        print_note(f"{path}: {size:,} bytes")


def _print_facts(name: str, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    print_table(
        ["", name],
        [[key, _readable(value)] for key, value in facts.items() if value not in (None, [], {})],
    )


def _training(record: Mapping[str, Any] | None, *, whole: bool) -> Any:
    """The training record; for the eye its recipe, seed, steps and files, of some hundred lines."""
    if whole or not record or not isinstance(record.get("recipe", {}), dict):
        return record
    if isinstance(parts := record.get("average_of"), list):
        return [_averaged(part) for part in parts]
    recipe = record.get("recipe", {})
    files = [
        value for name, value in recipe.items() if name.startswith("data.train.") and name.endswith(".file")
    ]
    brief = {
        "recipe": recipe.get("name"),
        "seed": record.get("seed"),
        "steps": record.get("step"),
        "tokens": record.get("tokens"),
        "files": ", ".join(files),
        "all of it": "--json",
    }
    return {key: value for key, value in brief.items() if value not in (None, "")}


def _averaged(part: Mapping[str, Any]) -> dict[str, Any]:
    """One of the models that a mean of weights is of."""
    own = part.get("training")
    told = {"weight": part.get("weight"), "model": part.get("name")}
    if own and isinstance(own.get("average_of"), list):
        return told | {"mean of": len(own["average_of"])}
    return told | (_training(own, whole=False) or {"training": "not recorded"})


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_readable(part)}" for key, part in value.items())
    if isinstance(value, list):
        lines = any(isinstance(part, dict) for part in value)
        return "\n".join(map(_readable, value)) if lines else ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
