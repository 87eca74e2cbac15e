"""Published models from Hugging Face, a mirror of it, or ModelScope: `download`.

The one place of jinyi that fetches models; it does so only when `download` or `jinyi models download` is called. Needs
`pip install "jinyi[hub]"`; for ModelScope also `pip install modelscope`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jinyi.convert.hub import modelscope
from jinyi.convert.hub.huggingface import HuggingFace
from jinyi.convert.hub.snapshot import (
    TRAINED,
    Say,
    files_in,
    is_pickled,
    missing_package,
    needed,
    new_record,
    put_in_place,
)
from jinyi.errors import InputError, shorten
from jinyi.folder.atomic import StagedFolder, read_manifest
from jinyi.folder.jsonfile import optional_json
from jinyi.folder.model import RECORD
from jinyi.registry import ModelEntry, find_entry, find_model, models_home, shipped_models

SOURCES: Final = ("huggingface", "modelscope")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_ADDRESS: Final = re.compile(r"https?://[\w.-]+(:\d+)?(/[^\s?#\[\]]*)?", re.ASCII)


def download(
    name: str,
    *,
    source: str = "huggingface",
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    offline: bool = False,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    say: Say | None = None,
) -> Path:
    """Fetch a published model and put it where its name finds it; a model that is there is kept as it is.

    Only what jinyi reads is fetched: safetensors where there are any, else PyTorch's .bin, which is then converted (no
    pickle is executed). Size and checksum of every file are compared with the hub's. A stopped download goes on where
    it was, also in a later call. The model folder is whole or not there.

    Args:
        name: a name of the registry, or `owner/name` of any repository.
        source: "huggingface" (or a mirror of it) or "modelscope".
        revision: branch, tag or commit; None is the newest.
        endpoint: address of a mirror; None takes the environment variable HF_ENDPOINT, else huggingface.co.
        token: for models that need one. None takes the one of `hf auth login` or HF_TOKEN for huggingface.co, and none
            for a mirror.
        offline: open no connection: take the model from Hugging Face's cache on this disk (HF_HUB_CACHE).
        output: folder to make; None is `models_home()/owner/name`.
        overwrite: replace a model folder that is there.
        say: called with a line for people now and then.

    Returns:
        The model folder.

    Raises:
        InputError: no such repository or revision, no connection, a refusal by the server, a wrong checksum, files that
            are no model, no room on the disk.
        FolderError: the files are no model that jinyi runs, or the disk refuses a write.
        ModelNotFoundError: `name` is none.
        MissingExtraError: the package for this source is not installed.
    """
    say = say or (lambda line: None)
    entry, full, repository = _resolve(name, source)
    _check_options(source, endpoint, token, offline)
    target = Path(output).expanduser() if output is not None else models_home() / full
    if not overwrite and (target / "config.json").is_file():
        known = {full, repository, entry.modelscope if entry else None}
        _check_present(target, revision, known if output is not None else None)
        say(f"{full} is there already: {target}")
        return target
    StagedFolder(target, overwrite=overwrite).check_target()  # now, and not after hours of fetching
    work = models_home() / ".downloads" / f"{source}--{repository.replace('/', '--')}"
    with _alone(work):
        files = work / "files"
        files.mkdir(exist_ok=True)
        commit, sums = revision, dict[str, str]()
        if source == "modelscope":
            modelscope.fetch(repository, files, revision)
        else:
            hub = HuggingFace(repository, files, revision, endpoint, token, say)
            commit, sums = hub.take_cached() if offline else hub.fetch()
        names = needed(files_in(files))
        origin = {"hub": source, "repository": repository, "revision": commit}
        record = new_record(entry, full, {key: value for key, value in origin.items() if value})
        if is_pickled(names):
            say("converting PyTorch's weights to safetensors")
            files, names, sums = _converted(work, entry, full)
        path = put_in_place(files, names, sums, target, record, overwrite=overwrite)
        shutil.rmtree(work, ignore_errors=True)
    return path


def _resolve(name: str, source: str) -> tuple[ModelEntry | None, str, str]:
    """Return the registry's entry, the model's full name, and the repository's name at the source."""
    if source not in SOURCES:
        raise InputError(
            where="source",
            found=shorten(source),
            expected=f"one of {', '.join(SOURCES)}",
            fix="Choose one of them.",
        )
    if any(name == shipped.name for shipped in shipped_models()):
        raise InputError(
            where=name,
            found="a model that lies in the package",
            expected="a published model",
            fix="It needs no download: load it by its name.",
        )
    entry = find_entry(name)
    if entry is None:
        if not _NAME.fullmatch(name):
            find_model(name)  # raises with the names that are close
            raise InputError(
                where=shorten(name, 80),
                found="a folder",
                expected="a name",
                fix="Load it by its path.",
            )
        return None, name, name
    if source == "huggingface":
        return entry, entry.name, entry.name
    if entry.modelscope is None:
        raise InputError(
            where=entry.name,
            found="no name on ModelScope in the registry",
            expected="a repository of ModelScope",
            fix="If it is there under another owner, give that name: "
            "jinyi models download OWNER/NAME --source modelscope.",
        )
    return entry, entry.name, entry.modelscope


