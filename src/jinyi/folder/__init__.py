"""The model folder: recognise, read, check and write it (see docs/model-folder.md)."""

from __future__ import annotations

from jinyi.folder.atomic import MANIFEST, StagedFolder
from jinyi.folder.model import RECORD, TASKS, Dense, Golden, ModelFolder
from jinyi.folder.read import read_folder
from jinyi.folder.tensors import TensorMap
from jinyi.folder.verify import Verification, verify_folder
from jinyi.folder.write import update_record, write_folder

__all__ = [
    "MANIFEST",
    "RECORD",
    "TASKS",
    "Dense",
    "Golden",
    "ModelFolder",
    "StagedFolder",
    "TensorMap",
    "Verification",
    "read_folder",
    "update_record",
    "verify_folder",
    "write_folder",
]
