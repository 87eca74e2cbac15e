"""Saving and reading back what a topic classifier knows: label words, prompt, and what `fit` learnt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError
from jinyi.folder import RECORD, ModelFolder, StagedFolder, TensorMap, read_folder
from jinyi.folder.layout import to_json
from jinyi.folder.tensors import read_header
from jinyi.models.heads import LinearHead, ReferenceHead
from jinyi.models.joint_head import JointHead

TopicHead = JointHead | LinearHead | ReferenceHead
_HEADS: dict[str, type[JointHead] | type[LinearHead] | type[ReferenceHead]] = {
    "joint": JointHead,
    "linear": LinearHead,
    "reference": ReferenceHead,
}
_FITTED_FILE = "topic.safetensors"


def write_topic(
    path: str | os.PathLike[str],
    folder: ModelFolder,
    state: Mapping[str, Any],
    head: TopicHead | None,
    *,
    calibration: Mapping[str, Any] | None = None,
    overwrite: bool,
) -> Path:
    """Write a copy of a folder with `state` in its record and the head's arrays in a file of their own.

    Returns:
        The absolute path of the folder.

    Raises:
        FolderError: the folder exists or cannot be written.
    """
    topic = dict(state)
    if head is not None:
        kind = next(name for name, known in _HEADS.items() if isinstance(head, known))
        topic["fitted"] = {**state["fitted"], "head": kind}
    record = {"format": 1, "task": folder.task, **folder.record, "topic": topic, "calibration": calibration}
    with StagedFolder(path, overwrite=overwrite) as stage:
        stage.take_over(folder.path, without=(RECORD, _FITTED_FILE))
        if head is not None:
            from safetensors.numpy import save

            stage.put(_FITTED_FILE, save({key: np.ascontiguousarray(v) for key, v in head.arrays().items()}))
        stage.put(RECORD, to_json(record))
        read_folder(stage.path)
    return stage.target


def read_head(folder: ModelFolder, fitted: Mapping[str, Any]) -> TopicHead:
    """Open the head that `write_topic` wrote.

    Raises:
        FolderError: its file is missing or damaged.
    """
    file = folder.path / _FITTED_FILE
    if not file.is_file():
        raise FolderError(
            found=f"no {_FITTED_FILE}",
            expected="what fit learnt, as jinyi.json says",
            fix="Copy the whole folder again.",
            where=str(file.parent),
        )
    tensors = TensorMap(read_header(file))
    arrays: dict[str, npt.NDArray[Any]] = {name: np.asarray(tensors[name]) for name in tensors}
    # Folders of version 0.1.0 name the method, which had one head each.
    kind = _HEADS[str(fitted.get("head", fitted["method"]))]
    return kind.from_arrays(arrays, {**fitted, "classes": len(fitted["classes"])})
