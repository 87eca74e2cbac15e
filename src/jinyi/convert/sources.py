"""What a SOURCE is, and a folder made of it that `jinyi.folder.read_folder` opens.

A folder with safetensors is opened where it lies. Anything else is first laid out as such a folder in a scratch
place, tensors under the names they have there and in the types they have there; so every later step, and every quirk
of names and configurations, is the business of the one reader of folders.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jinyi.convert.pickles import PickledTensors
from jinyi.convert.tensorflow import is_checkpoint, open_checkpoint
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder.layout import to_json
from jinyi.folder.modules import Modules
from jinyi.folder.tensors import FLOATS, safetensors_chunks
from jinyi.folder.weights import indexed_files, no_weights
from jinyi.registry import find_model

SAFETENSORS, PYTORCH, TENSORFLOW = "safetensors", "PyTorch weights", "TensorFlow checkpoint"
_PICKLE, _PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_PICKLE_ENDS = (".bin", ".pt", ".pth", ".ckpt")
# What training programs leave beside the weights.
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|random_states).*")
_SMALL = (".json", ".txt", ".md")
_MODULE = re.compile(r"\d+_\w+")


@dataclass(frozen=True)
class Origin:
    """A recognised source.

    Args:
        name: last part of its name or path.
        form: `SAFETENSORS`, `PYTORCH` or `TENSORFLOW`.
        files: names of the files the weights came from; empty where they are those of the folder.
        folder: the folder to read it from: its own, or one laid out for it.
        left_out: names of what is no weight of the model (an optimiser's variables, counters), by what it is.
        renamed: for a TensorFlow checkpoint the variables that each tensor of the folder came from.
        notes: corrections made, one sentence each.
        by_name: whether it was found by its name, and not given by a path.
    """

    name: str
    form: str
    files: tuple[str, ...]
    folder: Path
    left_out: Mapping[str, tuple[str, ...]]
    renamed: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    by_name: bool = False


def open_source(
    source: str | os.PathLike[str],
    scratch: Callable[[], Path],
    *,
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
) -> Origin:
    """Find out what a source is and make it readable.

    Args:
        source: a model folder, a file of weights with config.json and vocabulary beside it, a TensorFlow checkpoint
            (prefix, one of its files, folder or zip), or a name that `jinyi models list` shows.
        scratch: gives an empty folder with room for the weights; called if one is needed.
        config: config.json (or bert_config.json) to take in place of the one that lies there.
        vocab: vocab.txt or tokenizer.json to take in place of those that lie there.

    Raises:
        ModelNotFoundError: nothing there.
        FolderError: it is damaged, incomplete, or of a kind that is not read.
        InputError: no file at `config` or `vocab`.
    """
    for option, given in (("config", config), ("vocab", vocab)):
        if given is not None and not Path(os.path.expanduser(given)).is_file():
            raise InputError(
                where=f"--{option}", found=shorten(str(given)), expected="a file", fix="Check its name."
            )
    settings = Path(os.path.expanduser(config)) if config is not None else None
    words = Path(os.path.expanduser(vocab)) if vocab is not None else None
    path = Path(os.path.expanduser(source))
    if not os.fspath(source):  # an empty text is no name for the current folder
        find_model(source)  # raises
    if path.is_file() and not is_checkpoint(path):
        return _file(path, scratch, settings, words)
    if not path.is_dir():
        if is_checkpoint(path):
            return _checkpoint(path, scratch, settings, words)
        return replace(_folder(find_model(source), scratch, settings, words), by_name=True)
    return _folder(path, scratch, settings, words)


def _folder(root: Path, scratch: Callable[[], Path], config: Path | None, vocab: Path | None) -> Origin:
    modules = Modules(root)
    home = modules.transformer
    safe = sorted(home.glob("*.safetensors"))
    pickles = [] if safe else _pickles(home)
    if not safe and not pickles:
        if is_checkpoint(root):
            return _checkpoint(root, scratch, config, vocab)
        raise no_weights(home)
    lacking = [folder for folder in modules.dense if not (folder / "model.safetensors").is_file()]
    name = Path(os.path.abspath(root)).name
    form = SAFETENSORS if safe else PYTORCH
    named = tuple(file.name for file in pickles)
    if safe and not lacking and config is None and vocab is None:
        return Origin(name, form, named, root, {}, {})
    target = scratch()
    subfolders = (
        entry for entry in sorted(root.iterdir()) if entry.is_dir() and _MODULE.fullmatch(entry.name)
    )
    for folder in dict.fromkeys((root, home, *subfolders)):
        _copy_small(folder, target / folder.relative_to(root))
    staged = target / home.relative_to(root)
    left_out: tuple[str, ...] = ()
    if safe:
        for file in safe:
            _take(file, staged / file.name)
    else:
        left_out = _write_weights(PickledTensors(pickles), staged / "model.safetensors")
    for folder in modules.dense:
        place = target / folder.relative_to(root) / "model.safetensors"
        if folder not in lacking:
            _take(folder / "model.safetensors", place)
        elif (folder / _PICKLE).is_file():
            _write_weights(PickledTensors([folder / _PICKLE]), place)
        else:
            raise no_weights(folder)
    _settle(staged, home, config, vocab)
    return Origin(name, form, named, target, _whole_numbers(left_out), {})


def _file(path: Path, scratch: Callable[[], Path], config: Path | None, vocab: Path | None) -> Origin:
    target = scratch()
    _copy_small(path.parent, target)
    left_out: tuple[str, ...] = ()
    if path.suffix == ".safetensors":
        form = SAFETENSORS
        _take(path, target / "model.safetensors")
    else:
        form = PYTORCH
        left_out = _write_weights(PickledTensors([path]), target / "model.safetensors")
    _settle(target, path.parent, config, vocab)
    return Origin(path.name, form, (path.name,), target, _whole_numbers(left_out), {})


def _checkpoint(path: Path, scratch: Callable[[], Path], config: Path | None, vocab: Path | None) -> Origin:
    checkpoint = open_checkpoint(path, config=config, vocab=vocab)
    target = scratch()
    _write_weights(checkpoint.tensors, target / "model.safetensors")
    (target / "config.json").write_text(to_json(checkpoint.config), encoding="utf-8")
    with open(target / "vocab.txt", "w", encoding="utf-8", newline="") as stream:
        stream.writelines(f"{word}\n" for word in checkpoint.vocab)
    left_out = {"optimiser": checkpoint.optimizer, "heads that no task uses": checkpoint.dropped}
    return Origin(
        Path(os.path.abspath(path)).name,
        TENSORFLOW,
        (Path(checkpoint.where).name,),
        target,
        {what: names for what, names in left_out.items() if names},
        checkpoint.renamed,
        checkpoint.notes,
    )


def _pickles(home: Path) -> list[Path]:
    """The PyTorch files that hold the weights of a folder; [] without any."""
    if (home / _PICKLE).is_file():
        return [home / _PICKLE]
    if (home / _PICKLE_INDEX).is_file():
        return indexed_files(home / _PICKLE_INDEX)
    files = [
        file
        for file in sorted(home.iterdir())
        if file.suffix in _PICKLE_ENDS and file.is_file() and not _NO_WEIGHTS.fullmatch(file.name)
    ]
    if len(files) > 1:
        raise FolderError(
            where=str(home),
            found=f"{len(files)} files that may hold the weights: {shorten([file.name for file in files], 120)}",
            expected=f"{_PICKLE}, or its parts with {_PICKLE_INDEX}",
            fix="Give the right file itself as the source.",
        )
    return files


def _copy_small(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.suffix in _SMALL and not file.name.endswith(".index.json") and file.is_file():
            shutil.copyfile(file, target / file.name)


def _take(file: Path, target: Path) -> None:
    # Resolved: the hub's cache holds symbolic links, and a hard link to one leads nowhere from another place.
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)
    index = file.parent / "model.safetensors.index.json"
    if index.is_file():
        shutil.copyfile(index, target.parent / index.name)


def _settle(staged: Path, home: Path, config: Path | None, vocab: Path | None) -> None:
    """Put configuration and vocabulary in place: those given, or those that lie beside the weights."""
    if config is not None:
        shutil.copyfile(config, staged / "config.json")
    elif not (staged / "config.json").is_file():
        others = sorted(staged.glob("*bert_config*.json"))  # as the first PyTorch versions of BERT had it
        if len(others) != 1:
            raise FolderError(
                where=str(home),
                found="no config.json",
                expected="the configuration beside the weights",
                fix="Copy it there from where the weights come from, or give it with config= (--config FILE).",
            )
        others[0].rename(staged / "config.json")
    if vocab is not None:
        for name in ("tokenizer.json", "vocab.txt"):
            (staged / name).unlink(missing_ok=True)
        shutil.copyfile(vocab, staged / ("tokenizer.json" if vocab.suffix == ".json" else "vocab.txt"))


def _write_weights(tensors: Mapping[str, np.ndarray], file: Path) -> tuple[str, ...]:
    """Write float tensors in the types they have; return the names of the others (counters, positions)."""

    def kind(name: str) -> str:
        if isinstance(tensors, PickledTensors):
            return tensors.dtype(name)
        return "F16" if tensors[name].dtype == np.float16 else "F32"

    types = {
        name: FLOATS[stored] for name, stored in ((name, kind(name)) for name in tensors) if stored in FLOATS
    }
    with open(file, "xb") as stream:
        for piece in safetensors_chunks(tensors, types):
            stream.write(piece)
    return tuple(name for name in tensors if name not in types)


def _whole_numbers(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {"whole numbers": names} if names else {}
