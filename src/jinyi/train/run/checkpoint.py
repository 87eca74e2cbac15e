"""Checkpoints: the state of a run on disk, whole or not there.

checkpoints/step-00000400/ holds `network.safetensors` (weights by their names), `optimizer.safetensors` (moments, as
`exp_avg/NAME`), `state.json` (step, recipe, best score so far) and `MANIFEST.sha256` (a hash of each). No pickle.
The folder is written beside its place, every file and directory entry synced, and then renamed. The files do not depend
on how many processes wrote them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from jinyi.errors import FolderError
from jinyi.folder.atomic import StagedFolder, read_manifest
from jinyi.folder.layout import to_json
from jinyi.folder.tensors import TensorMap, read_header, safetensors_chunks
from jinyi.hashes import file_sha256
from jinyi.train.network import whole

Arrays = Mapping[str, npt.NDArray[np.float32]]
NETWORK, OPTIMIZER, STATE = "network.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_FIX = "Begin the run again in another folder, or copy a whole checkpoint back."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: its folder.
        step: optimiser steps done.
        network, optimizer: arrays by name, read from the disk when asked for.
        state: content of `state.json`.
    """

    path: Path
    step: int
    network: Arrays
    optimizer: Arrays
    state: dict[str, Any]


def save(
    folder: Path, step: int, network: Arrays, optimizer: Arrays, state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write a checkpoint and remove old ones.

    Args:
        folder: where checkpoints lie, one folder each.
        step: optimiser steps done.
        network, optimizer: arrays from `collect`.
        state: what else has to be kept; JSON.
        keep: how many of the newest stay, this one included.

    Returns:
        The folder of the checkpoint.

    Raises:
        FolderError: the disk refuses a write (full, failing); the checkpoints before are untouched.
    """
    target = folder / f"step-{step:08d}"
    if target.exists():  # the one this run was resumed from
        return target
    with StagedFolder(target) as stage:
        stage.put(NETWORK, safetensors_chunks(network))
        stage.put(OPTIMIZER, safetensors_chunks(optimizer))
        stage.put(STATE, to_json({"step": step, **state}))
    for old in listed(folder)[keep:]:
        _remove(old)
    return target


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there is none at all.

    A damaged one is passed over with a warning.

    Args:
        folder: where checkpoints lie.

    Raises:
        FolderError: there are checkpoints, and all are damaged.
    """
    found = listed(folder)
    for path in found:
        try:
            return read(path)
        except (FolderError, OSError) as error:
            warnings.warn(f"damaged checkpoint passed over: {error}", stacklevel=2)
    if found:
        raise FolderError(
            where=str(folder),
            found=f"{len(found)} checkpoints, all damaged",
            expected="a whole one",
            fix=_FIX,
        )
    return None


def tidy(folder: Path, step: int) -> None:
    """Clear what a killed writer left; checkpoints beyond `step`, which must be damaged, get another name.

    Args:
        folder: where checkpoints lie; only one run may use it.
        step: step of the newest whole checkpoint; 0 for none.
    """
    for leftover in [*folder.glob(".step-*.tmp"), *folder.glob(".step-*.old"), *folder.glob("*.damaged")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for path in listed(folder):
        if _step(path) > step:
            path.rename(path.with_name(f"{path.name}.damaged"))


def collect(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Arrays, Arrays]:
    """Weights and optimiser state as arrays by name, on the CPU; with FSDP every process has to call it.

    Costs a copy of both in memory: 12 bytes a weight.
    """
    weights = {name: _array(weight) for name, weight in network.named_parameters()}
    moments = {
        f"{key}/{name}": _array(value)
        for name, weight in network.named_parameters()
        for key, value in optimizer.state.get(weight, {}).items()
    }
    return weights, moments


def restore(network: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights and moments into a network and its optimiser, bit for bit.

    Raises:
        FolderError: the checkpoint is of another network.
    """
    weights = dict(network.named_parameters())
    wrong = sorted(weights.keys() ^ checkpoint.network.keys())
    wrong += [
        name
        for name, weight in weights.items()
        if not wrong and tuple(weight.shape) != checkpoint.network[name].shape
    ]
    if wrong:
        raise FolderError(
            where=str(checkpoint.path),
            found=f"other weights than this run trains: {', '.join(wrong[:3])}",
            expected="the same names and shapes",
            fix="Resume with the recipe, data and version of jinyi the run was begun with.",
        )
    moments: dict[str, dict[str, npt.NDArray[np.float32]]] = {name: {} for name in weights}
    for entry, array in checkpoint.optimizer.items():
        key, _, name = entry.partition("/")
        moments[name][key] = array
    fused = optimizer.param_groups[0].get("fused")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(_like(checkpoint.network[name], weight))
            if moments[name]:
                optimizer.state[weight] = {
                    # AdamW's own count of steps is one number: on the device for its fused kernels, else on the CPU.
                    key: torch.tensor(array, device=weight.device if fused else "cpu")
                    if key == "step"
                    else _like(array, weight)
                    for key, array in moments[name].items()
                }


def _array(value: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = whole(value).cpu().numpy()
    return array


def _like(array: npt.NDArray[np.float32], weight: Tensor) -> Tensor:
    """The array as a tensor of the weight's kind: on its device, cut like it under FSDP."""
    tensor = torch.from_numpy(np.array(array)).to(weight.device)
    if not isinstance(weight, DTensor):
        return tensor
    return distribute_tensor(tensor, weight.device_mesh, weight.placements)


def read(path: Path) -> Checkpoint:
    """Read one checkpoint and check its hashes.

    Raises:
        FolderError: a file is missing or is not what the manifest says.
    """
    sums = read_manifest(path)
    for name in (NETWORK, OPTIMIZER, STATE):
        digest = file_sha256(path / name) if (path / name).is_file() else "no file"
        if sums.get(name) != digest:
            raise FolderError(
                where=str(path / name),
                found=digest,
                expected=f"the content with hash {sums.get(name, 'of the missing manifest')}",
                fix="The checkpoint before it is taken.",
            )
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    arrays = [TensorMap(read_header(path / name)) for name in (NETWORK, OPTIMIZER)]
    return Checkpoint(path, int(state["step"]), arrays[0], arrays[1], state)


def listed(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first, whole or damaged."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def _remove(path: Path) -> None:
    """Rename first, so that no half-removed folder looks like a checkpoint."""
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(path, aside)
    except OSError as error:
        warnings.warn(f"an old checkpoint stays: {error}", stacklevel=3)
    shutil.rmtree(aside, ignore_errors=True)
