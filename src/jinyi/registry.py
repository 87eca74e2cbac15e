"""Models by name: those shipped in the package, those a user has put in the models folder, published ones.

Nothing here opens a network connection: a published model is found only once its folder lies on the disk.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from jinyi.errors import InputError, ModelNotFoundError, shorten
from jinyi.folder.jsonfile import optional_json
from jinyi.folder.model import RECORD

DEFAULTS = {"embed": "jinyi-tiny-embed", "pair": "jinyi-tiny-pair", "topic": "jinyi-tiny-topic"}


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model by its name.

    Args:
        name: `jinyi-tiny-embed`, or `owner/name` for a published one.
        task: what it was made for: "embed", "pair", "topic", "mlm" or "encoder".
        layers: transformer layers.
        width: hidden size.
        parameters: in millions, as far as known; None if not.
        pooling: how its sentence vectors are made; None where its authors state none.
        licence: SPDX identifier as its card states it; None: the card states none.
        architecture: "bert" (post-layer-norm) or "megatron-bert" (pre-layer-norm).
        note: one sentence worth knowing before using it.
        shipped: whether it lies in the package.
        path: its folder on this disk; None if it is not here.
    """

    name: str
    task: str
    layers: int
    width: int
    parameters: float | None = None
    pooling: str | None = None
    licence: str | None = None
    architecture: str = "bert"
    note: str = ""
    shipped: bool = False
    path: Path | None = None


_SIZES = {"110M": (12, 768, 102.3), "330M": (24, 1024, 330.0), "1.3B": (24, 2048, 1300.0)}


def _erlangshen(name: str, task: str, size: str, note: str = "", pooling: str | None = None) -> ModelEntry:
    layers, width, millions = {
        "110M": (12, 768, 102.3),
        "330M": (24, 1024, 330.0),
        "1.3B": (24, 2048, 1300.0),
    }[size]
    kind = "megatron-bert" if size == "1.3B" else "bert"
    return ModelEntry(
        f"IDEA-CCNL/Erlangshen-{name}", task, layers, width, millions, pooling, "apache-2.0", kind, note
    )


def _clue(name: str, layers: int, width: int, millions: float, note: str = "") -> ModelEntry:
    note = note or "A pretrained encoder: fine-tune it; its config.json says roberta, it is a BERT."
    return ModelEntry(
        f"clue/roberta_chinese_{name}", "mlm", layers, width, millions, None, None, "bert", note
    )


_CONTRASTIVE = "Sentence vectors for topics: mean over all tokens, prompt on the texts to be classified."
_PROMPT = "Masked language model for topic prompts with two-character label words."
_PAIR = "Pretrained on sentence pairs: fine-tune it on own pairs; no trained classifier inside."
# Shapes and parameter counts are those of the weights; where a card states another number the weights count.
PUBLISHED = (
    _erlangshen("Roberta-110M-Similarity", "pair", "110M", "Two labels, 1 = similar."),
    _erlangshen("Roberta-330M-Similarity", "pair", "330M", "Two labels, 1 = similar."),
    _erlangshen("MegatronBert-1.3B-Similarity", "pair", "1.3B", "Two labels, 1 = similar; needs about 6 GB."),
    _erlangshen("SimCSE-110M-Chinese", "embed", "110M", "Raw [CLS] vectors, no whitening.", "cls"),
    *(
        _erlangshen(f"TCBert-{size}-Classification-Chinese", "topic", size, _PROMPT)
        for size in ("110M", "330M", "1.3B")
    ),
    *(
        _erlangshen(f"TCBert-{size}-Sentence-Embedding-Chinese", "embed", size, _CONTRASTIVE, "mean")
        for size in ("110M", "330M", "1.3B")
    ),
    _clue("clue_tiny", 4, 312, 7.5),
    _clue("pair_tiny", 4, 312, 7.5, _PAIR),
    _clue("3L312_clue_tiny", 3, 312, 6.3),
    _clue("3L768_clue_tiny", 3, 768, 28.4),
    _clue("clue_large", 24, 1024, 312.1),
    _clue("pair_large", 24, 1024, 312.1, _PAIR),
)


