"""Which files of a published model are needed, and how a fetched model becomes a folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from jinyi.errors import FolderError, InputError, MissingExtraError
from jinyi.folder import read_folder
from jinyi.folder.atomic import MANIFEST, StagedFolder
from jinyi.folder.jsonfile import optional_json
from jinyi.folder.model import FORMAT, RANGES, RECORD
from jinyi.hashes import file_sha256
from jinyi.registry import ModelEntry, models_home

Say = Callable[[str], None]
"""Called with a line for people."""

GOES_ON: Final = "Started again it goes on where it was."
TRAINED: Final = ("embed", "pair", "topic")
"""Tasks of the registry that say what a model is opened for."""

SMALL: Final = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"),
    *("added_tokens.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *(RECORD, "README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"),
)
"""Files beside the weights, in the folder itself or in one of a module of sentence-transformers (`1_Pooling`)."""
_MODULE: Final = re.compile(r"\d+_\w+", re.ASCII)
_PLAIN: Final = re.compile(r"[\w.+ -]+")  # no separator of any system's paths
_OURS: Final = (RANGES, "topic.safetensors")
_INDEX: Final = "model.safetensors.index.json"
_BIN_INDEX: Final = "pytorch_model.bin.index.json"
_SHARD: Final = re.compile(r"model-\d+-of-\d+\.safetensors")
_BIN_SHARD: Final = re.compile(r"pytorch_model-\d+-of-\d+\.bin")


def needed(names: Iterable[str]) -> tuple[str, ...]:
    """Choose the files that jinyi reads: safetensors where there are any, else PyTorch's .bin, never both.

    Args:
        names: all files of the repository, by path with forward slashes.

    Returns:
        The chosen ones, small ones first.

    Raises:
        InputError: no config.json, or no weights of these two kinds.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        path = PurePosixPath(name)
        if not _PLAIN.fullmatch(path.name):
            continue
        if len(path.parts) == 1 or (len(path.parts) == 2 and _MODULE.fullmatch(path.parts[0])):
            folders.setdefault("" if len(path.parts) == 1 else f"{path.parts[0]}/", []).append(path.name)
    small = [folder + name for folder, found in folders.items() for name in found if name in SMALL]
    weights = [folder + name for folder, found in folders.items() for name in _weights(found)]
    held = ", ".join(folders.get("", [])[:12]) or "no files"
    if "config.json" not in small:
        raise InputError(
            found=f"a repository without config.json ({held})",
            expected="a model as transformers or sentence-transformers saves it",
            fix="Check the name; TensorFlow checkpoints are fetched by hand and read by `jinyi convert`.",
        )
    if not any(not name.endswith(".json") for name in weights):
        raise InputError(
            found=f"a repository without weights that can be read ({held})",
            expected="*.safetensors or pytorch_model.bin",
            fix="Look for another conversion of the model; Flax and Keras files are not read.",
        )
    return (*small, *weights)


def _weights(names: list[str]) -> list[str]:
    """Choose the weights among the files of one folder."""
    ours = [name for name in names if name in _OURS]
    for whole, index, shard in (
        ("model.safetensors", _INDEX, _SHARD),
        ("pytorch_model.bin", _BIN_INDEX, _BIN_SHARD),
    ):
        if whole in names:
            return [whole, *ours]
        if index in names:
            return [index, *(name for name in names if shard.fullmatch(name)), *ours]
        if whole == "model.safetensors":
            others = [name for name in names if name.endswith(".safetensors") and name not in _OURS]
            if len(others) == 1:
                return [*others, *ours]
    return ours


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder by path with forward slashes, but for those that are not whole yet."""
    return [
        file.relative_to(folder).as_posix()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix != ".part"
    ]


def is_pickled(names: Iterable[str]) -> bool:
    """Return whether weights among the files are PyTorch's .bin, which have to be converted."""
    return any(name.endswith(".bin") for name in names)


def git_sha1(path: Path) -> str:
    """Return the id git gives a file's content, by which hubs know files that are not in large file storage."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def check_sum(path: Path, checksum: str) -> bool:
    """Return whether a file has the checksum: SHA-256 (64 digits) or git's SHA-1 (40)."""
    return (file_sha256(path) if len(checksum) == 64 else git_sha1(path)) == checksum


def new_record(entry: ModelEntry | None, name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `jinyi.json` of a folder that came without one: where it came from, and what the registry knows.

    Args:
        entry: the registry's entry; None for a model it does not know.
        name: of the model.
        source: hub, repository and revision.
    """
    record: dict[str, Any] = {"format": FORMAT, "name": name, "source": dict(source)}
    if entry is not None:
        record |= {"licence": entry.licence} if entry.licence else {}
        record |= {"task": entry.task} if entry.task in TRAINED else {}
        record |= entry.facts()
    return record


def put_in_place(
    fetched: Path,
    names: Iterable[str],
    sums: Mapping[str, str],
    target: Path,
    record: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Path:
    """Make a model folder of fetched files: checked, then there in one step, or nothing.

    Args:
        fetched: folder with the files; they are hard-linked where the file system can, else copied.
        names: which of them, by path with forward slashes.
        sums: the SHA-256 of those whose is known.
        target: the model folder.
        record: entries of `jinyi.json`, `source` among them; what the fetched one states counts more.
        overwrite: replace a model folder that is there.

    Raises:
        FolderError: the files are no model that jinyi runs, or the disk refuses.
    """
    with StagedFolder(target, overwrite=overwrite) as staged:
        for name in names:
            if name not in (RECORD, MANIFEST):
                staged.link(fetched / name, name, sums.get(name) or file_sha256(fetched / name))
        stated = {key: value for key, value in optional_json(fetched / RECORD).items() if value is not None}
        body = {**record, **stated, "source": record["source"]}
        staged.put(RECORD, json.dumps(body, ensure_ascii=False, indent=2) + "\n")
        try:
            read_folder(staged.path)
        except FolderError as error:
            raise error.moved(staged.path, target) from error
    return target


def check_room(folder: Path, size: int) -> None:
    """Refuse a download that the disk has no room for.

    Args:
        folder: one that exists on that disk.
        size: in bytes.

    Raises:
        InputError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            where=str(folder),
            found=f"{free / 1e9:.1f} GB of room",
            expected=f"{size / 1e9:.1f} GB for this model",
            fix="Free space, or set JINYI_HOME to a folder on another disk.",
        )


def missing_package(package: str, command: str) -> MissingExtraError:
    """Return the error for a client that is not installed."""
    return MissingExtraError(
        found=f"no package {package}",
        expected=f"{package}, which fetches the files",
        fix=f"{command}. Or fetch the files by hand and put them into {models_home() / 'OWNER' / 'NAME'}.",
    )
