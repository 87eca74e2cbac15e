"""Models by name: those shipped in the package, those a user has put in the models folder, published ones.

Nothing here opens a network connection: a published model is found only once its folder lies on the disk
(`jinyi models download`, or copied there). What is known of the published models stands in
`published_models.json`; facts that its sources do not settle are said to be so in the model's `note`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinyi.errors import FolderError, InputError, ModelNotFoundError, shorten
from jinyi.folder.jsonfile import optional_json
from jinyi.folder.model import RECORD

DEFAULTS = {"embed": "jinyi-tiny-embed", "pair": "jinyi-tiny-pair", "topic": "jinyi-tiny-topic"}
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_DATA: Final = Path(__file__).with_name("published_models.json")


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model by its name.

    Args:
        name: `jinyi-tiny-embed`, or `owner/name` of a published one: its name on Hugging Face.
        task: what it was made for: "embed", "pair", "topic", "mlm" or "encoder".
        layers: transformer layers.
        width: hidden size.
        parameters: in millions, as far as known; None if not.
        pooling: how its sentence vectors are made; None where its authors state none.
        licence: SPDX identifier as its card states it; None: the card states none.
        architecture: "bert" (post-layer-norm), "megatron-bert" (pre-layer-norm), "roformer" (rotary positions) or
            "albert" (shared layers, factorised embeddings).
        note: one or two sentences worth knowing before using it.
        shipped: whether it lies in the package.
        path: its folder on this disk; None if it is not here.
        labels: names of the classifier's outputs, in their order.
        prompts: topic templates with {} for the label word, by data set.
        segment_ids: "pair" or "zeros": segments of the two texts of a pair as the model was trained; None: not known.
        base: the model it was made from.
        modelscope: its name on ModelScope, where one was found.
        tensorflow: address of its authors' TensorFlow checkpoint.
        aliases: other names in use.
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
    labels: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    segment_ids: str | None = None
    base: str | None = None
    modelscope: str | None = None
    tensorflow: str | None = None
    aliases: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what a folder of this model may lack, as entries of `jinyi.json`; see `read_folder(facts=)`."""
        entries = {
            "pooling": self.pooling,
            "labels": list(self.labels),
            "prompts": dict(self.prompts),
            "segment_ids": self.segment_ids,
        }
        return {key: value for key, value in entries.items() if value}


@cache
def published_models() -> tuple[ModelEntry, ...]:
    """Return the published models the registry knows; `path` is None in all of them."""
    rows = json.loads(_DATA.read_text(encoding="utf-8"))
    return tuple(
        ModelEntry(
            name=name,
            **{**row, "labels": tuple(row.get("labels", ())), "aliases": tuple(row.get("aliases", ()))},
        )
        for name, row in rows.items()
    )


def find_entry(name: str) -> ModelEntry | None:
    """Return the published model of that name, or None.

    Args:
        name: the full name, the part after the slash, an alias or the name on ModelScope; the case of letters does not
            matter. A name that fits several models finds none.
    """
    folded = name.casefold()
    for entry in published_models():
        if folded in (known.casefold() for known in (entry.name, entry.modelscope) if known):
            return entry
    found = [
        entry
        for entry in published_models()
        if folded in (known.casefold() for known in (entry.name.split("/")[1], *entry.aliases))
    ]
    return found[0] if len(found) == 1 else None


def facts_of(name: str) -> dict[str, Any]:
    """Return what the registry knows of the model of that name, for `read_folder(facts=)`; empty for other names."""
    entry = find_entry(name)
    return entry.facts() if entry else {}


class Located(NamedTuple):
    """A model folder that was found.

    Attributes:
        path: the folder, absolute.
        name: the name it was found by; None where it was given by its path.
        facts: what the registry knows of a model of that name, for `read_folder(facts=)`; a path says nothing.
    """

    path: Path
    name: str | None
    facts: dict[str, Any]


def locate(name: str | os.PathLike[str]) -> Located:
    """Find a model folder on this disk, with what the registry knows of it; arguments and errors as `find_model`."""
    found, given = find_model(name), os.fspath(name)
    # Absolute: the working directory may be another one when weights or a pickle are read.
    path = Path(os.path.abspath(found))
    if found == Path(os.path.expanduser(given)):
        return Located(path, None, {})
    return Located(path, given, facts_of(given))