def _check_options(source: str, endpoint: str | None, token: str | None, offline: bool) -> None:
    if source == "modelscope":
        for option, given, fix in (
            ("endpoint", endpoint, "Set the environment variable MODELSCOPE_DOMAIN."),
            ("token", token, "Log in with `modelscope login --token ...`."),
            ("offline", offline, "Leave it out: ModelScope's own cache is used."),
        ):
            if given:
                raise InputError(
                    where=option, found="it with ModelScope", expected='source="huggingface"', fix=fix
                )
    if endpoint is not None and not _ADDRESS.fullmatch(endpoint):
        raise InputError(
            where="endpoint",
            found=shorten(endpoint),
            expected="https://...",
            fix="Give the address of a mirror, for example https://hf-mirror.com.",
        )


def _check_present(target: Path, revision: str | None, names: set[str | None] | None) -> None:
    """Check that a folder that is there is the model that was asked for.

    Args:
        target: the folder.
        revision: the one asked for, if any.
        names: of the repositories that hold the model, for a folder that the user named; None for the model's own
            place, where it may also have been put by hand.
    """
    source = optional_json(target / RECORD).get("source")
    had = source if isinstance(source, dict) else {}
    origin, state = had.get("repository") or "unknown origin", had.get("revision") or "unknown"
    other = names is not None and origin not in names
    if other or (revision is not None and revision != state):
        raise InputError(
            where=str(target),
            found=f"a model folder there already, of {origin if other else f'revision {state}'}",
            expected="a free path, or this model" if other else f"revision {revision}",
            fix="Add overwrite=True (--overwrite) to replace it, or give another folder as output (--output).",
        )


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the folder of a download against a second process."""
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise missing_package("huggingface-hub", 'pip install "jinyi[hub]"') from error
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work.parent / f"{work.name}.lock", timeout=0)
        with lock:
            yield
    except Timeout as error:
        raise InputError(
            where=str(work),
            found="another download of the same model, which is running",
            expected="one at a time",
            fix="Wait for it.",
        ) from error


def _converted(
    work: Path, entry: ModelEntry | None, full: str
) -> tuple[Path, tuple[str, ...], dict[str, str]]:
    """Convert fetched .bin weights; return the new folder, its files and their checksums."""
    from jinyi.convert.conversion import convert

    folder = work / "converted"
    task = entry.task if entry is not None and entry.task in TRAINED else None
    convert(
        work / "files",
        folder,
        task=task,
        facts=entry.facts() if entry is not None else {},
        name=full,
        licence=entry.licence if entry is not None else None,
        overwrite=True,
    )
    return folder, tuple(files_in(folder)), read_manifest(folder)
