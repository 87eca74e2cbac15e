"""Foreign models, and our own in another form, written as model folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jinyi.convert.account import Account, compare_tensors, stored_types, take_inventory
from jinyi.convert.carried import carried, refuse_idle
from jinyi.convert.heads import one_label, one_logit, pick
from jinyi.convert.parity import Parity, compare, outputs
from jinyi.convert.sources import Origin, open_source
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder import ModelFolder, StagedFolder, read_folder, write_folder
from jinyi.models.golden import golden_for
from jinyi.models.source import Source
from jinyi.registry import facts_of
from jinyi.tokens import Tokenizer

DTYPES = ("float32", "float16", "bfloat16")
_ONE_ALREADY = "The model had one logit already."


@dataclass(frozen=True)
class Conversion:
    """What `convert` found and did.

    Args:
        source: the source as it was given.
        form: "safetensors", "PyTorch weights" or "TensorFlow checkpoint".
        files: names of the files the weights came from.
        path: the written folder.
        folder: the same, opened.
        stored_before: type in which the source stores its weights; several are joined by " and ".
        dtype: type they are stored in now.
        left_out: names of what was no weight of the model (an optimiser's variables, counters), by what it is.
        account: which tensors were dropped, renamed and added.
        changes: what was changed on purpose, one sentence each.
        notes: what was corrected while reading, one sentence each.
        parity: how far the written model is from its source.
    """

    source: str
    form: str
    files: tuple[str, ...]
    path: Path
    folder: ModelFolder = field(repr=False)
    stored_before: str
    dtype: str
    left_out: Mapping[str, tuple[str, ...]]
    account: Account
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    parity: Parity

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "source": self.source,
            "form": self.form,
            "files": list(self.files),
            "path": str(self.path),
            "task": self.folder.task,
            "architecture": self.folder.raw_config.get("model_type"),
            "parameters": self.folder.parameters,
            "stored_before": self.stored_before,
            "dtype": self.dtype,
            "left_out": {what: len(names) for what, names in self.left_out.items()},
            **self.account.to_dict(),
            "changes": list(self.changes),
            "notes": list(self.notes),
            "parity": self.parity.to_dict(),
        }


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    task: str | None = None,
    pooling: str | None = None,
    logits: int | None = None,
    encoder: bool = False,
    dtype: str | None = None,
    similar_label: int | str | None = None,
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    facts: Mapping[str, Any] | None = None,
    name: str | None = None,
    summary: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> Conversion:
    """Write a model as a folder that jinyi and every common reader opens, and check that it says the same.

    Args:
        source: a model folder with safetensors or PyTorch weights (one file or shards, any float type), a file of
            weights with config.json and vocabulary beside it, a TensorFlow checkpoint (prefix, one of its files,
            folder or zip), or the name of a model on this disk.
        target: folder to create.
        task: what the model is for (one of `jinyi.folder.TASKS`); None takes what the source says or holds.
        pooling: how sentence vectors are made, where the source does not state it; makes an encoder task "embed".
        logits: 1 writes a pair model with two outputs as one with a single logit that gives the same P(similar).
        encoder: write the encoder alone: pooler, classifier and language model's head are dropped.
        dtype: "float32", "float16" or "bfloat16"; None keeps the type of the source.
        similar_label: index or name of a pair model's output that means similar, where the labels do not tell.
        config: configuration file to take in place of the source's own.
        vocab: vocab.txt or tokenizer.json to take in place of the source's own.
        facts: what is known of the model from elsewhere, as for `read_folder`; None asks the registry by name.
        name: name of the model; None takes the target's.
        summary: one sentence on it; None keeps the source's.
        licence: SPDX identifier; None keeps what the source's record or card states.
        overwrite: replace a model folder that is there already.
        threads: processor threads for the check.

    Returns:
        what was found, changed, left out, and how far source and result are apart on the same sentences. The folder
        is put in place only after that comparison. Cost: the weights are read and written once (twice for anything
        but safetensors, and so much room is needed meanwhile), and a few sentences are computed with both models.

    Raises:
        ModelNotFoundError: no such source.
        FolderError: the source is damaged, incomplete or not of the family; the target exists; or the result says
            something else than its source by more than rounding to `dtype` explains. Nothing is left behind.
        InputError: an unknown task, pooling or dtype, options that do not go together, or one that this model has no
            use for.
    """
    _check_options(task, logits, encoder, dtype)
    stage = StagedFolder(target, overwrite=overwrite)
    stage.check_target()
    with ExitStack() as stack:

        def scratch() -> Path:
            home = stage.target.parent
            home.mkdir(parents=True, exist_ok=True)
            # Named like the folders of unfinished writes, which the next write removes if we are killed.
            prefix = f".{stage.target.name}."
            return Path(stack.enter_context(TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=home)))

        try:
            origin = open_source(source, scratch, config=config, vocab=vocab)
        except OSError as error:
            raise FolderError(
                where=os.fspath(source),
                found=f"a disk that refuses: {error}",
                expected=f"a source that may be read, and room for its weights beside {stage.target}",
                fix="Free space, check permissions, or choose another target. Nothing was left behind.",
            ) from error
        if facts is None:
            facts = facts_of(os.fspath(source)) if origin.by_name else {}
        try:
            folder = _read(origin, task, pooling, similar_label, encoder, facts)
        except FolderError as error:
            raise error.moved(origin.folder, os.fspath(source)) from error
        vectors = folder.task not in ("pair", "classes")
        refuse_idle(folder, pooling=pooling, similar_label=similar_label, vectors=vectors)
        weights, changes = _weights(folder, logits, encoder)
        stored = stored_types(folder)
        kind = dtype or (stored[0] if len(stored) == 1 else "float32")
        rounding = kind if changes or stored != (kind,) else "float32"
        length = folder.config.max_position_embeddings
        tokenizer = Tokenizer.from_folder(folder.tokenizer_file.parent, max_length=length)
        inventory = take_inventory(folder)  # now: the target may be the source
        before = outputs(Source(folder, tokenizer, "float32", threads))
        parity: list[Parity] = []

        def compared(path: Path) -> dict[str, Any]:
            after = outputs(Source.open(path, "", precision="float32", threads=threads))
            parity.append(compare(before, after, rounding=rounding, where=str(stage.target)))
            made_from = {"source": origin.name, "form": origin.form, "stored_as": " and ".join(stored)}
            return made_from | {"changes": list(changes), "parity": parity[0].to_dict()}

        kept = carried(folder)
        if "classifier" in changes:
            kept |= {
                "labels": (one_label(folder.labels, folder.similar),),
                "similar_label": None,
                "calibration": _calibration_of_one(folder, kept["calibration"]),
            }
        kept["summary"] = (
            summary
            or folder.record.get("summary")
            or f"Converted from {name or origin.name} ({origin.form})."
        )
        kept["licence"] = licence or kept["licence"]
        path = write_folder(
            target,
            **kept,
            weights=weights,
            tokenizer=tokenizer,
            dtype=kind,
            name=name,
            golden=golden_for(folder.task),
            conversion=compared,
            overwrite=overwrite,
        )
        written = read_folder(path)
        account = compare_tensors(
            inventory, take_inventory(written), given=weights.keys(), variables=origin.renamed
        )
    return Conversion(
        source=os.fspath(source),
        form=origin.form,
        files=origin.files or tuple(sorted({info.file.name for info in folder.tensors.places().values()})),
        path=path,
        folder=written,
        stored_before=" and ".join(stored),
        dtype=kind,
        left_out=origin.left_out,
        account=account,
        changes=tuple(changes.values()),
        notes=(
            *origin.notes,
            *folder.notes,
            *(() if "classifier" in changes or logits is None else (_ONE_ALREADY,)),
        ),
        parity=parity[0],
    )


def _check_options(task: str | None, logits: int | None, encoder: bool, dtype: str | None) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise InputError(
            where="dtype",
            found=shorten(dtype),
            expected=f"one of {', '.join(DTYPES)}",
            fix="Choose one of them, or leave it out to keep the type of the source.",
        )
    if logits not in (None, 1):
        raise InputError(
            where="logits",
            found=shorten(logits),
            expected="1",
            fix="A pair model with two logits can be written with one; leave it out to keep what there is.",
        )
    if encoder and (logits or task not in (None, "embed", "encoder")):
        raise InputError(
            where="encoder",
            found=f"logits={logits}" if logits else f"task={task!r}",
            expected="an encoder without a head: task embed or encoder",
            fix="Leave one of the two out.",
        )


def _read(
    origin: Origin,
    task: str | None,
    pooling: str | None,
    similar_label: int | str | None,
    encoder: bool,
    facts: Mapping[str, Any],
) -> ModelFolder:
    def read(task: str | None) -> ModelFolder:
        return read_folder(
            origin.folder, task=task, pooling=pooling, similar_label=similar_label, facts=facts
        )

    folder = read(task)
    if task is None and encoder:
        return read("embed" if folder.pooling else "encoder")
    if task is None and pooling and folder.task in ("mlm", "encoder"):
        return read("embed")
    return folder


def _weights(
    folder: ModelFolder, logits: int | None, encoder: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Choose what is written; also say what that changes, one sentence by the name of the part."""
    weights = pick(folder.weights(), encoder=encoder)
    changes = {}
    if logits == 1 and (row := one_logit(folder)):
        weights |= row
        changes["classifier"] = (
            f"Two logits became one: {folder.labels[folder.similar]!r} minus "
            f"{folder.labels[1 - folder.similar]!r}; its sigmoid is the softmax of the two."
        )
    return weights, changes


def _calibration_of_one(folder: ModelFolder, saved: dict[str, Any] | None) -> dict[str, Any] | None:
    """The calibration of two logits for the one that they became, whose log-odds are the same."""
    if not saved or saved.get("output", folder.similar) != folder.similar:
        return None
    return {**saved, "output": 0}