def models_home() -> Path:
    """Return the folder in which models are looked up by name: `$JINYI_HOME/models`, else `~/.jinyi/models`."""
    home = os.environ.get("JINYI_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".jinyi") / "models"


def shipped_models() -> tuple[ModelEntry, ...]:
    """Return the models that lie in the package, by name."""
    root = Path(str(resources.files("jinyi").joinpath("pretrained")))
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return tuple(_entry(folder, shipped=True) for folder in folders if (folder / "config.json").is_file())


def _entry(folder: Path, *, name: str | None = None, shipped: bool = False) -> ModelEntry:
    try:
        record, config = optional_json(folder / RECORD), optional_json(folder / "config.json")
    except FolderError as error:  # one damaged folder does not keep the others from being listed
        record, config = {"summary": f"Damaged: {error.found}."}, {}
    summary, parameters = record.get("summary"), _number(record.get("parameters"))
    return ModelEntry(
        name=name or folder.name,
        task=str(record.get("task", "encoder")),
        layers=_number(config.get("num_hidden_layers")),
        width=_number(config.get("hidden_size")),
        parameters=round(parameters / 1e6, 1) if parameters else None,
        pooling=record.get("pooling"),
        licence=record.get("licence"),
        architecture=str(config.get("model_type", "bert")),
        note=summary if isinstance(summary, str) else "",
        shipped=shipped,
        path=folder,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def list_models() -> tuple[ModelEntry, ...]:
    """Return the shipped models, the published ones and others in `models_home()`; `path` tells which are here."""
    home = models_home()
    published = [
        replace(entry, path=home / entry.name) if (home / entry.name).is_dir() else entry
        for entry in published_models()
    ]
    known = {entry.name for entry in published}
    others = {}
    for pattern in ("[!.]*/config.json", "[!.]*/[!.]*/config.json"):
        for file in sorted(home.glob(pattern)):
            folder = file.parent
            if not (folder.parent / "config.json").is_file():  # 1_Pooling has a config.json too
                others[folder.relative_to(home).as_posix()] = folder
    extra = [_entry(folder, name=name) for name, folder in others.items() if name not in known]
    return (*shipped_models(), *published, *extra)


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
    entry = find_entry(text)
    for place in (text, entry.name if entry else None):
        if (
            place
            and not Path(place).is_absolute()
            and ".." not in Path(place).parts
            and os.path.isdir(home / place)
        ):
            return home / place
    raise _not_found(text, path, entry, [*shipped])


def _not_found(text: str, path: Path, entry: ModelEntry | None, shipped: list[str]) -> ModelNotFoundError:
    if os.path.isfile(path):
        found, fix = f"a file, {text}", "Give the folder it lies in."
    elif entry is not None:
        found = f"no folder of the published model {entry.name}"
        fix = (
            f"Fetch it with `jinyi models download {entry.name}` (nothing is downloaded by itself), or put its files "
            f"into {models_home() / entry.name}, or give the path of a folder that holds them."
        )
    else:
        names = [*shipped, *(known.name for known in published_models())]
        folded = {known.lower(): known for known in names} | {
            known.split("/")[-1].lower(): known for known in names
        }
        close = difflib.get_close_matches(text.lower(), folded, n=3, cutoff=0.6)
        found = f"no model and no folder {shorten(text, 80)}"
        fix = "`jinyi models list` shows all names; a path needs the folder with config.json and the weights."
        if _REPOSITORY.fullmatch(text):
            fix += f" If it is a model on Hugging Face, `jinyi models download {text}` fetches it."
        if close:
            fix = f"Did you mean {', '.join(dict.fromkeys(folded[key] for key in close))}? {fix}"
    here = ", ".join(shipped) or "none in this installation"
    return ModelNotFoundError(
        where=shorten(text, 80),
        found=found,
        expected=f"a folder or the name of a shipped model ({here})",
        fix=fix,
    )
