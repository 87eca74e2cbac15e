"""What became of each stored tensor: kept, renamed, dropped or added."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from jinyi.folder import ModelFolder
from jinyi.folder.modules import POOLER
from jinyi.folder.names import MLM_BIAS, WORDS
from jinyi.folder.tensors import FLOATS, TensorInfo, TensorMap, read_header

# Weights that many files hold a second time, by the end of their name.
_TWINS = {
    "predictions.decoder.weight": WORDS,
    "predictions.decoder.bias": MLM_BIAS,
    "predictions.bias": MLM_BIAS,
}


@dataclass(frozen=True)
class Account:
    """What became of the tensors of a source.

    Args:
        dropped: stored tensors that the written model has no use for.
        dropped_parameters: the numbers in them, but for those that the file holds twice.
        renamed: the name before by the name now, where they differ.
        added: tensors that the source lacks and readers of the written folder ask for.
    """

    dropped: tuple[str, ...]
    dropped_parameters: int
    renamed: Mapping[str, str]
    added: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "dropped": list(self.dropped),
            "dropped_parameters": self.dropped_parameters,
            "renamed": dict(self.renamed),
            "added": list(self.added),
        }


def stored_types(folder: ModelFolder) -> tuple[str, ...]:
    """Return the types in which a folder stores the weights it uses: "float32", "float16", "bfloat16"."""
    found = {FLOATS[info.dtype] for info in folder.tensors.places().values() if info.dtype in FLOATS}
    return tuple(sorted(found))


@dataclass(frozen=True)
class Inventory:
    """What the files of a folder hold, noted while they are there.

    Args:
        sizes: how many numbers each stored tensor has; 0 for whole numbers and for what is stored a second time.
        names: the stored name of each canonical name.
    """

    sizes: Mapping[str, int]
    names: Mapping[str, str]


def take_inventory(folder: ModelFolder) -> Inventory:
    """Note what a folder stores; reads the matrices that may be stored twice."""
    stored: dict[str, TensorInfo] = {}
    for file in sorted({info.file for info in folder.tensors.places().values()}):
        stored.update(read_header(file))
    by_place = {(info.file, info.start, info.stop): name for name, info in stored.items()}
    places = folder.tensors.places()
    names = {key: by_place[info.file, info.start, info.stop] for key, info in places.items()}
    if folder.asked_pooling == POOLER:  # of a RoFormer it becomes a module, with a file of its own
        used = set(names.values())
        stored = {name: info for name, info in stored.items() if ".pooler." not in f".{name}" or name in used}
    values, sizes = TensorMap(stored), {}
    for name, info in stored.items():
        twin = next((names.get(key) for end, key in _TWINS.items() if name.endswith(end)), None)
        repeated = twin not in (None, name) and np.array_equal(values[name], values[str(twin)])
        sizes[name] = 0 if repeated or info.dtype not in FLOATS else prod(info.shape)
    return Inventory(sizes, names)


def compare_tensors(
    before: Inventory, after: Inventory, *, given: Collection[str], variables: Mapping[str, tuple[str, ...]]
) -> Account:
    """Compare the tensors of a source with those of the folder written of it.

    Args:
        before: of the source.
        after: of the folder written of it.
        given: canonical names of the tensors that were taken over.
        variables: for a TensorFlow checkpoint the variables that each stored name came from.
    """
    kept = sorted(key for key in after.names if key in given and key in before.names)
    dropped = tuple(sorted(set(before.sizes) - {before.names[key] for key in kept}))
    renamed = {}
    for key in kept:
        old = " + ".join(variables.get(before.names[key], (before.names[key],)))
        if old != after.names[key]:
            renamed[after.names[key]] = old
    added = tuple(sorted(name for key, name in after.names.items() if key not in given))
    return Account(dropped, sum(before.sizes[name] for name in dropped), renamed, added)