def models_home() -> Path:
    """Return the folder in which models are looked up by name: `$JINYI_HOME/models`, else `~/.jinyi/models`."""
    home = os.environ.get("JINYI_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".jinyi") / "models"


def shipped_models() -> tuple[ModelEntry, ...]:
    """Return the models that lie in the package, by name."""
    root = Path(str(resources.files("jinyi").joinpath("pretrained")))
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return tuple(_entry(folder) for folder in folders if (folder / "config.json").is_file())


def _entry(folder: Path) -> ModelEntry:
    record, config = optional_json(folder / RECORD), optional_json(folder / "config.json")
    summary = record.get("summary")
    return ModelEntry(
        name=folder.name,
        task=str(record.get("task", "encoder")),
        layers=int(config.get("num_hidden_layers", 0)),
        width=int(config.get("hidden_size", 0)),
        parameters=round(record["parameters"] / 1e6, 1) if record.get("parameters") else None,
        pooling=record.get("pooling"),
        licence=record.get("licence"),
        architecture=str(config.get("model_type", "bert")),
        note=summary if isinstance(summary, str) else "",
        shipped=True,
        path=folder,
    )


def list_models() -> tuple[ModelEntry, ...]:
    """Return the shipped models and the published ones; `path` tells which of them are on this disk."""
    home = models_home()
    published = (
        replace(entry, path=home / entry.name) if (home / entry.name).is_dir() else entry
        for entry in PUBLISHED
    )
    return (*shipped_models(), *published)


def default_model(task: str) -> str:
    """Return the name of the shipped model that is taken for a task when none is named.

    Args:
        task: "embed", "pair" or "topic".

    Raises:
        InputError: no such task.
    """
    if task not in DEFAULTS:
        raise InputError(
            where="task",
            found=shorten(task),
            expected=f"one of {', '.join(DEFAULTS)}",
            fix="Choose one of them.",
        )
    return DEFAULTS[task]


def find_model(name: str | os.PathLike[str]) -> Path:
    """Find a model folder on this disk.

    A path to a folder counts first (a folder that merely has the name of a shipped model, but no config.json,
    does not), then the shipped models, then `models_home()`.

    Args:
        name: a path, the name of a shipped model, or the name of a model in `models_home()`.

    Returns:
        The folder; it is not opened or checked here.

    Raises:
        InputError: neither a text nor a path.
        ModelNotFoundError: there is none; the message lists what there is, and for a published model where its
            folder would have to be.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(
            where="model",
            found=shorten(name),
            expected="a name or a path",
            fix="Give a text or a pathlib.Path.",
        )
    text = os.fspath(name)
    path = Path(os.path.expanduser(text))
    shipped = {entry.name: entry.path for entry in shipped_models() if entry.path is not None}
    # os.path answers False where pathlib raises: on names too long, or with a NUL.
    if text and os.path.isdir(path) and (text not in shipped or (path / "config.json").is_file()):
        return path
    if text in shipped:
        return shipped[text]
    home = models_home()
    published = [entry.name for entry in PUBLISHED]
    full = next((known for known in published if text in (known, known.split("/")[1])), None)
    for place in (text, full):
        if (
            place
            and not Path(place).is_absolute()
            and ".." not in Path(place).parts
            and os.path.isdir(home / place)
        ):
            return home / place
    raise _not_found(text, path, full, [*shipped], published)


def _not_found(
    text: str, path: Path, full: str | None, shipped: list[str], published: list[str]
) -> ModelNotFoundError:
    if os.path.isfile(path):
        found, fix = f"a file, {text}", "Give the folder it lies in."
    elif full is not None:
        found = f"no folder of the published model {full}"
        fix = (
            f"Nothing is downloaded by itself: put its files (safetensors version) into {models_home() / full}, "
            "or give the path of a folder that holds them."
        )
    else:
        names = [*shipped, *published]
        folded = {known.lower(): known for known in names} | {
            known.split("/")[-1].lower(): known for known in names
        }
        close = difflib.get_close_matches(text.lower(), folded, n=3, cutoff=0.6)
        found = f"no model and no folder {shorten(text, 80)}"
        fix = "`jinyi models list` shows all names; a path needs the folder with config.json and the weights."
        if close:
            fix = f"Did you mean {', '.join(dict.fromkeys(folded[key] for key in close))}? {fix}"
    here = ", ".join(shipped) or "none in this installation"
    return ModelNotFoundError(
        where=shorten(text, 80),
        found=found,
        expected=f"a folder or the name of a shipped model ({here})",
        fix=fix,
    )
